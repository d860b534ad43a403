"""Trains the paper's largest models for some steps by `san run`: peak memory beside the plan's estimate, and speed.

    python tools/paper_scale.py [--device cuda] [--steps 50] [--only llama-7b ...] [--small]

Each model has its true shape and random weights, so that nothing needs to be downloaded: LLaMA-7B with LoRA, DoRA, SAN and
full fine-tuning (bf16, 16 rows of 256 tokens), LLaVA-1.5-7B with LoRA and SAN on images of 336 pixels (16 conversations of
2,048 tokens, activation checkpointing), and ViT-B, Swin-B and ConvNeXt-B with SAN (64 images of 224 pixels). `--small`
takes models of a few layers instead, to try the script on a CPU. Prints a row of a Markdown table for each run as it ends,
and exits with 1 if one fails. Needs a built `san` (`cargo build --workspace --all-targets`) and Python 3 alone.
"""

import argparse
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/debug/san"
TOKENIZER = ROOT / "assets/llama_micro.tokenizer.json"
LORA = "rank: 32, alpha: 64, dropout: 0.05, targets: [q, k, v, up, down]"
PEFT = [
    f"{{method: lora, learning_rate: 3.0e-4, options: {{{LORA}}}}}",
    f"{{method: dora, learning_rate: 1.0e-4, options: {{{LORA}}}}}",
    "{method: san, learning_rate: 3.0e-3, options: {wiring: full}}",
]
# As in the profile `paper` of experiments/commonsense.yaml.
FFT = """{method: fft, learning_rate: 1.0e-5, protocol: {adamw: {state: bf16},
        instruction_following: {language: {memory: {gradient_checkpointing: true}}}}}"""
LLAMA_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
CLIP_L_336 = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
SMALL_LLAMA = LLAMA_7B | {
    "hidden_size": 128,
    "intermediate_size": 344,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 4096,
}
SMALL_CLIP = CLIP_L_336 | {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 56,
}


def experiment(methods, model, task, batch):
    """An experiment with one seed and one epoch, on data given on the command line or a synthetic set."""
    lines = "".join(f"\n      - {method}" for method in methods)
    return f"""name: paper_scale
suite: own
profiles:
  own:
    data: {{synthetic: {{train: 8, val: 4, test: 4}}}}
    sets: [boolq]
    backbones: ["{model}@random"]
    methods:{lines}
    seeds: [0]
    unequal_budgets: true
    protocol:
      epochs: 1
      batch_size: {batch}
      precision: bf16
      gradient_clipping: 1.0
{task}"""


def instruction_following(length):
    return f"""      instruction_following:
        examples: {{max_length: {length}, train_on_inputs: true, keep_answer: false}}
        warmup_steps: 10
        language: {{batching: shuffled, decoding: greedy, max_new_tokens: 4, evaluation: {{sequences: 16}}}}
"""


def visual_question_answering(length, size):
    return f"""      visual_question_answering:
        picture: {{image_size: {size}, square: pad, filter: bicubic, normalisation: clip}}
        template: v1
        max_length: {length}
        warmup_ratio: 0.03
        language:
          batching: shuffled
          decoding: greedy
          max_new_tokens: 4
          evaluation: {{sequences: 4}}
          memory: {{gradient_checkpointing: true}}
"""


def words(count, seed):
    """Text of at least `count` tokens of any tokenizer."""
    generator = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    return " ".join("".join(generator.choices(letters, k=5)) for _ in range(count))


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_rows(folder, count, length):
    """Rows of text that are longer than `length` tokens."""
    row = lambda seed: {"instruction": words(length, seed), "output": "the answer is true", "answer": "true"}
    # Trained on with those of val.
    write_lines(folder / "train.jsonl", map(row, range(count - 4)))
    for part in ("val", "test"):
        write_lines(folder / f"{part}.jsonl", ({"instruction": "Is it?", "answer": "true"} for _ in range(4)))


