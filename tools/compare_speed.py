"""Training steps side by side: this project's against timm, transformers, peft and the layer of SAN's authors.

    python tools/compare_speed.py MODEL [--batch 64] [--length 256] [--precision bf16] [--steps 20] [--groups 1 4]
        [--device cuda] [--threads 1] [--compile] [--example PATH]

MODEL is an image classifier by timm's name without its tag (vit_tiny_patch16_224), or llama-135m, llama-1b, llama-7b:
the shapes of SmolLM2-135M, LLaMA-3.2-1B and LLaMA-7B. Weights are random. A step is a forward pass, a backward pass and
AdamW, on the same batch each time. Operations are those of libtorch in a step, without views: most start a kernel on a GPU,
which bounds the steps of small models there. bf16 is autocast for the peers' images, and bf16 weights under autocast for their
language models. Prints a table in Markdown: images or tokens per second of all runs together, and the ratio to the peer.
Needs tools/requirements.txt and `cargo build --workspace --all-targets`, which builds the example `step_speed`.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import time

import torch
from torch import nn

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLE = ROOT / "target/debug/examples/step_speed"
WARM_UP = 3
ALL = ["qkv", "proj", "up", "down"]
VISION_LORA = json.dumps({"rank": 8, "alpha": 16, "targets": ALL})
LANGUAGE_LORA = json.dumps({"rank": 32, "alpha": 64, "targets": ["q", "k", "v", "up", "down"]})
# glibc's allocator as the workers of `san run` set it; it has no effect on a GPU.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
}


class Scale(nn.Module):
    """A vector that scales features: "neuron tuning" of the authors' code."""

    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.scale


class ScaledLinear(nn.Module):
    """A projection whose columns are scaled by the anterior vector, in a copy of W, as in the authors' code."""

    def __init__(self, linear, anterior=None):
        super().__init__()
        self.register_buffer("weight", linear.weight.detach())
        self.register_buffer("bias", linear.bias.detach())
        self.anterior = [anterior]
        self.post = Scale(self.weight.shape[0])

    def forward(self, x):
        weight = self.weight.clone()
        if self.anterior[0] is not None:
            weight = weight * self.anterior[0].scale
        return self.post(nn.functional.linear(x, weight, self.bias))


def authors_san(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "head" in name or "norm" in name
    model.patch_embed.norm = first = Scale(model.embed_dim)
    for block in model.blocks:
        block.attn.qkv = ScaledLinear(block.attn.qkv, first)
        block.attn.proj = ScaledLinear(block.attn.proj)
        block.mlp.fc1 = ScaledLinear(block.mlp.fc1, block.attn.proj.post)
        block.mlp.fc2 = ScaledLinear(block.mlp.fc2, block.mlp.fc1.post)
    return model


def vision_peer(name, kind):
    import peft
    import timm

    model = timm.create_model(name, num_classes=10)
    if kind in ("lora", "dora"):
        config = peft.LoraConfig(
            r=8,
            lora_alpha=16,
            use_dora=kind == "dora",
            target_modules=r".*blocks.*(qkv|proj|fc1|fc2)",
            modules_to_save=["head"],
        )
        return peft.get_peft_model(model, config)
    return authors_san(model) if kind == "san" else model


def language_peer(name, kind, dtype):
    import peft
    from transformers import LlamaConfig, LlamaForCausalLM

    small = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
    medium = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32}
    config = {
        "llama-135m": LlamaConfig(**small, num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True),
        "llama-1b": LlamaConfig(**medium, num_key_value_heads=8, vocab_size=128256, tie_word_embeddings=True),
        "llama-7b": LlamaConfig(vocab_size=32000),
    }[name]
    torch.set_default_dtype(dtype)
    model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    if kind == "fft":
        return model
    targets = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]
    settings = peft.LoraConfig(r=32, lora_alpha=64, use_dora=kind == "dora", target_modules=targets)
    return peft.get_peft_model(model, settings)


