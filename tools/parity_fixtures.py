"""Writes the reference files for the crate `backbones`: logits and gradients of small random networks by timm and by
the plain formulas of reference_methods.py.

    python tools/parity_fixtures.py            # rewrites crates/backbones/tests/fixtures/*

Every file is safetensors, f32, with the network's settings as JSON under the metadata key `config`.

- vit_*, swin_*, convnext_*.safetensors: `weights.<timm key>`, `input` [2,3,S,S], `probe` [2,5],
  `logits` [2,5], `features` [2,dim] (before the head), `grad.<timm key>`: the gradient of (logits * probe).sum() for
  every parameter.
- san_base.safetensors: `weights.*`, `input`, `probe`, `logits` (timm's) of the network shared by all methods below.
- san_<mode>_<wiring>.safetensors (metadata also `mode`, `wiring`): `trained.<site>.gamma`, `logits`,
  `grad.<site>.gamma`, `grad.<norm>.{weight,bias}`, `grad.head.{weight,bias}`. A gamma without effect has gradient 0.
- san_<extra>.safetensors: the same with the option `ltd_ltp`, `shift` or `detach`, wiring authors_resize.
- san_on_<swin or convnext>.safetensors: `trained.<site>.gamma`, and `<mode>_<wiring>.{logits,grad.<site>.gamma}`.
- <timm name>.json: names and shapes of the published checkpoint, without head.
- swin_old_names.safetensors: a checkpoint of a Swin as timm saved it before its reductions moved to the next stage
  (timm 0.6), and swin_old_names_expected.safetensors: `input` and `logits`, with `config`.
- weight_decay.json: for each of four timm names, whether timm decays each parameter.
- methods.safetensors (metadata also `lora` = {"rank","alpha"}): for method in lora, ssf: `<method>.trained.*`,
  `<method>.logits`, `<method>.grad.*` (trained tensors and head).
"""

import json
import pathlib
import re

import safetensors.torch
import timm
import torch
from timm.models import swin_transformer
from timm.models.vision_transformer import checkpoint_filter_fn
from timm.optim import param_groups_weight_decay

import fixture_file
import reference_hierarchical as hierarchical
import reference_methods as methods
import reference_vit as vit

FIXTURES = pathlib.Path(__file__).parent.parent / "crates/backbones/tests/fixtures"
BATCH = 2


def main():
    FIXTURES.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    write_vit("vit_class_token", vit.config(), seed=1)
    average_pool = vit.config(embed_dim=32, num_heads=2, class_token=False, global_pool="avg", init_values=0.1)
    write_vit("vit_average_pool_layer_scale", average_pool, seed=2)
    write_vit("vit_other_image_size", vit.config(num_heads=4, input_size=48), seed=3)
    write_methods(vit.config(depth=3), seed=4)
    registers = dict(reg_tokens=2, no_embed_class=True, init_values=0.5, mlp_layer="swiglu_packed", mlp_ratio=4.0)
    write_vit("vit_registers_swiglu", vit.config(**registers), seed=5)
    write_hierarchical("swin_shifted", hierarchical.swin(img_size=32, window_size=4), seed=6)
    write_hierarchical("swin_padded", hierarchical.swin(img_size=48, window_size=5, qkv_bias=False), seed=7)
    write_old_swin(hierarchical.swin(img_size=64, depths=[1, 2, 1], num_heads=[2, 4, 8], embed_dim=8), seed=10)
    write_hierarchical("convnext_small_stem", hierarchical.convnext(patch_size=2), seed=8)
    write_hierarchical("convnext_no_layer_scale", hierarchical.convnext(ls_init_value=None, kernel_sizes=5), seed=9)
    for name in (
        "vit_base_patch16_224.augreg_in21k",
        "vit_giant_patch14_reg4_dinov2.lvd142m",
        "swin_base_patch4_window7_224.ms_in22k",
        "convnext_base.fb_in22k",
    ):
        write_published_layout(name)
    write_weight_decay()


