"""Training speed in images per second, beside a textbook loop and the bare products.

The bare products are those of the linear layers and the convolutions, forward and backward, with
operands of the same shapes.

Run it with ``python -m benchmarks.throughput``, or with ``--quick`` for a short run without
compilation. It trains on images of the size of MNIST (from ``HVAE_DATA``, or random bytes) in as
many threads as ``OMP_NUM_THREADS`` allows. The variants take turns, and a ratio is the median
over the rounds, so that a busy machine slows all of them. ``--scaling FILE.csv`` measures the
time of a step against levels, width and batch size instead. ``--levels FILE.csv`` writes what each
level of the convolutional model costs.
"""

import argparse
import math
import os
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
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
    stages: tuple[tuple[int, int, int], ...] = ()
    """Resolutions of a convolutional model, from the data upward; empty for one of perceptrons."""

    def build(self) -> HierarchicalVAE:
        """Build the model of the package, with the same weights every time."""
        torch.manual_seed(0)
        make = getattr(recipes, self.recipe)
        if self.stages:
            options = {"stages": self.stages}
            return make(MNIST, latent_sizes=self.latent_sizes, networks_options=options)
        return make(MNIST, latent_sizes=self.latent_sizes, hidden=self.hidden)

    @property
    def networks(self) -> str:
        """Sizes of the networks in words."""
        return f"stages {self.stages}" if self.stages else f"hidden {self.hidden}"