def peer(arguments, kind):
    """Samples per second, peak memory (MiB) and operations of a peer's step; None where there is no peer."""
    device, half = torch.device(arguments.device), arguments.precision == "bf16"
    if arguments.model.startswith("llama"):
        if kind == "san":
            return None
        model = language_peer(arguments.model, kind, torch.bfloat16 if half else torch.float32).to(device)
        tokens = torch.randint(0, 1000, (arguments.batch, arguments.length), device=device)
        samples = arguments.batch * arguments.length

        def loss():
            return model(input_ids=tokens, labels=tokens, use_cache=False).loss
    else:
        model = vision_peer(arguments.model, kind).to(device)
        called = torch.compile(model) if arguments.compile else model
        size = 224
        images = torch.randn(arguments.batch, 3, size, size, device=device)
        labels = torch.zeros(arguments.batch, dtype=torch.long, device=device)
        samples = arguments.batch

        def loss():
            return nn.functional.cross_entropy(called(images).float(), labels)

    model.train()
    optimiser = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-4)

    def backward():
        optimiser.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            value = loss()
        value.backward()
        return value

    def step():
        value = backward()
        optimiser.step()
        return value.item()

    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in range(WARM_UP):
        step()
    wait()
    start = time.perf_counter()
    for _ in range(arguments.steps):
        step()
    wait()
    speed = arguments.steps * samples / (time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() >> 20 if device.type == "cuda" else None
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    # Without AdamW, which is a loop over tensors on a processor and fused on a GPU.
    return speed, peak, operations(backward)


def operations(step):
    """How many operations a step calls, counted as by torch_ops::operations_of."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    header = (ROOT / "crates/torch-ops/src/cpp/operations.h").read_text()
    free = set(re.findall(r'^    "(\w+)",$', header, re.MULTILINE))

    def counted(event):
        """How many of an operation and those that it calls are counted: it is itself if it only makes views."""
        called = sum(counted(child) for child in event.cpu_children)
        is_operation = event.name.startswith("aten::") and event.name.removeprefix("aten::") not in free
        return called or int(is_operation)

    return sum(counted(event) for event in profile.events() if event.cpu_parent is None)


def ours(arguments, methods):
    """The example's results for these methods."""
    name = arguments.model
    if not name.startswith("llama"):
        name = f"{name}.augreg_in21k"
    command = [arguments.example, name, arguments.batch, arguments.length, arguments.precision]
    command += [arguments.steps, arguments.device, arguments.threads, *methods]
    output = subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True, env={**ALLOCATOR, **os.environ}
    )
    return [json.loads(line) for line in output.stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--precision", choices=["f32", "tf32", "bf16"], default="bf16")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--groups", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--example", type=pathlib.Path, default=EXAMPLE)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = arguments.precision == "tf32"
    language = arguments.model.startswith("llama")
    lora = LANGUAGE_LORA if language else VISION_LORA
    kinds = {"lora": f"lora:{lora}", "dora": f"dora:{lora}", "san": "san"}
    kinds = kinds if language else {"fft": "fft", **kinds}
    unit = "tokens/s" if language else "images/s"
    print(f"{arguments.model}, batch {arguments.batch}, {arguments.precision}, {arguments.device}\n")
    print(
        f"| method | runs | here, {unit} | ms | peer, {unit} | ratio | peak MiB here | peak MiB peer "
        "| operations here | operations peer |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for kind, method in kinds.items():
        reference = peer(arguments, kind)
        theirs, peak, called = reference or (None, None, None)
        for row in ours(arguments, [f"{method}@{runs}" for runs in arguments.groups]):
            speed = row["per_second"]
            ratio = f"{speed / theirs:.2f}" if theirs else "-"
            peer_speed = f"{theirs:.1f}" if theirs else "-"
            print(
                f"| {kind} | {row['runs']} | {speed:.1f} | {row['milliseconds']:.1f} | {peer_speed} | {ratio} "
                f"| {row['peak_mib'] or '-'} | {peak or '-'} | {row['operations']} | {called or '-'} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
