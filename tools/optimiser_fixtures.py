"""Writes the references for the optimiser and the schedules of `san-core`: torch's AdamW step by step, with torch's
clipping and timm's averages of the parameters, and the schedules of timm and transformers.

    python tools/optimiser_fixtures.py         # rewrites crates/san-core/tests/fixtures/

- adamw.safetensors (f32): `start` [50], `gradients` [20,50], `learning_rates` [20], and the parameters after each step
  without and with weight decay: `wd0` [20,50], `wd0.05` [20,50]. Betas and eps are in the metadata.
- clipped.safetensors (f32): `start` [50], `gradients` [20,50], and after each step [20,50] of AdamW at the rates of
  adamw.safetensors, after `clip_grad_norm_`: `parameters`, and the averages `ema_v2` and `ema_v3` that timm's
  ModelEmaV2 and ModelEmaV3 keep of them. The maximum norm and the decay are in the metadata.
- schedule.json: a list of {settings of timm's CosineLRScheduler by timm's names, "learning_rates": one per step, or one per
  epoch if `t_in_epochs`}.
- linear_schedule.json, cosine_schedule.json: the same of transformers.
"""

import json
import pathlib

import torch
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV2, ModelEmaV3
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

import fixture_file

FIXTURES = pathlib.Path(__file__).parent.parent / "crates/san-core/tests/fixtures"
PARAMETERS, STEPS = 50, 20
BETAS, EPS = (0.9, 0.999), 1e-8
MAX_NORM, DECAY = 1.0, 0.9


def main():
    FIXTURES.mkdir(parents=True, exist_ok=True)
    write_adamw()
    write_clipped()
    write_schedules()


def write_adamw():
    generator = torch.Generator().manual_seed(5)
    start = torch.randn(PARAMETERS, generator=generator)
    # Magnitudes over six decades, so that eps and the bias corrections have an effect for some of them.
    sizes = 10.0 ** torch.linspace(-6, 0, PARAMETERS)
    gradients = torch.randn((STEPS, PARAMETERS), generator=generator) * sizes
    settings = dict(t_initial=STEPS, lr_min=1e-8, warmup_t=5, warmup_lr_init=1e-7, warmup_prefix=False)
    rates = torch.tensor(cosine(1e-2, STEPS, settings), dtype=torch.float32)
    tensors = {"start": start, "gradients": gradients, "learning_rates": rates}
    for decay in (0, 0.05):
        tensors[f"wd{decay}"] = adamw(start, gradients, rates, decay)
    metadata = {"beta1": str(BETAS[0]), "beta2": str(BETAS[1]), "eps": str(EPS)}
    fixture_file.write(FIXTURES / "adamw.safetensors", tensors, metadata)


def adamw(start, gradients, rates, decay):
    """Parameters after each step: [steps, parameters]."""
    parameters = start.clone().requires_grad_()
    optimiser = torch.optim.AdamW([parameters], lr=0.0, betas=BETAS, eps=EPS, weight_decay=decay, foreach=False)
    after = []
    for gradient, rate in zip(gradients, rates.tolist(), strict=True):
        optimiser.param_groups[0]["lr"] = rate
        parameters.grad = gradient.clone()
        optimiser.step()
        after.append(parameters.detach().clone())
    return torch.stack(after)


def write_clipped():
    generator = torch.Generator().manual_seed(6)
    start = torch.randn(PARAMETERS, generator=generator)
    # Norms of 0.07 to 70: some are clipped, others are not.
    sizes = 10.0 ** torch.linspace(-2, 1, STEPS)[:, None]
    gradients = torch.randn((STEPS, PARAMETERS), generator=generator) * sizes
    settings = dict(t_initial=STEPS, lr_min=1e-8, warmup_t=5, warmup_lr_init=1e-7, warmup_prefix=False)
    rates = torch.tensor(cosine(1e-2, STEPS, settings), dtype=torch.float32)
    tensors = {"start": start, "gradients": gradients, "learning_rates": rates}
    tensors |= clipped(start, gradients, rates)
    metadata = {"max_norm": str(MAX_NORM), "decay": str(DECAY)}
    fixture_file.write(FIXTURES / "clipped.safetensors", tensors, metadata)


