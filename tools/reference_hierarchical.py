"""Small random Swin and ConvNeXt networks by timm, configured by timm's argument names, and SAN on them.

SAN is inserted into timm's own modules: W diag(p) and gamma are built as weights and biases, by the wiring of this
project (the wiring of arXiv 2409.06706 for these networks is not public), and `torch.func.functional_call` runs timm's
network on them.
"""

import functools

import torch
from timm.models.convnext import ConvNeXt
from timm.models.swin_transformer import SwinTransformer


def swin(**changes):
    """Two stages, of which the first shifts its windows."""
    small = dict(
        architecture="swin",
        img_size=32,
        patch_size=4,
        embed_dim=16,
        depths=[2, 1],
        num_heads=[2, 4],
        window_size=4,
        mlp_ratio=2.0,
        qkv_bias=True,
        num_classes=5,
        norm_eps=1e-5,
    )
    return small | changes


def convnext(**changes):
    """Four stages, as in timm's network."""
    small = dict(
        architecture="convnext",
        img_size=64,
        patch_size=4,
        depths=[1, 2, 1, 1],
        dims=[8, 12, 16, 20],
        kernel_sizes=7,
        ls_init_value=0.5,
        num_classes=5,
        norm_eps=1e-6,
    )
    return small | changes


def timm_model(settings):
    """timm's network for `settings`."""
    arguments = {k: v for k, v in settings.items() if k not in ("architecture", "norm_eps")}
    if settings["architecture"] == "swin":
        norm = functools.partial(torch.nn.LayerNorm, eps=settings["norm_eps"])
        return SwinTransformer(norm_layer=norm, **arguments).eval()
    del arguments["img_size"]
    return ConvNeXt(norm_eps=settings["norm_eps"], **arguments).eval()


def sites(settings):
    """The sites in the order of the forward pass."""
    names = []
    if settings["architecture"] == "swin":
        names.append("patch_embed.proj")
        for stage, depth in enumerate(settings["depths"]):
            names += [f"layers.{stage}.downsample.reduction"] if stage > 0 else []
            for block in range(depth):
                parts = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
                names += [f"layers.{stage}.blocks.{block}.{part}" for part in parts]
        return names
    names.append("stem.0")
    for stage, depth in enumerate(settings["depths"]):
        names += [f"stages.{stage}.downsample.1"] if stage > 0 or settings["patch_size"] == 2 else []
        for block in range(depth):
            names += [f"stages.{stage}.blocks.{block}.{part}" for part in ("conv_dw", "mlp.fc1", "mlp.fc2")]
    return names


def anterior(settings, wiring, name, gammas):
    """p of a site, one factor for each of its input channels, or None."""
    order = sites(settings)
    before = order[order.index(name) - 1] if name != order[0] else None
    if before is None:
        return None
    if name.endswith("attn.proj"):
        if wiring == "authors":
            return None
        thirds = gammas[before]
        if wiring == "full":
            return thirds.chunk(3)[2]
        size = len(thirds) // 3
        return torch.nn.functional.interpolate(thirds[None, None], size=size, mode="linear", align_corners=True)[0, 0]
    if name.endswith("reduction"):
        return gammas[before].repeat(4)
    if name.endswith("attn.qkv") and wiring != "full":
        stage = name.split(".")[1]
        return gammas["patch_embed.proj" if stage == "0" else f"layers.{stage}.downsample.reduction"]
    return gammas[before]


def with_san(weights, trained, settings, mode, wiring):
    """The weights of the network with SAN applied."""
    gammas = {name.removesuffix(".gamma"): gamma for name, gamma in trained.items()}
    changed = dict(weights)
    for name in sites(settings):
        weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
        p, gamma = anterior(settings, wiring, name, gammas), gammas[name]
        if mode != "nt" and p is not None:
            # A depthwise kernel has one input channel: its rows are its channels.
            own = weight.ndim == 4 and weight.shape[1] == 1 and len(p) > 1
            weight = weight * p.view(-1, 1, 1, 1) if own else weight * p.view(1, -1, *[1] * (weight.ndim - 2))
        if mode != "sp":
            weight = weight * gamma.view(-1, *[1] * (weight.ndim - 1))
            bias = None if bias is None else bias * gamma
        changed[f"{name}.weight"] = weight
        if bias is not None:
            changed[f"{name}.bias"] = bias
    return changed