def write_png(path, size, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = random.Random(seed)
    rows = b"".join(b"\0" + generator.randbytes(3 * size) for _ in range(size))
    chunk = lambda kind, data: (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(png)


def write_conversations(folder, count, length, size):
    """Conversations about images that are longer than `length` tokens, and questions to evaluate on."""
    images = [f"{index}.png" for index in range(16)]
    for index, name in enumerate(images):
        write_png(folder / "images" / name, size, index)

    def row(seed, question, answer):
        turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
        return {"id": str(seed), "image": images[seed % 16], "conversations": turns}

    write_lines(folder / "train.jsonl", (row(seed, "What is it?", words(length, seed)) for seed in range(count - 4)))
    for part in ("val", "test"):
        write_lines(folder / f"{part}.jsonl", (row(seed, "Is it red?", "yes") for seed in range(4)))


class Case:
    """Methods on one model."""

    def __init__(self, name, methods, batch, data, task, model=None, folder=None):
        self.name, self.methods, self.batch = name, methods, batch
        self.data, self.task, self.model, self.folder = data, task, model, folder

    def prepare(self, folder, steps):
        """Writes model, data and experiment; returns the arguments of `san plan` and `san run`."""
        model = self.model
        if model is None:
            model = str(folder / self.name)
            pathlib.Path(model).mkdir()
            (folder / self.name / "config.json").write_text(json.dumps(self.folder))
            (folder / self.name / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
        path = folder / f"{self.name}.yaml"
        path.write_text(experiment(self.methods, model, self.task, self.batch))
        self.data(folder / "data", steps * self.batch)
        return [str(path), "--set", str(folder / "data")]


def language(name, config, batch, length):
    data = lambda folder, count: write_rows(folder, count, length)
    return Case(name, [*PEFT, FFT], batch, data, instruction_following(length), folder=config)


def vision_language(name, language, tower, batch, length):
    config = {
        "model_type": "llava",
        "image_token_index": language["vocab_size"] - 64,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "projector_hidden_act": "gelu",
        "text_config": language,
        "vision_config": tower,
    }
    size = tower["image_size"]
    data = lambda folder, count: write_conversations(folder, count, length, size)
    return Case(name, [PEFT[0], PEFT[2]], batch, data, visual_question_answering(length, size), folder=config)


def vision(model, batch):
    def data(folder, count):
        for index in range(count + 4):
            part = "test" if index < 4 else "val" if index < 8 else "train"
            write_png(folder / part / str(index % 2) / f"{index}.png", 224, index)

    task = "      classification: {warmup_epochs: 0}\n"
    return Case(model, [PEFT[2]], batch, data, task, model=model)


PAPER = [
    language("llama-7b", LLAMA_7B, 16, 256),
    vision_language("llava-1.5-7b", LLAMA_7B | {"vocab_size": 32064}, CLIP_L_336, 16, 2048),
    vision("vit_base_patch16_224.augreg_in21k", 64),
    vision("swin_base_patch4_window7_224.ms_in22k", 64),
    vision("convnext_base.fb_in22k", 64),
]
SMALL = [
    language("llama-7b", SMALL_LLAMA, 4, 64),
    vision_language("llava-1.5-7b", SMALL_LLAMA, SMALL_CLIP, 4, 128),
    vision("vit_micro", 4),
]


def gibibytes(count):
    return "-" if count is None else f"{count / 2**30:.2f}"


def san(command, arguments, device, folder, **options):
    environment = os.environ | {"SAN_WEIGHTS": str(folder)}
    line = [PROGRAM, command, *arguments, "--device", device, "--results", str(folder / "results")]
    return subprocess.run(line, env=environment, cwd=folder, text=True, **options)


def planned_peaks(arguments, device, folder):
    """Bytes of each row of the table, as `san plan` estimates them."""
    ended = san("plan", [*arguments, "--json"], device, folder, capture_output=True)
    if ended.returncode != 0:
        return {}
    (rows,) = json.loads(ended.stdout)["memory"].values()
    # On a CPU the measured peak is that of the process (docs/scale.md).
    peak = lambda need: need if device == "cuda" else need * 1.15 + (300 << 20)
    return {label: peak(fit["need"]) for label, fit in rows.items() if fit["need"]}


def report(case, planned, folder):
    """Prints a row for each run of the case that has a record."""
    rows = 0
    for path in sorted(folder.glob("results/runs/*/*/*/record.json")):
        record = json.loads(path.read_text())
        cost, steps = record["cost"], record["metrics"]["steps"]
        peak = cost.get("peak_memory")
        estimate = planned.get(record["method"]["label"])
        ratio = f"{estimate / peak:.2f}" if estimate and peak else "-"
        speed = steps * case.batch / cost["train_seconds"]
        cells = [case.name, record["method"]["label"], str(case.batch), str(steps)]
        cells += [gibibytes(estimate), gibibytes(peak), ratio, f"{speed:.1f}"]
        print("| " + " | ".join(cells) + " |", flush=True)
        rows += 1
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--only", nargs="+", metavar="MODEL")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    cases = [case for case in (SMALL if options.small else PAPER) if not options.only or case.name in options.only]
    print("| model | method | batch | steps | planned peak, GiB | measured peak, GiB | ratio | examples/s |")
    print("|---|---|---:|---:|---:|---:|---:|---:|", flush=True)
    failed = []
    for case in cases:
        with tempfile.TemporaryDirectory() as name:
            folder, start = pathlib.Path(name), time.monotonic()
            arguments = case.prepare(folder, options.steps)
            planned = planned_peaks(arguments, options.device, folder)
            ended = san("run", [*arguments, "--workers", "1"], options.device, folder, capture_output=True)
            rows = report(case, planned, folder)
            if ended.returncode != 0 or rows != len(case.methods):
                failed.append(case.name)
                print(ended.stdout[-4000:], ended.stderr[-4000:], file=sys.stderr, flush=True)
            print(f"{case.name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
