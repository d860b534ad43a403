"""SAN, LoRA and SSF on the reference ViT, each by its formula at a site: W diag(p) is built, a low-rank update is
added to W, a scale and shift is applied. `parity_fixtures.py` stores their outputs.

SAN: arXiv 2409.06706 and the authors' vision code; the wiring `full` is this project's own.
LoRA: arXiv 2106.09685, equation 3, on the q and v rows of the fused qkv. SSF: arXiv 2210.08823, equation 4.
"""

import torch
import torch.nn.functional as F

from reference_vit import norms, plain_norm, plain_site, sites, uniform

SAN_MODES = ("both", "nt", "sp")
SAN_WIRINGS = ("authors", "authors_resize", "full")
LORA_RANK, LORA_ALPHA = 2, 4.0


def anterior(wiring, name, gammas):
    """p of a site: the gamma of the site before it, or None."""
    if name == "patch_embed.proj":
        return None
    _, block, _, part = name.split(".")
    before = f"blocks.{int(block) - 1}.mlp.fc2"
    if part == "fc2":
        return gammas[f"blocks.{block}.mlp.fc1"]
    if part == "fc1":
        return gammas[f"blocks.{block}.attn.proj"]
    if part == "qkv":
        return gammas[before if wiring == "full" and before in gammas else "patch_embed.proj"]
    if wiring == "authors":
        return None
    qkv = gammas[f"blocks.{block}.attn.qkv"]
    if wiring == "authors_resize":
        return F.interpolate(qkv[None, None], size=len(qkv) // 3, mode="linear", align_corners=True)[0, 0]
    return qkv.chunk(3)[2]


def san_trained(weights, settings, generator, extras=()):
    """Gammas; with extras, also a second factor of each p (`ltd_ltp`) and a shift after gamma (`shift`)."""
    trained = {f"{s}.gamma": uniform((len(weights[f"{s}.weight"]),), generator) for s in sites(settings)}
    for name in sites(settings):
        outputs, inputs = weights[f"{name}.weight"].flatten(1).shape
        if "shift" in extras:
            trained[f"{name}.shift"] = torch.randn((outputs,), generator=generator) * 0.2
        if "ltd_ltp" in extras and name != "patch_embed.proj":
            trained[f"{name}.ltd_ltp"] = uniform((inputs,), generator)
    return trained


def san(weights, trained, mode, wiring, extras=()):
    """The functions of (name, x) at a site and at a norm for SAN; the norms' own parameters are in `weights`."""
    gammas = {name.removesuffix(".gamma"): gamma for name, gamma in trained.items() if name.endswith(".gamma")}

    def site(name, x):
        weight = weights[f"{name}.weight"].flatten(1)
        p = anterior(wiring, name, gammas)
        if mode != "nt" and p is not None:
            p = p.detach() if "detach" in extras else p
            p = p * trained[f"{name}.ltd_ltp"] if "ltd_ltp" in extras else p
            weight = weight @ torch.diag(p)
        y = F.linear(x, weight, weights[f"{name}.bias"])
        y = y if mode == "sp" else gammas[name] * y
        return y + trained[f"{name}.shift"] if "shift" in extras else y

    return site, lambda name, x: plain_norm(weights, name, x)


def lora_trained(weights, settings, generator):
    dim = settings["embed_dim"]
    shapes = {"lora_a": (LORA_RANK, dim), "lora_b": (dim, LORA_RANK)}
    return {
        f"blocks.{n}.attn.qkv.{part}.{factor}": torch.randn(shape, generator=generator) * 0.3
        for n in range(settings["depth"])
        for part in ("q", "v")
        for factor, shape in shapes.items()
    }


def lora(weights, trained):
    """The functions of (name, x) at a site and at a norm for LoRA with s = alpha / rank."""

    def site(name, x):
        weight = weights[f"{name}.weight"].flatten(1)
        if name.endswith("qkv"):
            q, v = (update(trained, f"{name}.{part}") for part in "qv")
            weight = weight + torch.cat([q, torch.zeros_like(q), v])
        return F.linear(x, weight, weights[f"{name}.bias"])

    return site, lambda name, x: plain_norm(weights, name, x)


def update(trained, part):
    """s B A."""
    return (LORA_ALPHA / LORA_RANK) * trained[f"{part}.lora_b"] @ trained[f"{part}.lora_a"]


def ssf_trained(weights, settings, generator):
    trained = {}
    for name in sites(settings) + norms(settings):
        width = (len(weights[f"{name}.weight"]),)
        trained[f"{name}.ssf_scale"] = uniform(width, generator)
        trained[f"{name}.ssf_shift"] = torch.randn(width, generator=generator) * 0.2
    return trained


def ssf(weights, trained):
    """The functions of (name, x) at a site and at a norm for SSF: a scale and a shift after each."""

    def modulated(plain):
        return lambda name, x: plain(weights, name, x) * trained[f"{name}.ssf_scale"] + trained[f"{name}.ssf_shift"]

    return modulated(plain_site), modulated(plain_norm)
