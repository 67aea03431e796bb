"""The model that the page of the layer explorer runs in the browser: training, data and still.

Run it with ``python -m benchmarks.layer_explorer``. It trains a model of three levels on
dynamically binarised MNIST, the first 50,000 training images, for 40 epochs of 200 steps, and
rounds the weights of its generative networks to 16 bits. `export` evaluates that model on the
10,000 validation images and gives what ``book/figures/layer_explorer.json`` holds;
``book/_static/layer_explorer.js`` describes and reads the format. An interrupted training resumes
from its last epoch.

On one thread of a server the training takes about ten minutes.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Circle
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course import data, evaluate, plots
from hvae_course.config import Data, Experiment, Model, Objective, Training
from hvae_course.data import DataSet, DataSpec
from hvae_course.gaussians import LOG_STD_BOUND, GaussianHead, kl_normal
from hvae_course.hierarchy import Choose, HierarchicalVAE, State, TopDown, Trace, evaluating, hold
from hvae_course.objectives import make_objective
from hvae_course.recipes import build
from hvae_course.seeding import isolated_random
from hvae_course.training import fit

EXPERIMENT = Experiment(
    data=Data(data="mnist"),
    model=Model(
        recipe="bidirectional",
        latent_sizes=(12, 6, 2),
        hidden=((256, 256), (128, 128), (128, 128)),
        inference_hidden=((384,), (256,), (128,)),
        state="skip",
    ),
    objective=Objective(warm_up=(6,), free_bits=(0, 8, 5)),
    training=Training(
        epochs=40,
        batch_size=250,
        learning_rate=2e-3,
        decay=0.8,
        decay_shape="cosine",
        averaging=0.998,
        seed=0,
    ),
)
SPEC = DataSpec((28, 28), num_values=2, num_classes=10)
ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "book/figures"
SCRATCH = ROOT / "runs/layer_explorer"
"""Folder of the checkpoint of the training."""
NUM_SAMPLES = 10
"""Draws per image of the bound."""
DRAWS = 500
"""Draws of the levels above, over which the KL of a digit's level is averaged."""
PER_CLASS = 2
STILL = 14
"""The digit of the still, and of the explorer when it starts."""
REACH = 3.0
"""Largest coordinate of the maps, in standard deviations of the prior."""


def train() -> HierarchicalVAE:
    """Train the model, or resume its training.

    Returns:
        The model of the best validation epoch, its generative weights rounded to 16 bits.
    """
    dataset = data.load(EXPERIMENT.data)
    model = build(EXPERIMENT.model, dataset, seed=EXPERIMENT.training.seed)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    objective = make_objective(EXPERIMENT.objective)
    fit(model, dataset, EXPERIMENT.training, objective=objective, checkpoint=SCRATCH / "run.pt")
    model.top_down.half().float()
    return model.eval()


# The networks


def _layers(network: nn.Module) -> list[nn.Module]:
    """The layers of a network that compute something, in order."""
    kinds = (nn.Linear, nn.LayerNorm, nn.GELU)
    return [part for part in network.modules() if isinstance(part, kinds)]


def _networks(top_down: TopDown) -> dict[str, nn.Module]:
    """The generative networks, by what they give."""
    given = {f"z_{l}": part for l, part in enumerate(top_down.conditionals, start=1)}
    return {"x": top_down.likelihood.net, **given}


def _described(layer: nn.Module, start: int) -> dict[str, Any]:
    """A layer as the browser reads it; ``start`` is the place of its first weight."""
    if isinstance(layer, nn.Linear):
        sizes = {"in": layer.in_features, "out": layer.out_features}
        return {"kind": "linear", **sizes, "start": start}
    if isinstance(layer, nn.LayerNorm):
        return {
            "kind": "layer_norm",
            "size": layer.weight.numel(),
            "eps": layer.eps,
            "start": start,
        }
    return {"kind": "gelu"}


def networks_data(top_down: TopDown) -> dict[str, Any]:
    """Describe the generative networks and write out their weights.

    Args:
        top_down: the generative networks, multilayer perceptrons with layer normalisation, GELU
            and the state ``"skip"``.

    Returns:
        The entries ``networks``, ``log_std_bound`` and ``weights`` of the file.
    """
    described, weights, start = {}, [], 0
    for name, network in _networks(top_down).items():
        described[name] = []
        for layer in _layers(network):
            described[name].append(_described(layer, start))
            own = [parameter.detach().flatten() for parameter in layer.parameters()]
            weights += own
            start += sum(map(len, own))
    content = torch.cat(weights).numpy().astype("<f2").tobytes()
    heads = [part for part in top_down.modules() if isinstance(part, GaussianHead)]
    assert all(head.log_std_bound == LOG_STD_BOUND for head in heads)
    return {
        "networks": described,
        "log_std_bound": LOG_STD_BOUND,
        "weights": base64.b64encode(content).decode(),
    }