def write_vit(name, settings, seed):
    generator = torch.Generator().manual_seed(seed)
    size = settings.get("input_size", settings["img_size"])
    # `dynamic_img_size` resamples the position embedding in the forward pass, so that its gradient is available too.
    model = vit.randomise(vit.timm_model(settings, dynamic_img_size=size != settings["img_size"]), generator)
    tensors = inputs(settings, size, generator)
    tensors["features"] = model.forward_head(model.forward_features(tensors["input"]), pre_logits=True)
    tensors["logits"] = model(tensors["input"])
    check_against_resampled_load(model, settings, size, tensors)
    tensors |= {f"weights.{k}": v for k, v in model.state_dict().items()}
    tensors |= gradients(tensors, dict(model.named_parameters()))
    save(name, tensors, {"config": settings})


def write_hierarchical(name, settings, seed):
    """A Swin or a ConvNeXt."""
    generator = torch.Generator().manual_seed(seed)
    model = vit.randomise(hierarchical.timm_model(settings), generator)
    tensors = inputs(settings, settings["img_size"], generator)
    tensors["features"] = model.forward_head(model.forward_features(tensors["input"]), pre_logits=True)
    tensors["logits"] = model(tensors["input"])
    tensors |= {f"weights.{k}": v for k, v in model.state_dict().items()}
    tensors |= gradients(tensors, dict(model.named_parameters()))
    save(name, tensors, {"config": settings})
    write_hierarchical_san(name, model, settings, tensors, generator)


def write_old_swin(settings, seed):
    generator = torch.Generator().manual_seed(seed)
    model = vit.randomise(hierarchical.timm_model(settings), generator)
    state, old = model.state_dict(), {}
    for key, value in state.items():
        moved = lambda match: f"layers.{int(match[1]) - 1}.downsample."
        old[re.sub(r"layers\.(\d+)\.downsample\.", moved, key).replace("head.fc.", "head.")] = value
    for key, module in model.named_modules():
        if hasattr(module, "relative_position_index"):
            old[f"{key}.relative_position_index"] = module.relative_position_index
        if getattr(module, "attn_mask", None) is not None:
            old[f"{key}.attn_mask"] = module.attn_mask
    assert any("attn_mask" in key for key in old) and "layers.0.downsample.norm.weight" in old
    converted = swin_transformer.checkpoint_filter_fn(old, model)
    assert converted.keys() == state.keys() and all(converted[key] is state[key] for key in state)
    safetensors.torch.save_file(old, FIXTURES / "swin_old_names.safetensors")
    images = torch.randn((BATCH, 3, settings["img_size"], settings["img_size"]), generator=generator)
    save("swin_old_names_expected", {"input": images, "logits": model(images)}, {"config": settings})


def write_hierarchical_san(name, model, settings, tensors, generator):
    """`<mode>_<wiring>.{logits,grad.*}` and `trained.*` of SAN on a Swin or a ConvNeXt."""
    weights = {k: v.detach() for k, v in model.state_dict().items()}
    shapes = {f"{site}.gamma": weights[f"{site}.weight"].shape[:1] for site in hierarchical.sites(settings)}
    gammas = {key: vit.uniform(shape, generator) for key, shape in shapes.items()}
    found = {f"trained.{key}": gamma for key, gamma in gammas.items()}
    wirings = methods.SAN_WIRINGS if settings["architecture"] == "swin" else ("full",)
    for mode in methods.SAN_MODES:
        for wiring in wirings:
            trained = {key: gamma.clone().requires_grad_() for key, gamma in gammas.items()}
            changed = hierarchical.with_san(weights, trained, settings, mode, wiring)
            logits = torch.func.functional_call(model, changed, tensors["input"])
            outcome = {"logits": logits} | gradients({"logits": logits, "probe": tensors["probe"]}, trained)
            found |= {f"{mode}_{wiring}.{key}": value for key, value in outcome.items()}
    save(f"san_on_{name}", found, {"config": settings})


def write_published_layout(name):
    """Names and shapes of a published checkpoint without its head, as timm builds them (the largest needs 5 GB)."""
    state = timm.create_model(name, pretrained=False, num_classes=0).state_dict()
    shapes = {key: list(value.shape) for key, value in state.items()}
    (FIXTURES / f"{name}.json").write_text(json.dumps(shapes, indent=0) + "\n")


def write_weight_decay():
    """The parameters in the group that `create_optimizer_v2` decays."""
    names = ("vit_small_patch16_224.augreg_in21k", "vit_small_patch14_reg4_dinov2.lvd142m")
    decays = {}
    for name in (*names, "swin_tiny_patch4_window7_224.ms_in22k", "convnext_tiny.fb_in22k"):
        model = timm.create_model(name, pretrained=False, num_classes=5)
        excluded = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
        groups = param_groups_weight_decay(model, 0.1, excluded)
        decayed = {id(one) for group in groups if group["weight_decay"] > 0 for one in group["params"]}
        decays[name] = {key: id(parameter) in decayed for key, parameter in model.named_parameters()}
    (FIXTURES / "weight_decay.json").write_text(json.dumps(decays, indent=0) + "\n")


