"""Training speed in images per second, beside a textbook loop and the bare matrix products.

Run it with ``python -m benchmarks.throughput``, or with ``--quick`` for a short run without
compilation. It trains on images of the size of MNIST (from ``HVAE_DATA``, or random bytes) in as
many threads as ``OMP_NUM_THREADS`` allows. The variants take turns, and a ratio is the median
over the rounds, so that a busy machine slows all of them. ``--scaling FILE.csv`` measures the
time of a step against levels, width and batch size instead.
"""

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hvae_course import recipes
from hvae_course.config import Device, Machine, Training
from hvae_course.data import DataSpec, Split
from hvae_course.data.sources import torchvision_datasets
from hvae_course.files import write_json, write_whole
from hvae_course.hierarchy import HierarchicalVAE, Trace
from hvae_course.machine import environment, make_accelerator
from hvae_course.objectives import as_objective, elbo
from hvae_course.training.loop import _train_epoch
from hvae_course.training.step import Step, compile_step, step

MNIST = DataSpec((28, 28), num_values=2)
EPOCH = 50_000
"""Images in the package's training split of MNIST."""
Run = Callable[[], Any]
Timed = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Case:
    """A model whose training is timed, and the variant it is compared with."""

    name: str
    recipe: str
    latent_sizes: tuple[int, ...]
    batch_size: int
    reference: str
    hidden: tuple[int, ...] = (256,)

    def build(self) -> HierarchicalVAE:
        """Build the model of the package, with the same weights every time."""
        torch.manual_seed(0)
        make = getattr(recipes, self.recipe)
        return make(MNIST, latent_sizes=self.latent_sizes, hidden=self.hidden)


CASES = (
    Case("two levels", "two_level_vae", (16, 8), 128, "textbook"),
    Case("ladder of 5", "ladder_vae", (64, 32, 16, 8, 4), 256, "bound"),
)
SCALING: dict[str, Sequence[int]] = {
    "levels": range(1, 13),
    "width": (32, 64, 128, 256, 512, 1024),
    "batch": (16, 32, 64, 128, 256, 512, 1024),
}
"""Sizes against which the time of a step is measured, one at a time."""
SCALING_BASE = {"levels": 3, "width": 256, "batch": 128}


