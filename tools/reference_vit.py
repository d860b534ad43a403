"""The reference side of the parity tests: a small timm ViT with random weights, and the same network in plain
functions, so that a tuning method can be written by its formula at each site.

`parity_fixtures.py` turns both into committed files. Nothing here shares code with the Rust crates: timm is
the reference for the network, and `forward` is checked against timm before any method is built on it.
"""

import functools

import torch
import torch.nn.functional as F
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer


def config(**changes):
    """A small ViT, configured by timm's argument names."""
    small = dict(
        architecture="vit",
        img_size=32,
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=3,
        mlp_ratio=4.0,
        class_token=True,
        global_pool="token",
        init_values=None,
        qkv_bias=True,
        num_classes=5,
        norm_eps=1e-6,
    )
    return small | changes


def timm_model(settings, **changes):
    """timm's network for `settings`; keys that timm does not take as arguments are left out."""
    arguments = {k: v for k, v in settings.items() if k not in ("architecture", "norm_eps", "input_size")}
    norm = functools.partial(torch.nn.LayerNorm, eps=settings["norm_eps"])
    if arguments.pop("mlp_layer", "mlp") == "swiglu_packed":
        arguments |= dict(mlp_layer=SwiGLUPacked, act_layer=torch.nn.SiLU)
    return VisionTransformer(norm_layer=norm, **(arguments | changes)).eval()


def randomise(model, generator):
    """Initialises every parameter randomly, so that none is 0 or 1 and each affects the output."""
    for name, parameter in model.named_parameters():
        is_scale = name.endswith("gamma") or (parameter.ndim == 1 and name.endswith("weight"))
        with torch.no_grad():
            if is_scale:
                parameter.copy_(uniform(parameter.shape, generator))
            elif parameter.ndim >= 2 and name.endswith("weight"):
                spread = parameter[0].numel() ** -0.5
                parameter.normal_(0.0, spread, generator=generator)
            else:
                parameter.normal_(0.0, 0.3, generator=generator)
    return model


def uniform(shape, generator):
    """A scale around 1: uniform in [0.5, 1.5)."""
    return torch.rand(shape, generator=generator) + 0.5


def sites(settings):
    """The sites of the network in the order of the forward pass."""
    parts = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    return ["patch_embed.proj"] + [f"blocks.{n}.{part}" for n in range(settings["depth"]) for part in parts]


def norms(settings):
    """The norms of a class-token ViT."""
    return [f"blocks.{n}.{part}" for n in range(settings["depth"]) for part in ("norm1", "norm2")] + ["norm"]


def plain_site(weights, name, x):
    """y = W x + b; the patch embedding's kernel is flattened, its patches being rows already."""
    return F.linear(x, weights[f"{name}.weight"].flatten(1), weights[f"{name}.bias"])


def plain_norm(weights, name, x, eps=1e-6):
    """LayerNorm over the last dimension."""
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


def forward(weights, settings, images, site, norm):
    """Logits [batch, classes] of a class-token ViT whose sites and norms are the given functions of (name, x)."""
    patch, heads = settings["patch_size"], settings["num_heads"]
    patches = F.unfold(images, patch, stride=patch).transpose(1, 2)
    x = site("patch_embed.proj", patches)
    x = torch.cat([weights["cls_token"].expand(len(x), -1, -1), x], dim=1) + weights["pos_embed"]
    for n in range(settings["depth"]):
        block = f"blocks.{n}"
        qkv = site(f"{block}.attn.qkv", norm(f"{block}.norm1", x))
        x = x + site(f"{block}.attn.proj", attention(qkv, heads))
        hidden = F.gelu(site(f"{block}.mlp.fc1", norm(f"{block}.norm2", x)))
        x = x + site(f"{block}.mlp.fc2", hidden)
    return F.linear(norm("norm", x)[:, 0], weights["head.weight"], weights["head.bias"])


def attention(qkv, heads):
    """Softmax attention, written out, on fused rows [batch, tokens, 3 * dim]."""
    batch, tokens, width = qkv.shape
    q, k, v = qkv.view(batch, tokens, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4)
    scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, width // 3)