def load_model(written: Mapping[str, Any]) -> HierarchicalVAE:
    """Build the package's model from the weights of the file.

    Args:
        written: what the file holds.

    Returns:
        The model in evaluation mode. The file has no inference networks, so those are untrained.
    """
    model = build(EXPERIMENT.model, SPEC, seed=0)
    content = np.frombuffer(base64.b64decode(written["weights"]), "<f2").astype("float32")
    networks = _networks(model.top_down).values()
    parameters = [
        p for network in networks for layer in _layers(network) for p in layer.parameters()
    ]
    nn.utils.vector_to_parameters(torch.from_numpy(content), parameters)
    return model.eval()


# What the explorer shows


def relative(values: Mapping[int, Tensor]) -> Choose:
    r"""Place levels relative to their priors, :math:`z_l = \mu_p + \sigma_p e_l`.

    Args:
        values: level, from 1 next to the data, to ``e_l``, ``(B, Z_l)``; other levels take the
            mean of their prior.

    Returns:
        A choice for the top-down path.
    """

    def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
        return p, p.mean + p.stddev * values[l + 1] if l + 1 in values else p.mean

    return choose


def posterior_means(model: HierarchicalVAE, x: Tensor) -> Trace:
    """Walk down with the mean of every posterior, given the means above.

    Args:
        model: the model.
        x: data ``(B, D)``.

    Returns:
        The trace.
    """
    choose = model.posterior(model.features(x))

    def mean(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
        q, _ = choose(l, h, p)
        return q, q.mean

    return model.top_down(model.top_prior(), mean, len(x))


def deviations(trace: Trace) -> dict[int, Tensor]:
    """Measure latents in standard deviations of their priors.

    Args:
        trace: a walk.

    Returns:
        Level to ``(z_l - mean) / std`` of its prior, ``(B, Z_l)``.
    """
    levels = enumerate(trace.levels, start=1)
    return {l: (level.z - level.p.mean) / level.p.stddev for l, level in levels}


def directions(model: HierarchicalVAE, x: Tensor) -> list[Tensor]:
    r"""Find the two directions of every level that change the images most.

    With :math:`J` the derivative of the pixels' probabilities in :math:`e_l`, while the levels
    below keep their own :math:`e`, these are the first two eigenvectors of the mean of
    :math:`J^\top J` over images.

    Args:
        model: the model.
        x: data ``(B, D)``.

    Returns:
        For z_1, ..., z_L a matrix ``(2, Z_l)`` of orthonormal rows, the largest entry of each
        positive.
    """
    start, found = deviations(posterior_means(model, x)), []
    for level in start:

        def images(e: Tensor, level: int = level) -> Tensor:
            choose = relative({**start, level: e})
            return model.top_down(model.top_prior(), choose, len(x)).px.mean

        units = torch.eye(start[level].shape[1])
        changes = [
            torch.func.jvp(images, (start[level],), (unit.expand_as(start[level]),))[1].flatten()
            for unit in units
        ]
        jacobian = torch.stack(changes, dim=1).double()  # (B D, Z_l)
        _, vectors = torch.linalg.eigh(jacobian.mT @ jacobian)  # smallest first
        rows = vectors.mT.flip(0)[:2]
        signs = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True)).sign()
        found.append((rows * signs).float())
    return found


def chosen_rows(labels: Tensor, per_class: int = PER_CLASS) -> Tensor:
    """Choose the first examples of every class.

    Args:
        labels: ``(N,)``.
        per_class: how many.

    Returns:
        Their rows, by class and then in the order of the data.
    """
    return torch.cat([(labels == c).nonzero().flatten()[:per_class] for c in labels.unique()])


def _rounded(values: Tensor, digits: int = 5) -> list[Any]:
    return np.round(values.double().numpy(), digits).tolist()


def digits_data(model: HierarchicalVAE, dataset: DataSet) -> list[dict[str, Any]]:
    """Infer the latents of the test digits of the page.

    Args:
        model: the model.
        dataset: MNIST.

    Returns:
        For every digit its label, row of the test images, binary pixels, posterior means and
        standard deviations of z_1, ..., z_L along the means, and KL per level, nats.
    """
    rows = chosen_rows(dataset.test.labels)
    x = dataset.test.batch(rows)
    trace, drawn = posterior_means(model, x), model(x, DRAWS)
    kl = [kl_normal(v.q, v.p).unflatten(0, (-1, DRAWS)).mean(dim=1) for v in drawn.levels]
    return [
        {
            "label": int(dataset.test.labels[row]),
            "row": int(row),
            "pixels": base64.b64encode(dataset.test.pixels[row].numpy().tobytes()).decode(),
            "means": [_rounded(level.q.mean[i]) for level in trace.levels],
            "stds": [_rounded(level.q.stddev[i]) for level in trace.levels],
            "kl": [round(float(level[i]), 2) for level in kl],
        }
        for i, row in enumerate(rows)
    ]