def clipped(start, gradients, rates):
    """The parameters and their averages after each step: each [steps, parameters]."""
    model = torch.nn.Module()
    # Two tensors: the norm is that of both together.
    model.matrix = torch.nn.Parameter(start[:40].clone())
    model.rest = torch.nn.Parameter(start[40:].clone())
    averages = {"ema_v2": ModelEmaV2(model, decay=DECAY), "ema_v3": ModelEmaV3(model, decay=DECAY)}
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.0, betas=BETAS, eps=EPS, weight_decay=0.05)
    after = {"parameters": []} | {name: [] for name in averages}
    flat = lambda module: torch.cat([module.matrix, module.rest]).detach().clone()
    for gradient, rate in zip(gradients, rates.tolist(), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = rate
        model.matrix.grad, model.rest.grad = gradient[:40].clone(), gradient[40:].clone()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimiser.step()
        after["parameters"].append(flat(model))
        for name, average in averages.items():
            average.update(model)
            after[name].append(flat(average.module))
    return {name: torch.stack(rows) for name, rows in after.items()}


def write_schedules():
    schedules = []
    for prefix, t_initial in ((False, 100), (True, 90)):
        settings = dict(t_initial=t_initial, lr_min=1e-8, warmup_t=10, warmup_lr_init=1e-7, warmup_prefix=prefix)
        schedules.append({"lr": 1e-3} | settings | {"learning_rates": cosine(1e-3, 100, settings)})
    # Per epoch, with ten epochs of cooldown, as timm's training script; and the numbers of ViT_PEFT_Vision.
    for lr_min, warmup_lr_init in ((1e-8, 1e-7), (1e-5, 1e-6)):
        for prefix, t_initial in ((False, 30), (True, 25)):
            settings = dict(
                t_initial=t_initial, lr_min=lr_min, warmup_t=5, warmup_lr_init=warmup_lr_init, warmup_prefix=prefix
            )
            rates = {"t_in_epochs": True, "learning_rates": cosine_of_epochs(5e-3, 40, settings)}
            schedules.append({"lr": 5e-3} | settings | rates)
    (FIXTURES / "schedule.json").write_text(json.dumps(schedules, indent=1) + "\n")
    (FIXTURES / "linear_schedule.json").write_text(json.dumps(linear(2e-4, warmup=10, steps=60)) + "\n")
    of_cosine = transformers_schedule(get_cosine_schedule_with_warmup, 2e-4, warmup=3, steps=60)
    (FIXTURES / "cosine_schedule.json").write_text(json.dumps(of_cosine) + "\n")


def cosine(rate, steps, settings):
    """The learning rate that timm uses in each of the updates 0 .. steps - 1."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = CosineLRScheduler(optimiser, t_in_epochs=False, **settings)
    rates = []
    for update in range(steps):
        scheduler.step_update(update)
        rates.append(optimiser.param_groups[0]["lr"])
    return rates


def cosine_of_epochs(rate, epochs, settings):
    """The learning rate that timm's training script uses in each of the epochs 0 .. epochs - 1."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = CosineLRScheduler(optimiser, t_in_epochs=True, **settings)
    rates = []
    for epoch in range(epochs):
        rates.append(optimiser.param_groups[0]["lr"])
        scheduler.step(epoch + 1)
    return rates


def linear(rate, warmup, steps):
    return transformers_schedule(get_linear_schedule_with_warmup, rate, warmup, steps)


def transformers_schedule(schedule, rate, warmup, steps):
    """The learning rate that a schedule of transformers uses in each of the updates 0 .. steps."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = schedule(optimiser, warmup, steps)
    rates = []
    for _ in range(steps + 1):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return {"lr": rate, "warmup": warmup, "steps": steps, "learning_rates": rates}


if __name__ == "__main__":
    main()
