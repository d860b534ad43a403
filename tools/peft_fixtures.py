"""Writes the references for LoRA, DoRA, IA3 and VeRA of the crate `backbones`: adapters saved by peft, and the outputs
of the adapted network of san_base.safetensors.

    PYTHONHASHSEED=0 python tools/peft_fixtures.py    # rewrites crates/backbones/tests/fixtures/peft/*

For each case a folder written by `save_pretrained`, and next to it `<case>.safetensors`: `logits` [2,5] of the input in
san_base.safetensors, and `grad.<our name>`: the gradient of (logits * probe).sum() for the adapter's tensors.
The cases patterns* have several ranks and alphas, and own_head was trained without `modules_to_save`.
pissa.safetensors holds `<site>`: the initial update s B A of peft's PiSSA, `init_lora_weights="pissa"`.
"""

import json
import pathlib
import shutil

import peft
import safetensors
import safetensors.torch
import torch

import fixture_file
import reference_vit as vit

FIXTURES = pathlib.Path(__file__).parent.parent / "crates/backbones/tests/fixtures"
OUR_NAMES = {
    "lora_A.default.weight": "lora_a",
    "lora_B.default.weight": "lora_b",
    "lora_magnitude_vector.default.weight": "magnitude",
    "ia3_l.default": "ia3",
    "vera_lambda_d.default": "lambda_d",
    "vera_lambda_b.default": "lambda_b",
}
EVERY = ["qkv", "attn.proj", "fc1", "fc2"]


def cases():
    lora = lambda **changes: peft.LoraConfig(**(dict(r=3, lora_alpha=6, target_modules=EVERY) | changes))
    # Whole names, ends of names and expressions; the first key that matches counts, in the order of the saved file.
    patterns = dict(
        rank_pattern={"attn.proj": 2, r"blocks\.[02]\.mlp\.fc1": 5, "^blocks.1.attn.qkv": 1},
        alpha_pattern={r".*\.0\.mlp\.fc2": 1, "^blocks.0.attn.qkv": 12, "fc1": 2, "mlp.fc2": 9},
    )
    return {
        "lora": lora(),
        "rslora": lora(use_rslora=True),
        "dora": lora(use_dora=True, target_modules=["qkv", "fc2"]),
        "patterns": lora(**patterns),
        "patterns_rslora": lora(use_rslora=True, **patterns),
        "patterns_dora": lora(use_dora=True, **patterns),
        "own_head": lora(target_modules=["qkv"]),
        "ia3": peft.IA3Config(target_modules=["qkv", "fc2"], feedforward_modules=["fc2"]),
        "vera": peft.VeraConfig(r=4, target_modules=["qkv", "fc1"], projection_prng_key=3),
    }


def base():
    """The network of san_base.safetensors, its input and its probe."""
    path = FIXTURES / "san_base.safetensors"
    with safetensors.safe_open(path, "pt") as file:
        settings = json.loads(file.metadata()["config"])
    tensors = safetensors.torch.load_file(path)
    model = vit.timm_model(settings)
    model.load_state_dict({k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")})
    return model, tensors["input"], tensors["probe"]


def main():
    torch.set_num_threads(1)
    for name, config in cases().items():
        write(name, config)
    write_pissa()


def write(name, config):
    torch.manual_seed(11)  # peft initialises from the global generator
    generator = torch.Generator().manual_seed(11)
    model, images, probe = base()
    config.modules_to_save = None if name == "own_head" else ["head"]
    adapted = peft.get_peft_model(model, config).eval()
    leaves = {}
    for key, parameter in adapted.named_parameters():
        ending = next((ending for ending in OUR_NAMES if key.endswith(ending)), None)
        if ending is None:
            continue
        with torch.no_grad():
            spread = 0.3 if parameter.ndim == 2 and "ia3" not in key else 0.2
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)
        site = key.removeprefix("base_model.model.").removesuffix("." + ending)
        leaves[f"{site}.{OUR_NAMES[ending]}"] = parameter
    logits = adapted(images)
    found = torch.autograd.grad((logits * probe).sum(), list(leaves.values()))
    tensors = {"logits": logits}
    for key, gradient in zip(leaves, found, strict=True):
        tensors[f"grad.{key}"] = gradient.flatten() if key.endswith("ia3") else gradient
    folder = FIXTURES / "peft" / name
    shutil.rmtree(folder, ignore_errors=True)
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    fixture_file.write(FIXTURES / "peft" / f"{name}.safetensors", tensors, {"peft": peft.__version__})


def write_pissa():
    model, _, _ = base()
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=["qkv", "fc1"], init_lora_weights="pissa")
    adapted = peft.get_peft_model(model, config)
    updates = {}
    for name, module in adapted.named_modules():
        if hasattr(module, "lora_A"):
            site = name.removeprefix("base_model.model.")
            updates[site] = module.get_delta_weight("default").detach().contiguous()
    fixture_file.write(FIXTURES / "peft" / "pissa.safetensors", updates, {"peft": peft.__version__})


if __name__ == "__main__":
    main()
