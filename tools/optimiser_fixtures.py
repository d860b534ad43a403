"""Writes the references for the optimiser and the schedule of `san-core`: torch's AdamW step by step, and timm's cosine
schedule.

    python tools/optimiser_fixtures.py         # rewrites crates/san-core/tests/fixtures/{adamw,schedule}*

- adamw.safetensors (f32): `start` [50], `gradients` [20,50], `learning_rates` [20], and the parameters after each step
  without and with weight decay: `wd0` [20,50], `wd0.05` [20,50]. Betas and eps are in the metadata.
- schedule.json: a list of {settings of timm's CosineLRScheduler by timm's names, "learning_rates": one per step}.
"""

import json
import pathlib

import torch
from timm.scheduler import CosineLRScheduler
from transformers import get_linear_schedule_with_warmup

import fixture_file

FIXTURES = pathlib.Path(__file__).parent.parent / "crates/san-core/tests/fixtures"
PARAMETERS, STEPS = 50, 20
BETAS, EPS = (0.9, 0.999), 1e-8


def main():
    FIXTURES.mkdir(parents=True, exist_ok=True)
    write_adamw()
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


def write_schedules():
    schedules = []
    for prefix, t_initial in ((False, 100), (True, 90)):
        settings = dict(t_initial=t_initial, lr_min=1e-8, warmup_t=10, warmup_lr_init=1e-7, warmup_prefix=prefix)
        schedules.append({"lr": 1e-3} | settings | {"learning_rates": cosine(1e-3, 100, settings)})
    (FIXTURES / "schedule.json").write_text(json.dumps(schedules, indent=1) + "\n")
    (FIXTURES / "linear_schedule.json").write_text(json.dumps(linear(2e-4, warmup=10, steps=60)) + "\n")


def cosine(rate, steps, settings):
    """The learning rate that timm uses in each of the updates 0 .. steps - 1."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = CosineLRScheduler(optimiser, t_in_epochs=False, **settings)
    rates = []
    for update in range(steps):
        scheduler.step_update(update)
        rates.append(optimiser.param_groups[0]["lr"])
    return rates


def linear(rate, warmup, steps):
    """The learning rate that transformers' linear schedule uses in each of the updates 0 .. steps."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = get_linear_schedule_with_warmup(optimiser, warmup, steps)
    rates = []
    for _ in range(steps + 1):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return {"lr": rate, "warmup": warmup, "steps": steps, "learning_rates": rates}


if __name__ == "__main__":
    main()