def check_against_resampled_load(model, settings, size, tensors):
    """Loading a checkpoint into a network of another size must agree with resampling in the forward pass."""
    resized = vit.timm_model(settings, img_size=size)
    state = {key: value.detach() for key, value in model.state_dict().items()}
    resized.load_state_dict(checkpoint_filter_fn(state, resized), strict=True)
    torch.testing.assert_close(resized(tensors["input"]), tensors["logits"])


def write_methods(settings, seed):
    generator = torch.Generator().manual_seed(seed)
    model = vit.randomise(vit.timm_model(settings), generator)
    weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
    base = inputs(settings, settings["img_size"], generator)
    check_plain_forward(model, weights, settings, base["input"])
    logits = model(base["input"])
    save("san_base", base | {"logits": logits} | {f"weights.{k}": v for k, v in weights.items()}, {"config": settings})

    gammas = methods.san_trained(weights, settings, generator)
    for mode in methods.SAN_MODES:
        for wiring in methods.SAN_WIRINGS:
            functions = lambda w, t: methods.san(w, t, mode, wiring)
            tensors = outcome(weights, settings, base, gammas, functions, vit.norms(settings))
            save(f"san_{mode}_{wiring}", tensors, {"config": settings, "mode": mode, "wiring": wiring})
    for extra in ("ltd_ltp", "shift", "detach"):
        trained = methods.san_trained(weights, settings, torch.Generator().manual_seed(seed + 1), {extra})
        functions = lambda w, t: methods.san(w, t, "both", "authors_resize", {extra})
        tensors = outcome(weights, settings, base, trained, functions, vit.norms(settings))
        save(f"san_{extra}", tensors, {"config": settings, "mode": "both", "wiring": "authors_resize"})

    both = {}
    for method, trained, functions in [
        ("lora", methods.lora_trained(weights, settings, generator), methods.lora),
        ("ssf", methods.ssf_trained(weights, settings, generator), methods.ssf),
    ]:
        tensors = outcome(weights, settings, base, trained, functions, [])
        both |= {f"{method}.{name}": tensor for name, tensor in tensors.items()}
    lora = {"rank": methods.LORA_RANK, "alpha": methods.LORA_ALPHA}
    save("methods", both, {"config": settings, "lora": lora})


def check_plain_forward(model, weights, settings, images):
    """The plain network must equal timm's network before a method is built on it."""
    site = lambda name, x: vit.plain_site(weights, name, x)
    norm = lambda name, x: vit.plain_norm(weights, name, x)
    torch.testing.assert_close(vit.forward(weights, settings, images, site, norm), model(images))


def outcome(weights, settings, base, trained, functions, trained_norms):
    """Logits and gradients of one method; the head, and the norms where the method trains them, have gradients too."""
    weights = {name: tensor.clone() for name, tensor in weights.items()}
    trained = {name: tensor.clone().requires_grad_() for name, tensor in trained.items()}
    leaves = dict(trained)
    for module in trained_norms + ["head"]:
        for kind in ("weight", "bias"):
            leaves[f"{module}.{kind}"] = weights[f"{module}.{kind}"].requires_grad_()
    logits = vit.forward(weights, settings, base["input"], *functions(weights, trained))
    tensors = {"logits": logits} | gradients({"logits": logits, "probe": base["probe"]}, leaves)
    return tensors | {f"trained.{name}": tensor for name, tensor in trained.items()}


def inputs(settings, size, generator):
    return {
        "input": torch.randn((BATCH, 3, size, size), generator=generator),
        "probe": torch.randn((BATCH, settings["num_classes"]), generator=generator),
    }


def gradients(tensors, leaves):
    loss = (tensors["logits"] * tensors["probe"]).sum()
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return {f"grad.{name}": gradient for name, gradient in zip(leaves, found, strict=True)}


def save(name, tensors, metadata):
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    fixture_file.write(FIXTURES / f"{name}.safetensors", tensors, texts)


if __name__ == "__main__":
    main()
