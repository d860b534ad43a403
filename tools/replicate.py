"""An independent replication: the linear probe, LoRA and SAN trained by timm, peft and torch, next to `san run`.

    SAN_DATA=... SAN_WEIGHTS=... python tools/replicate.py [--sets dtd10 rsscn7] [--seeds 3] [--epochs 3] [--size 56]

Both sides train the pre-trained ViT-S/14 on the same real images and lists (train800val200, then the test split once),
with the same protocol: plain resize, no augmentation, AdamW without weight decay, one epoch of linear warm-up from a
tenth of the rate, then a cosine; rates fixed beforehand. They share no code and no random numbers: the order of the
samples and the initial values of the head and of LoRA's factors differ, so accuracies agree within the spread of seeds
and not exactly. The peers are a frozen timm model, peft's LoRA (rank 8 on queries and values), and the layer of SAN's
authors as written in compare_speed.py. Prints a table in Markdown: mean and standard deviation over seeds, and the
95 % interval of the difference by Welch's t test. Needs tools/requirements.txt and the program (--san).
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

import numpy
import peft
import scipy.stats
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import nn

from compare_speed import authors_san

ROOT = pathlib.Path(__file__).parent.parent
BACKBONE, PEER_NAME = "vit_small_patch14_imgfocus", "vit_small_patch14_dinov2"
RATES = {"linear": 5e-3, "lora": 2e-3, "san": 5e-3}
BATCH, RANK = 32, 8
MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


class SplitProjection(nn.Module):
    """A fused projection of queries, keys and values as three, so that peft can adapt them separately."""

    def __init__(self, fused):
        super().__init__()
        weights, biases = fused.weight.detach().chunk(3), fused.bias.detach().chunk(3)
        for name, weight, bias in zip("qkv", weights, biases, strict=True):
            part = nn.Linear(weight.shape[1], weight.shape[0])
            part.weight, part.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
            setattr(self, name, part)

    def forward(self, x):
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)


def images(folder, name, size):
    """Images [n, 3, size, size] and labels [n] of a list."""
    pictures, labels = [], []
    for line in (folder / f"{name}.txt").read_text().splitlines():
        path, label = line.rsplit(" ", 1)
        picture = Image.open(folder / path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
        pictures.append((torch.from_numpy(numpy.array(picture)) / 255 - MEAN) / DEVIATION)
        labels.append(int(label))
    return torch.stack(pictures).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def model(method, classes, size, weights):
    """timm's network with the published weights, a new head, and what the method trains."""
    network = timm.create_model(PEER_NAME, img_size=size, num_classes=classes)
    state = {name: tensor.float() for name, tensor in load_file(weights).items()}
    loaded = network.load_state_dict(checkpoint_filter_fn(state, network), strict=False)
    assert set(loaded.missing_keys) == {"head.weight", "head.bias"} and not loaded.unexpected_keys, loaded
    nn.init.trunc_normal_(network.head.weight, std=0.02)
    nn.init.zeros_(network.head.bias)
    if method == "san":
        return authors_san(network)
    if method == "lora":
        for block in network.blocks:
            block.attn.qkv = SplitProjection(block.attn.qkv)
        targets = ["qkv.q", "qkv.v"]
        config = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets, modules_to_save=["head"])
        return peft.get_peft_model(network, config)
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name.startswith("head.")
    return network


def train(network, pictures, labels, rate, epochs, generator):
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    steps = -(-len(labels) // BATCH)
    warm = torch.optim.lr_scheduler.LinearLR(optimiser, 0.1, 1.0, steps)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps * (epochs - 1), 1e-8)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimiser, [warm, cosine], [steps])
    network.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=generator).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(pictures[batch]), labels[batch]).backward()
            optimiser.step()
            schedule.step()


@torch.no_grad()
def accuracy(network, pictures, labels):
    network.eval()
    predicted = torch.cat([network(batch).argmax(-1) for batch in pictures.split(100)])
    return 100 * (predicted == labels).double().mean().item()


