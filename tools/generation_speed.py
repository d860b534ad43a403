"""Speed of greedy generation compared with transformers: same machine, weights, prompts and threads.

    python tools/generation_speed.py FOLDER [--threads 2] [--batches 1 16] [--bf16]

FOLDER contains a published LLaMA in safetensors with its config.json. Reports tokens per second of the best of three
passes with 64 prompt tokens and 64 new tokens; the tokens themselves are compared too. Needs tools/requirements.txt and
a built example: `cargo build --package backbones --example generation_speed`.
"""

import argparse
import json
import pathlib
import subprocess
import time

import torch
from transformers import AutoModelForCausalLM

PROMPT, NEW, PASSES = 64, 64, 3
EXAMPLE = pathlib.Path(__file__).parent.parent / "target/debug/examples/generation_speed"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    kind = torch.bfloat16 if arguments.bf16 else torch.float32
    model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=kind).eval()
    print("| batch | transformers, tokens/s | here, tokens/s | ratio | first answer |\n|---:|---:|---:|---:|---|")
    for batch in arguments.batches:
        ours, answer = here(arguments, batch)
        theirs, reference = there(model, batch)
        same = "equal" if answer == reference else "differs"
        print(f"| {batch} | {theirs:.1f} | {ours:.1f} | {ours / theirs:.2f} | {same} |", flush=True)


def here(arguments, batch):
    command = [EXAMPLE, arguments.folder, batch, PROMPT, NEW, arguments.threads]
    command += ["bf16"] if arguments.bf16 else []
    output = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout
    speed, answer = output.split(" ", 1)
    return float(speed), json.loads(answer)


@torch.no_grad()
def there(model, batch):
    prompts = [[100 + (7 * place + 13 * row) % 400 for place in range(PROMPT)] for row in range(batch)]
    tokens = torch.tensor(prompts)
    settings = dict(max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0)
    best = float("inf")
    for _ in range(PASSES + 1):
        start = time.perf_counter()
        made = model.generate(tokens, attention_mask=torch.ones_like(tokens), **settings)
        best = min(best, time.perf_counter() - start)
    return batch * NEW / best, made[0, PROMPT:].tolist()


if __name__ == "__main__":
    main()