class TextbookVAE(nn.Module):
    """The two-level VAE as a tutorial writes it, with one layer for every parameter."""

    def __init__(self, hidden: int, latent_sizes: tuple[int, int]) -> None:
        super().__init__()
        z_1, z_2 = latent_sizes
        self.encoder_1 = self._block(MNIST.num_features, hidden)
        self.mean_1, self.scale_1 = nn.Linear(hidden, z_1), nn.Linear(hidden, z_1)
        self.encoder_2 = self._block(z_1, hidden)
        self.mean_2, self.scale_2 = nn.Linear(hidden, z_2), nn.Linear(hidden, z_2)
        self.prior = self._block(z_2, hidden)
        self.mean_p, self.scale_p = nn.Linear(hidden, z_1), nn.Linear(hidden, z_1)
        self.decoder = self._block(z_1, hidden)
        self.logits = nn.Linear(hidden, MNIST.num_features)

    @staticmethod
    def _block(size_in: int, size_out: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(size_in, size_out), nn.BatchNorm1d(size_out), nn.SiLU())

    @staticmethod
    def _gaussian(mean: nn.Linear, scale: nn.Linear, features: Tensor) -> tuple[Tensor, Tensor]:
        return mean(features), 7 * torch.tanh(scale(features) / 7)

    @staticmethod
    def _log_density(z: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        squares = ((z - mean) / log_std.exp()) ** 2
        return (-0.5 * squares - log_std - 0.5 * math.log(2 * math.pi)).sum(dim=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the loss, the reconstruction error and the KL terms of z_1 and z_2."""
        q_1 = self._gaussian(self.mean_1, self.scale_1, self.encoder_1(x))
        z_1 = q_1[0] + q_1[1].exp() * torch.randn_like(q_1[0])
        q_2 = self._gaussian(self.mean_2, self.scale_2, self.encoder_2(z_1))
        z_2 = q_2[0] + q_2[1].exp() * torch.randn_like(q_2[0])
        p_1 = self._gaussian(self.mean_p, self.scale_p, self.prior(z_2))
        zeros, logits = torch.zeros_like(z_2), self.logits(self.decoder(z_1))
        error = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        kl_1 = (self._log_density(z_1, *q_1) - self._log_density(z_1, *p_1)).mean()
        kl_2 = (self._log_density(z_2, *q_2) - self._log_density(z_2, zeros, zeros)).mean()
        return error + kl_1 + kl_2, error, kl_1, kl_2


class RandomImages(Dataset):
    """Random bytes with the interface of torchvision's MNIST."""

    def __init__(self, size: int, transform: Callable[[Image.Image], Tensor] | None) -> None:
        self.data = torch.randint(0, 256, (size, 28, 28), dtype=torch.uint8)
        self.targets = torch.zeros(size, dtype=torch.int64)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.data[index].numpy())
        return self.transform(image), int(self.targets[index])


def load_images(size: int) -> tuple[Dataset, str]:
    """Load the first images as a tutorial does, and name their source.

    Without torchvision they have no transform.
    """
    try:
        datasets = torchvision_datasets()
        from torchvision.transforms import ToTensor
    except ImportError:
        return RandomImages(size, None), "random bytes"
    folder = os.environ.get("HVAE_DATA")
    if not folder or not (Path(folder) / "MNIST" / "raw").is_dir():
        return RandomImages(size, ToTensor()), "random bytes"
    images = datasets.MNIST(folder, train=True, transform=ToTensor())
    images.data, images.targets = images.data[:size], images.targets[:size]
    return images, "MNIST"


def train_textbook(
    model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader, device: torch.device
) -> list[float]:
    """Train for one epoch as a tutorial does; return the four losses of the last step."""
    model.train()
    for images, _ in loader:
        x = torch.bernoulli(images.flatten(1).to(device))
        optimizer.zero_grad()
        losses = model(x)
        losses[0].backward()
        optimizer.step()
        logged = [loss.item() for loss in losses]
    return logged


def matrix_products(model: nn.Module, x: Tensor) -> list[tuple[int, int, int, bool]]:
    """List rows, inputs and outputs of every linear layer in a step.

    The last entry tells whether the input needs a gradient; data do not.
    """
    shapes: list[tuple[int, int, int, bool]] = []

    def record(layer: nn.Linear, inputs: tuple[Tensor], output: Tensor) -> None:
        (given,) = inputs
        shapes.append((len(given), layer.in_features, layer.out_features, given.requires_grad))

    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_hook(record) for layer in linear]
    model(x)
    for hook in hooks:
        hook.remove()
    return shapes


def make_bound(shapes: Sequence[tuple[int, int, int, bool]], steps: int, device: str) -> Run:
    """Return a function that computes only the matrix products of some steps."""

    def draw(*size: int) -> Tensor:
        return torch.randn(*size).to(device)

    operands = [(draw(n, i), draw(o, i), draw(n, o), needed) for n, i, o, needed in shapes]

    def multiply() -> None:
        for _ in range(steps):
            for x, weight, gradient, needed in operands:
                x @ weight.T
                gradient.T @ x
                if needed:
                    gradient @ weight

    return multiply


class Autocast(nn.Module):
    """A model whose networks compute in bfloat16."""

    def __init__(self, model: HierarchicalVAE, device_type: str) -> None:
        super().__init__()
        self.model, self.device_type = model, device_type
        self.dtype, self.num_classes = model.dtype, model.num_classes  # what the loop asks for

    def forward(self, x: Tensor, num_samples: int) -> Trace:
        """Run the model under autocast."""
        with torch.autocast(self.device_type, torch.bfloat16):
            return self.model(x, num_samples)