def export(model: HierarchicalVAE) -> dict[str, Any]:
    """Gather what the explorer reads.

    Args:
        model: the trained model.

    Returns:
        The content of the file.
    """
    dataset = data.load(EXPERIMENT.data)
    found = evaluate(model, dataset, split="validation", num_samples=NUM_SAMPLES)
    with evaluating(model), isolated_random(model.device):
        torch.manual_seed(0)
        rows = directions(model, dataset.validation.batch(slice(0, 200)))
        digits = digits_data(model, dataset)
    budget = EXPERIMENT.training
    return {
        "image_shape": list(SPEC.shape),
        "latent_sizes": list(EXPERIMENT.model.latent_sizes),
        "training": {
            "data": "dynamically binarised MNIST",
            "num_examples": len(dataset.train),
            "epochs": budget.epochs,
            "steps": budget.epochs * (len(dataset.train) // budget.batch_size),
            "parameters": sum(p.numel() for p in model.top_down.parameters()),
        },
        "bound": {
            "elbo": round(found.elbo.mean, 2),
            "standard_error": round(found.elbo.standard_error, 2),
            "num_samples": NUM_SAMPLES,
            "num_examples": found.num_examples,
        },
        "information": [round(level.mean, 2) for level in found.information],
        "directions": [_rounded(level) for level in rows],
        "start": STILL,
        "digits": digits,
        **networks_data(model.top_down),
    }


# The still


def _start(model: HierarchicalVAE, written: Mapping[str, Any]) -> dict[int, Tensor]:
    """The first digit shown, every level in standard deviations of its prior, ``(1, Z_l)``."""
    means = written["digits"][written["start"]]["means"]
    latents = {l: torch.tensor([row]) for l, row in enumerate(means, start=1)}
    return deviations(model.generate(1, hold(latents)))


@torch.no_grad()
def maps(model: HierarchicalVAE, written: Mapping[str, Any], size: int) -> list[Tensor]:
    """Decode a grid in the plane of every level, through the latents of the first digit shown.

    Args:
        model: the model.
        written: what the file holds.
        size: images along each side.

    Returns:
        For z_1, ..., z_L images ``(size, size, D)``, from the upper left corner.
    """
    start = _start(model, written)
    ticks, found = torch.linspace(-REACH, REACH, size), []
    points = torch.cartesian_prod(-ticks, ticks).flip(1)  # (size^2, 2): right, up
    for level, rows in zip(start, written["directions"], strict=True):
        plane = torch.tensor(rows)
        e = start[level] + (points - start[level] @ plane.mT) @ plane
        moved = {l: value.expand(len(points), -1) for l, value in start.items()} | {level: e}
        found.append(model.generate(len(points), relative(moved)).px.mean.unflatten(0, (size, -1)))
    return found


def still(model: HierarchicalVAE, written: Mapping[str, Any], path: Path) -> None:
    """Draw the three maps of the digit that the explorer starts with.

    Args:
        model: the model.
        written: what the file holds.
        path: of the image.
    """
    plots.use_style()
    size = 9
    figure, axes = plt.subplots(1, 3, figsize=(plots.PAGE_WIDTH, 2.75))
    at = _start(model, written)
    found = dict(enumerate(maps(model, written, size), start=1))
    for ax, level in zip(axes, sorted(found, reverse=True), strict=True):
        images = found[level].unflatten(-1, SPEC.shape)  # (size, size, 28, 28)
        edge = REACH * size / (size - 1)
        ax.imshow(
            images.permute(0, 2, 1, 3).flatten(2).flatten(0, 1),
            extent=(-edge, edge, -edge, edge),
            vmin=0,
            vmax=1.6,
        )
        for radius in (1, 2):
            ax.add_patch(Circle((0, 0), radius, fill=False, color=plots.COLOURS["prior"], lw=1.2))
        right, up = (torch.tensor(written["directions"][level - 1]) @ at[level][0]).tolist()
        ax.plot(right, up, "o", color=plots.COLOURS["posterior"], ms=7, mec="white", mew=1.2)
        ax.set(title=f"$z_{level}$", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Train the model and write its file and still."""
    model = train()
    written = export(model)
    path = FOLDER / "layer_explorer.json"
    path.write_text(json.dumps(written) + "\n")
    still(load_model(written), written, path.with_suffix(".png"))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    print(f"ELBO {written['bound']}, information {written['information']}, nats per image")


if __name__ == "__main__":
    main()