CASES = (
    Case("two levels", "two_level_vae", (16, 8), 128, "textbook"),
    Case("ladder of 5", "ladder_vae", (64, 32, 16, 8, 4), 256, "bound"),
    Case(
        *("deep of 10", "vdvae", (4,) * 10, 32, "textbook"),
        stages=((14, 6, 32), (7, 4, 48)),
    ),
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


def cell(channels_in: int, middle: int, channels_out: int) -> nn.Sequential:
    """Four convolutions, each behind its activation."""
    widths, layers = (channels_in, middle, middle, middle, channels_out), []
    for (a, b), kernel in zip(pairwise(widths), (1, 3, 3, 1), strict=True):
        layers += [nn.GELU(), nn.Conv2d(a, b, kernel, padding=kernel // 2)]
    return nn.Sequential(*layers)


def log_density(z: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of a diagonal Gaussian, ``(B,)``, nats."""
    squares = ((z - mean) / log_std.exp()) ** 2
    return (-0.5 * squares - log_std - 0.5 * math.log(2 * math.pi)).flatten(1).sum(dim=1)


def bounded(raw: Tensor) -> Tensor:
    """Bound log-scales."""
    return 7 * torch.tanh(raw / 7)


class PlainVDVAE(nn.Module):
    """A very deep VAE as one loop, with a module for every layer, and no part of the package.

    For equal weights and noise it gives the loss of ``recipes.vdvae`` with its usual options.

    Args:
        stages: height of the maps, number of levels and channels of every stage, from the data
            upward; heights above two.
        latent_sizes: channels of every latent, from the data upward.
        side: height and width of the images.
    """

    def __init__(
        self, stages: Sequence[tuple[int, int, int]], latent_sizes: Sequence[int], side: int
    ) -> None:
        super().__init__()
        self.side, self.factor = side, side // stages[0][0]
        ends = [0, *accumulate(levels for _, levels, _ in stages)]
        of_level = [stage for stage in stages for _ in range(stage[1])]
        self.num_levels, self.latent_sizes = len(of_level), tuple(latent_sizes)
        self.first = {end: number for number, end in enumerate(ends[:-1])}
        self.last = [
            end - 1 for end, stage in zip(ends[1:], stages, strict=True) for _ in range(stage[1])
        ]
        channels = [c for _, _, c in of_level]
        self.read = nn.Conv2d(self.factor**2, channels[0], 3, padding=1)
        self.pools, self.enlarge = nn.ModuleList(), nn.ModuleList()
        self.gains, self.biases = nn.ParameterList(), nn.ParameterList()
        for (low, _, below), (high, _, above) in pairwise(stages):
            step, same = low // high, below == above
            pool = nn.Conv2d(below, below, step, stride=step, groups=below, bias=False)
            self.pools.append(
                nn.Sequential(pool, nn.Identity() if same else nn.Conv2d(below, above, 1))
            )
            self.enlarge.append(nn.Identity() if same else nn.Conv2d(above, below, 1))
            self.gains.append(torch.ones(below, low, low))
            self.biases.append(torch.zeros(below, low, low))
        middles = [max(1, round(c / 4)) for c in channels]
        sizes = list(zip(channels, middles, self.latent_sizes, strict=True))
        self.up = nn.ModuleList(cell(c, m, c) for c, m, _ in sizes)
        self.heads = nn.ModuleList(cell(2 * c, m, 2 * z) for c, m, z in sizes)
        self.priors = nn.ModuleList(cell(c, m, 2 * z + c) for c, m, z in sizes[:-1])
        self.latents = nn.ModuleList(nn.Conv2d(z, c, 1) for c, _, z in sizes)
        self.down = nn.ModuleList(cell(c, m, c) for c, m, _ in sizes)
        self.decoder = nn.Conv2d(channels[0], self.factor**2, 3, padding=1)
        top = stages[-1][0]
        self.initial = nn.Parameter(torch.zeros(channels[-1], top, top))
        self.top_mean = nn.Parameter(torch.zeros(latent_sizes[-1], top, top))
        self.top_scale = nn.Parameter(torch.zeros(latent_sizes[-1], top, top))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the loss, the reconstruction error and the KL terms from the top downward."""
        d = self.read(F.pixel_unshuffle(x.reshape(-1, 1, self.side, self.side), self.factor))
        features = []
        for l in range(self.num_levels):
            if l in self.first and l > 0:
                d = self.pools[self.first[l] - 1](d)
            d = d + self.up[l](d)
            features.append(d)
        h, feature = self.initial.expand(len(x), *self.initial.shape), 0.0
        p, terms = (
            (self.top_mean.expand(len(x), *self.top_mean.shape), bounded(self.top_scale)),
            [],
        )
        for l in reversed(range(self.num_levels)):
            mean, raw = self.heads[l](torch.cat([features[self.last[l]], h], dim=1)).chunk(
                2, dim=1
            )
            q = (mean, bounded(raw))
            z = mean + q[1].exp() * torch.randn(mean.shape, device=x.device, dtype=x.dtype)
            terms.append((log_density(z, *q) - log_density(z, *p)).mean())
            h = h + feature + self.latents[l](z)
            h = h + self.down[l](h)
            if l in self.first and l > 0:
                stage = self.first[l] - 1
                gain, bias = self.gains[stage], self.biases[stage]
                h = F.interpolate(self.enlarge[stage](h), gain.shape[1:]) * gain + bias
            if l > 0:
                size = self.latent_sizes[l - 1]
                outputs = self.priors[l - 1](h)
                mean, raw, feature = outputs.split([size, size, outputs.shape[1] - 2 * size], 1)
                p = (mean, bounded(raw))
        logits = F.pixel_shuffle(self.decoder(h), self.factor).flatten(1)
        error = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        return error + sum(terms), error, *terms


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


def train_plain(
    model: nn.Module, optimizer: torch.optim.Optimizer, split: Split, batch_size: int
) -> list[float]:
    """Train for one epoch on images that lie on the device; return the losses of the last step."""
    model.train()
    for index in torch.randperm(len(split), device=split.pixels.device).split(batch_size):
        optimizer.zero_grad()
        losses = model(split.batch(index))
        losses[0].backward()
        optimizer.step()
    return [loss.item() for loss in losses]


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


@dataclass(frozen=True)
class Convolution:
    """One convolution of a step."""

    layer: nn.Conv2d
    """The layer, for its weight and its geometry."""
    shape: tuple[int, ...]
    """Shape of the input, ``(B, C, H, W)``."""
    needed: bool
    """Whether the input needs a gradient."""
    part: str
    """Name of the layer in the model."""

    @property
    def size(self) -> tuple[int, ...]:
        """Shape of the output, ``(B, C, H, W)``."""
        steps = zip(
            *(self.shape[2:], self.layer.kernel_size, self.layer.stride, self.layer.padding),
            strict=True,
        )
        sides = [(side + 2 * pad - kernel) // stride + 1 for side, kernel, stride, pad in steps]
        return (self.shape[0], self.layer.out_channels, *sides)

    @property
    def products(self) -> int:
        """Multiplications of the forward pass, per example."""
        return self.layer.weight[0].numel() * math.prod(self.size[1:])


def convolutions(model: nn.Module, x: Tensor) -> list[Convolution]:
    """List the convolutions of a step."""
    found: list[Convolution] = []
    names = {layer: name for name, layer in model.named_modules()}

    def record(layer: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        (given,) = inputs
        found.append(Convolution(layer, tuple(given.shape), given.requires_grad, names[layer]))

    layers = [layer for layer in names if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(record) for layer in layers]
    model(x)
    for hook in hooks:
        hook.remove()
    return found


def make_convolutions(found: Sequence[Convolution], steps: int, device: str) -> Run:
    """Return a function that computes only the convolutions of some steps."""

    def draw(shape: Sequence[int]) -> Tensor:
        return torch.randn(*shape).to(device).contiguous(memory_format=torch.channels_last)

    operands = [
        (draw(one.shape), draw(one.layer.weight.shape), draw(one.size), one) for one in found
    ]

    def convolve() -> None:
        for _ in range(steps):
            for x, weight, gradient, one in operands:
                layer, mask = one.layer, (one.needed, True, False)
                geometry = (layer.stride, layer.padding, layer.dilation)
                F.conv2d(x, weight, None, *geometry, layer.groups)
                torch.ops.aten.convolution_backward(
                    *(gradient, x, weight, None, *geometry, False, (0, 0), layer.groups, mask)
                )

    return convolve


PARTS = {
    r"bottom_up\.blocks\.(\d+)": "up",
    r"posterior\.rules\.(\d+)": "posterior",
    r"top_down\.conditionals\.(\d+)": "prior",
    r"top_down\.updates\.(\d+)": "update",
}
"""Parts of a level, by the names of their modules."""


def place(name: str) -> tuple[int, str]:
    """Find the level of a module or parameter, from 1 next to the data, and its part.

    Level 0 is the likelihood.
    """
    for pattern, part in PARTS.items():
        if found := re.match(pattern, name):
            return int(found[1]) + 1, part
    return 0, "likelihood"


def cost_per_level(
    case: Case, accelerator: Accelerator, *, steps: int, rounds: int
) -> pd.DataFrame:
    """Tabulate what every level of a convolutional model costs.

    One row per level from the data upward, 0 for the likelihood: height of the maps, parameters,
    millions of multiplications of the forward pass per example by part, and milliseconds that
    the level's convolutions take in a step, forward and backward. The initial state and the prior
    over the top level belong to the top level.
    """
    model = case.build().to(accelerator.device)
    x = torch.rand(case.batch_size, MNIST.num_features, device=accelerator.device).round()
    found, top = convolutions(model, x), model.num_levels
    of_level = {l: [one for one in found if place(one.part)[0] == l] for l in range(top + 1)}
    runs = {
        str(l): make_convolutions(some, steps, accelerator.device) for l, some in of_level.items()
    }
    timed = measure(runs, steps, rounds=rounds, device=accelerator.device)
    rows = []
    for l, some in of_level.items():
        row = {"level": l, "height": some[-1].shape[2], "parameters": 0}
        row |= {part: 0.0 for part in (*PARTS.values(), "likelihood")}
        for one in some:
            row[place(one.part)[1]] += one.products / 1e6
        row["ms"] = 1e3 / timed[str(l)]["images_per_second"]
        rows.append(row)
    for name, parameter in model.named_parameters():
        own = name.startswith(("prior.", "top_down.initial."))
        rows[top if own else place(name)[0]]["parameters"] += parameter.numel()
    return pd.DataFrame(rows)


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
    if case.stages:
        plain = PlainVDVAE(case.stages, case.latent_sizes, MNIST.shape[0]).to(device)
        plain = plain.to(memory_format=torch.channels_last)  # as the package keeps them
        adam = torch.optim.Adam(plain.parameters(), fused=True)
        runs["textbook"] = lambda: train_plain(plain, adam, split, case.batch_size)
    elif len(case.latent_sizes) == 2 and images.transform is None:
        missing["textbook"] = "no torchvision"
    elif len(case.latent_sizes) == 2:
        textbook = TextbookVAE(*case.hidden, case.latent_sizes).to(device)
        optimizer = torch.optim.Adam(textbook.parameters())
        loader = DataLoader(images, case.batch_size, shuffle=True, drop_last=True)
        runs["textbook"] = lambda: train_textbook(textbook, optimizer, loader, device)
    runs["ours"] = make_ours(*parts)
    model, x = case.build().to(device), split.batch(slice(case.batch_size))
    steps = len(images) // case.batch_size
    if case.stages:
        runs["bound"] = make_convolutions(convolutions(model, x), steps, device)
    else:
        runs["bound"] = make_bound(matrix_products(model, x), steps, device)
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
        print(f"\n{case.name}: {case.recipe}, latents {case.latent_sizes}, {case.networks},")
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
    names = [case.name for case in CASES]
    parser.add_argument("--cases", nargs="+", choices=names, default=names, help="by default all")
    parser.add_argument("--steps", type=int, help="per run and variant")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of every variant")
    parser.add_argument("--device", choices=get_args(Device), default="cpu")
    parser.add_argument("--out", type=Path, help="JSON file for all numbers")
    parser.add_argument(
        "--scaling", type=Path, help="CSV file; measure this instead of the comparison"
    )
    parser.add_argument(
        "--levels", type=Path, help="CSV file; measure what each level costs instead"
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
    if given.levels:
        (deep,) = [case for case in CASES if case.stages]
        costs = cost_per_level(deep, accelerator, **counts)
        print(costs.round(3).to_string(index=False))
        write_whole(given.levels, lambda file: costs.to_csv(file, index=False))
        return
    chosen = [case for case in CASES if case.name in given.cases]
    result = compare(chosen, accelerator, **counts, compiled=not quick)
    if given.out:
        write_json(given.out, result)


if __name__ == "__main__":
    main()