def make_ours(
    case: Case,
    split: Split,
    accelerator: Accelerator,
    *,
    wrap: Callable = lambda model: model,
    step: Step = step,
) -> Run:
    """Return a function that trains for an epoch as ``fit`` does and returns the logged values."""
    model = case.build().to(accelerator.device)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    model, optimizer = accelerator.prepare(model, optimizer)
    settings = {"objective": as_objective(elbo), "accelerator": accelerator, "step": step}
    settings["training"] = Training(batch_size=case.batch_size)
    network = wrap(model)

    def epoch() -> list[float]:
        order = torch.randperm(len(split), device=accelerator.device)
        return _train_epoch(network, optimizer, split, order, **settings)

    return epoch


def variants(
    case: Case, images: Dataset, accelerator: Accelerator, *, compiled: bool
) -> tuple[dict[str, Run], dict[str, str]]:
    """Collect the variants to time on one model, and the reasons for missing ones.

    Each passes once over the images, whose number is a multiple of the batch size.
    """
    device, missing, runs = accelerator.device, {}, {}
    split = Split(images.data.flatten(1), images.targets, 255, redraw=True).to(device)
    parts = (case, split, accelerator)
    if len(case.latent_sizes) == 2 and images.transform is None:
        missing["textbook"] = "no torchvision"
    elif len(case.latent_sizes) == 2:
        textbook = TextbookVAE(*case.hidden, case.latent_sizes).to(device)
        optimizer = torch.optim.Adam(textbook.parameters())
        loader = DataLoader(images, case.batch_size, shuffle=True, drop_last=True)
        runs["textbook"] = lambda: train_textbook(textbook, optimizer, loader, device)
    runs["ours"] = make_ours(*parts)
    shapes = matrix_products(case.build().to(device), split.batch(slice(case.batch_size)))
    runs["bound"] = make_bound(shapes, len(images) // case.batch_size, device)
    if device.type == "cuda":
        runs["ours, bf16"] = make_ours(*parts, wrap=lambda model: Autocast(model, "cuda"))
    if not compiled:
        return runs, missing | {"ours, compiled": "not in --quick"}
    try:
        runs["ours, compiled"] = make_ours(*parts, step=compile_step(device, captured=False))
    except ValueError:
        return runs, missing | {"ours, compiled": "no compiler"}
    if device.type == "cuda":
        runs["ours, captured"] = make_ours(*parts, step=compile_step(device))
    return runs, missing


def _seconds(run: Run, device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure(runs: Mapping[str, Run], images: int, *, rounds: int, device: torch.device) -> Timed:
    """Time all variants in turns over several rounds, after one round of warm-up.

    Returns images per second and the extra time of the first run, by variant.
    """
    first = {name: _seconds(run, device) for name, run in runs.items()}
    turns = [{name: _seconds(run, device) for name, run in runs.items()} for _ in range(rounds)]
    usual = {name: statistics.median(turn[name] for turn in turns) for name in runs}
    return {
        name: {
            "images_per_second": images / usual[name],
            "rounds": [images / turn[name] for turn in turns],
            "first_run_extra_seconds": max(0.0, first[name] - usual[name]),
        }
        for name in runs
    }


def ratio(timed: Timed, name: str, to: str) -> float | None:
    """Compute the speed of one variant relative to another, the median over the rounds.

    None if one of them was not timed.
    """
    if name not in timed or to not in timed:
        return None
    pairs = zip(timed[name]["rounds"], timed[to]["rounds"], strict=True)
    return statistics.median(a / b for a, b in pairs)


def fastest(timed: Timed, to: str) -> tuple[str, float] | None:
    """Find our fastest variant in full precision, and its speed relative to another variant.

    None if the other one was not timed.
    """
    names = [name for name in timed if name.startswith("ours") and not name.endswith("bf16")]
    ratios = {name: ratio(timed, name, to) for name in names if to in timed}
    return max(ratios.items(), key=lambda pair: pair[1], default=None)


def table(timed: Timed, missing: Mapping[str, str]) -> str:
    """Format the speeds of one model, one line per variant."""
    columns = ("images/s", "s per epoch", "x textbook", "x bound", "compilation [s]")
    lines = [" " * 20 + "".join(f"{column:>16}" for column in columns)]
    for name, result in timed.items():
        speed, extra = result["images_per_second"], result["first_run_extra_seconds"]
        ratios = [ratio(timed, name, to) for to in ("textbook", "bound")]
        cells = [f"{speed:,.0f}", f"{EPOCH / speed:.2f}"]
        cells += ["-" if r is None else f"{r:.2f}" for r in ratios]
        cells.append(f"{extra:.1f}" if name.endswith(("compiled", "captured")) else "-")
        lines.append(f"{name:<20}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines + [f"{name:<20}{why:>16}" for name, why in missing.items()])


def load_average() -> float | None:
    """Return the load average over the last minute; None if the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def compare(
    cases: Sequence[Case], accelerator: Accelerator, *, steps: int, rounds: int, compiled: bool
) -> dict[str, Any]:
    """Time and print all variants of all cases."""
    machine, measured = environment(accelerator), []
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    for case in cases:
        images, data = load_images(steps * case.batch_size)
        runs, missing = variants(case, images, accelerator, compiled=compiled)
        before = load_average()
        timed = measure(runs, steps * case.batch_size, rounds=rounds, device=accelerator.device)
        best, load = fastest(timed, case.reference), (before, load_average())
        name, value = best or ("ours", None)
        print(f"\n{case.name}: {case.recipe}, latents {case.latent_sizes}, hidden {case.hidden},")
        print(f"batch {case.batch_size}, {data}, load {load[0]} before and {load[1]} after")
        print(table(timed, missing))
        shown = "not timed" if value is None else f"{value:.2f}"
        print(f"{name} / {case.reference}: {shown}")
        result = {"case": asdict(case), "data": data, "load": load, "variants": timed}
        measured.append(result | {"missing": missing, "fastest": name, "ratio": value})
    return {"machine": machine, "steps": steps, "rounds": rounds, "cases": measured}


def scale(
    accelerator: Accelerator, *, steps: int, rounds: int, sizes: Mapping[str, Sequence[int]]
) -> pd.DataFrame:
    """Measure milliseconds per step of a ladder and its matrix products against one size."""
    rows = []
    for varied, value in ((varied, value) for varied, given in sizes.items() for value in given):
        size = SCALING_BASE | {varied: value}
        latents, batch = (16,) * size["levels"], size["batch"]
        case = Case("", "ladder_vae", latents, batch, "bound", (size["width"],))
        images, _ = load_images(steps * batch)
        runs, _ = variants(case, images, accelerator, compiled=False)
        runs = {name: runs[name] for name in ("ours", "bound")}
        timed = measure(runs, steps * batch, rounds=rounds, device=accelerator.device)
        row = {"varied": varied, **size}
        for name, result in timed.items():
            row[f"{name}_ms"] = round(1e3 * batch / result["images_per_second"], 4)
        rows.append(row | {"threads": torch.get_num_threads(), "load": load_average()})
        print(", ".join(f"{name} {value}" for name, value in rows[-1].items()))
    return pd.DataFrame(rows)


def main(words: Sequence[str] | None = None) -> None:
    """Time, print, and write the files that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute, no compilation")
    parser.add_argument("--steps", type=int, help="per run and variant")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of every variant")
    parser.add_argument("--device", choices=get_args(Device), default="cpu")
    parser.add_argument("--out", type=Path, help="JSON file for all numbers")
    parser.add_argument(
        "--scaling", type=Path, help="CSV file; measure this instead of the comparison"
    )
    given = parser.parse_args(words)
    accelerator, quick = make_accelerator(Machine(device=given.device)), given.quick
    steps = (20 if quick else 200) if given.steps is None else given.steps
    counts = {"steps": steps, "rounds": given.rounds}
    if min(counts.values()) < 1:
        parser.error(f"--steps and --rounds must be positive, got {counts}")
    if given.scaling:
        rows = scale(accelerator, **counts, sizes=SCALING)
        write_whole(given.scaling, lambda file: rows.to_csv(file, index=False))
        return
    result = compare(CASES, accelerator, **counts, compiled=not quick)
    if given.out:
        write_json(given.out, result)


if __name__ == "__main__":
    main()