def theirs(arguments):
    """Accuracies of the peers by set and method, one for each seed."""
    found = {}
    for name in arguments.sets:
        folder = pathlib.Path(os.environ["SAN_DATA"]) / "vision/vtab" / name
        training, test = (images(folder, part, arguments.size) for part in ("train800val200", "test"))
        classes = int(max(training[1].max(), test[1].max())) + 1
        for method in arguments.methods:
            for seed in range(arguments.seeds):
                torch.manual_seed(1000 + seed)
                start = time.perf_counter()
                weights = pathlib.Path(os.environ["SAN_WEIGHTS"]) / BACKBONE / "model.safetensors"
                network = model(method, classes, arguments.size, weights)
                train(network, *training, RATES[method], arguments.epochs, torch.Generator().manual_seed(seed))
                found.setdefault((name, method), []).append(accuracy(network, *test))
                seconds = time.perf_counter() - start
                print(f"peer: {name} {method} seed {seed}: {found[name, method][-1]:.2f} ({seconds:.0f} s)", flush=True)
    return found


def ours(arguments):
    """The same by `san run`."""
    image = dict(image_size=arguments.size, resize="plain", filter="bicubic", normalisation="imagenet")
    lora = dict(rank=RANK, alpha=RANK, targets=["q", "v"])
    options = {"lora": {"options": lora}}
    methods = [
        dict(method=method, learning_rate=RATES[method]) | options.get(method, {}) for method in arguments.methods
    ]
    profile = dict(
        data=dict(files="vision/vtab"),
        sets=arguments.sets,
        backbones=[BACKBONE],
        methods=methods,
        seeds=list(range(arguments.seeds)),
        protocol=dict(
            epochs=arguments.epochs, batch_size=BATCH, classification=dict(warmup_epochs=1, image=image)
        ),
    )
    experiment = dict(name="replication", suite="vtab", profiles=dict(small=profile))
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / "replication.yaml"
    path.write_text(json.dumps(experiment, indent=1))
    command = [arguments.san, "run", path, "--profile", "small", "--workers", "1", "--results", arguments.results]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    found, commits = {}, set()
    for path in sorted((arguments.results / "runs/replication/small").glob("*/record.json")):
        record = json.loads(path.read_text())
        key = record["dataset"]["name"], record["method"]["name"]
        found.setdefault(key, []).append((record["seed"], 100 * record["metrics"]["accuracy"]))
        provenance = record["provenance"]
        commits.add(provenance["commit"] + (", with uncommitted changes" if provenance["dirty"] else ""))
    print(f"san: commit {'; '.join(commits)}")
    return {key: [accuracy for _, accuracy in sorted(runs)] for key, runs in found.items()}


def table(ours, theirs):
    print("| set | method | `san run` | timm, peft, torch | difference | 95 % interval | 0 in it |")
    print("|---|---|---:|---:|---:|---:|---|")
    shown = lambda runs: f"{numpy.mean(runs):.1f} ± {numpy.std(runs, ddof=1):.1f}"
    for name, method in theirs:
        here, there = ours[name, method], theirs[name, method]
        low, high = scipy.stats.ttest_ind(here, there, equal_var=False).confidence_interval()
        inside = "yes" if low <= 0 <= high else "no"
        difference = numpy.mean(here) - numpy.mean(there)
        cells = [name, method, shown(here), shown(there), f"{difference:+.1f}", f"{low:+.1f} to {high:+.1f}", inside]
        print(f"| {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=["dtd10", "rsscn7"])
    parser.add_argument("--methods", nargs="+", default=list(RATES), choices=list(RATES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--size", type=int, default=56)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--san", type=pathlib.Path, default=ROOT / "target/debug/san")
    parser.add_argument("--results", type=pathlib.Path, help="a folder to keep our runs in; a temporary one if omitted")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        arguments.results = arguments.results or pathlib.Path(folder)
        there = theirs(arguments)
        table(ours(arguments), there)


if __name__ == "__main__":
    main()
