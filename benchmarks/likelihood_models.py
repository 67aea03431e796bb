"""The models of the results page, one line each, as options of the command line.

Every row of the page is ``hvae train`` with the options of a model and those shared by all models
of its data set, then one ``hvae evaluate``. All settings were chosen on the validation split.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

DEPTHS = (1, 2, 3, 4, 5)
"""Numbers of levels in the comparison by depth."""
DEPTH_LATENTS = (32, 16, 8, 4, 2)
"""Latent dimensions from the bottom up; a model of L levels has the first L of them."""
FAMILIES = {"bottom_up": "bottom-up", "ladder": "ladder"}
"""Recipes in the comparison by depth, with their titles."""


@dataclass(frozen=True)
class Model:
    """One row: a title, and the words after ``hvae train``."""

    title: str
    words: str
    """Recipe and own options; the shared options of the benchmark are added."""
    group: str = "main"
    """``"main"``, ``"depth"`` (comparison by depth) or ``"warm_up"`` (with and without)."""


@dataclass(frozen=True)
class Benchmark:
    """Models on one data set, all trained and evaluated in the same way."""

    shared: str
    """Options of every model, unless it has its own."""
    num_samples: int | None
    """K of the importance-weighted bound on the test split; None if the test split is not used."""
    models: Mapping[str, Model]
    kept: tuple[str, int] | None = None
    """Model and seed whose weights are kept beside the result."""

    def train_words(self, name: str, *, seed: int) -> list[str]:
        """List the words of the training that determine its result on one machine.

        Args:
            name: a key of ``models``.
            seed: seed of weights and run.

        Returns:
            The words after ``hvae``, without folder and device.
        """
        recipe, *own = shlex.split(self.models[name].words)
        shared, kept = shlex.split(self.shared), True
        words = ["train", recipe]
        for word in shared:  # without the options that the model overrides
            kept = word not in own if word.startswith("--") else kept
            words += [word] if kept else []
        return [*words, *own, "--seed", str(seed)]


def _depth_models(options: str) -> dict[str, Model]:
    """Models with the first L levels of `DEPTH_LATENTS`, for every family and L."""
    models = {}
    for recipe, title in FAMILIES.items():
        for depth in DEPTHS:
            levels = " ".join(map(str, DEPTH_LATENTS[:depth]))
            words = f"{recipe} --levels {levels} {options}"
            models[f"depth_{recipe}_{depth}"] = Model(f"{title}, L = {depth}", words, "depth")
    return models


DIGITS = Benchmark(
    shared="--data digits --likelihood discretized_logistic --normalisation layer --dropout 0.1 "
    "--epochs 150 --warm-up 50 --learning-rate 3e-3 --decay 1.0 --decay-shape cosine "
    "--averaging 0.99",
    num_samples=1000,
    models={
        "one_level": Model("one level", "bottom_up --levels 16 --hidden 256"),
        "chain": Model("two levels, bottom-up", "bottom_up --levels 16 8 --hidden 256"),
        "delta": Model("two levels, delta", "delta --levels 16 8 --hidden 256 --state skip"),
        "concatenation": Model(
            "two levels, concatenation",
            "bidirectional --levels 16 8 --hidden 256 --state skip",
        ),
        "ladder": Model("ladder of 5", "ladder --levels 32 16 8 4 2 --hidden 256 --state skip"),
        "vamp": Model(
            "two levels, VampPrior",
            "bidirectional --levels 16 8 --hidden 256 --state skip --prior vamp "
            "--prior-options num_components=100",
        ),
        "vhp": Model("one level, VHP", "bottom_up --levels 16 --hidden 256 --prior vhp"),
    }
    | _depth_models("--hidden 128 --state skip"),
    kept=("one_level", 0),
)
"""Digits: all models in minutes on two CPU cores."""

# Options that the MNIST models share, and the networks of each.
_MNIST_SHARED = "--data mnist --batch-size 256 --decay 1.0 --decay-shape cosine --averaging 0.999"
_SMALL = "--hidden 300 300 --normalisation batch --epochs 400 --warm-up 100 --learning-rate 5e-3"
_DIRECT = _SMALL.replace("--warm-up 100", "--warm-up 0")  # one level: better validation ELBO
# batch normalisation would make the code of a pseudo-input depend on the others
_SMALL_VAMP = (
    "--hidden 300 300 --normalisation layer --generative-normalisation batch --epochs 400 "
    "--warm-up 100 --learning-rate 2e-3"
)
_LADDER = (
    "--hidden 512,512 256,256 128,128 64,64 32,32 --normalisation batch --epochs 500 "
    "--warm-up 100 --learning-rate 2e-3"
)

MNIST = Benchmark(
    shared=_MNIST_SHARED,
    num_samples=5000,
    models={
        "one_level": Model("one level", f"bottom_up --levels 40 {_DIRECT}"),
        "one_level_warm_up": Model(
            "one level, with a warm-up", f"bottom_up --levels 40 {_SMALL}", "warm_up"
        ),
        "chain": Model("two levels, bottom-up", f"bottom_up --levels 40 40 {_SMALL}"),
        "delta": Model("two levels, delta", f"delta --levels 40 40 {_SMALL} --state skip"),
        "concatenation": Model(
            "two levels, concatenation", f"bidirectional --levels 40 40 {_SMALL} --state skip"
        ),
        "ladder": Model("ladder of 5", f"ladder --levels 64 32 16 8 4 {_LADDER} --state skip"),
        "vamp": Model(
            "two levels, VampPrior",
            f"bidirectional --levels 40 40 {_SMALL_VAMP} --state skip --prior vamp "
            "--prior-options num_components=200",
        ),
        "vhp": Model("one level, VHP", f"bottom_up --levels 40 {_SMALL} --prior vhp"),
    },
)
"""Dynamically binarised MNIST, beside published numbers; hours on two CPU cores."""

_ONE_LEVEL = "--levels 40 --state markov"
TRIALS = Benchmark(
    shared=f"{_MNIST_SHARED} --levels 40 40 --hidden 300 300 --normalisation batch --epochs 60 "
    "--warm-up 20 --learning-rate 5e-3 --state skip --validation-samples 1",
    num_samples=None,
    models={
        "base": Model("nothing", "bidirectional"),
        "rate_low": Model("learning rate 0.002", "bidirectional --learning-rate 2e-3"),
        "rate_high": Model("learning rate 0.01", "bidirectional --learning-rate 1e-2"),
        "decay_none": Model("a learning rate that does not fall", "bidirectional --decay 0"),
        "batch_small": Model("batches of 128", "bidirectional --batch-size 128"),
        "averaging_none": Model("no averaging of the weights", "bidirectional --averaging 0"),
        "warm_up_none": Model("no warm-up", "bidirectional --warm-up 0"),
        "warm_up_long": Model("a warm-up of 40 epochs", "bidirectional --warm-up 40"),
        "layer": Model(
            "layer normalisation, learning rate 0.002",
            "bidirectional --normalisation layer --learning-rate 2e-3",
        ),
        "no_normalisation": Model(
            "no normalisation, learning rate 0.001",
            "bidirectional --normalisation none --learning-rate 1e-3",
        ),
        "dropout": Model("dropout of 0.1", "bidirectional --dropout 0.1"),
        "silu": Model("SiLU in place of GELU", "bidirectional --activation silu"),
        "gated": Model("gated linear units in place of GELU", "bidirectional --activation glu"),
        "ladder": Model("precision-weighted merge, SiLU", "ladder"),
        "wide": Model("512 hidden units in place of 300", "bidirectional --hidden 512 512"),
        "as_ladder": Model(
            "the two lower levels of the ladder, learning rate 0.002",
            "bidirectional --levels 64 32 --hidden 512,512 256,256 --learning-rate 2e-3",
        ),
        "longer": Model(
            "150 epochs, 50 of them warm-up",
            "bidirectional --epochs 150 --warm-up 50 --validation-samples 100",
        ),
        "one_level": Model("one level", f"bottom_up {_ONE_LEVEL}", "warm_up"),
        "one_level_direct": Model("one level", f"bottom_up {_ONE_LEVEL} --warm-up 0", "warm_up"),
        "vhp": Model("one level, VHP", f"bottom_up {_ONE_LEVEL} --prior vhp", "warm_up"),
        "vhp_direct": Model(
            "one level, VHP", f"bottom_up {_ONE_LEVEL} --prior vhp --warm-up 0", "warm_up"
        ),
    },
)
"""Variants of the two-level model on MNIST, and the warm-up of other models, evaluated on
validation images only."""

BENCHMARKS: dict[str, Benchmark] = {"digits": DIGITS, "mnist": MNIST, "trials": TRIALS}
"""The benchmarks by name; if the test split is used, the name is that of the data set."""
