"""Small random Swin and ConvNeXt networks by timm, under the names that timm gives to their arguments."""

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
    """Four stages, as timm's network has them."""
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
