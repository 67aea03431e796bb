"""The models of the results page, one entry each: what it changes in a shared experiment.

All settings were chosen on the validation split.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from hvae_course.config import Data, Experiment, Model, Objective, Precision, Training

DEPTHS = (1, 2, 3, 4, 5)
"""Numbers of levels in the comparison by depth."""
DEPTH_LATENTS = (32, 16, 8, 4, 2)
"""Latent dimensions from the bottom up; a model of L levels has the first L of them."""
FAMILIES = {"bottom_up": "bottom-up", "ladder": "ladder"}
"""Recipes in the comparison by depth, with their titles."""


def change(base: Experiment, **options: Any) -> Experiment:  # noqa: ANN401
    """Change some options of an experiment.

    Args:
        base: the experiment.
        **options: fields of `Data`, `Model`, `Objective`, `Training` or `Machine`.

    Returns:
        The changed experiment; all other options are as in the base.

    Raises:
        TypeError: if there is no such option.
    """
    groups = {}
    for entry in fields(base):
        group = getattr(base, entry.name)
        own = {option.name for option in fields(group)} & options.keys()
        groups[entry.name] = replace(group, **{name: options.pop(name) for name in own})
    if options:
        raise TypeError(f"an experiment has no option {', '.join(options)}")
    return replace(base, **groups)


@dataclass(frozen=True)
class Entry:
    """One row of a table."""

    title: str
    experiment: Experiment
    group: str = "main"
    """``"main"``, ``"depth"`` (comparison by depth) or ``"warm_up"`` (with and without)."""
    validation_samples: int = 100
    """Draws per example for the bounds on the validation split."""


@dataclass(frozen=True)
class Benchmark:
    """Models on one data set, all evaluated in the same way."""

    num_samples: int | None
    """K of the importance-weighted bound on the test split; None if the test split is not used."""
    models: Mapping[str, Entry]
    kept: tuple[str, int] | None = None
    """Model and seed whose weights are kept beside the result."""
    precision: Precision = "no"
    """Precision of the evaluation on the test split."""
    num_others: int | None = None
    """Others that the diagnosis scores each code with, drawn at random; by default all."""
    parts: int = 1
    """Parts of the test split, each evaluated in a process of its own with its own seed."""


_COSINE = {"decay": 1.0, "decay_shape": "cosine"}
_DIGITS = Experiment(
    data=Data(data="digits"),
    model=Model(
        latent_sizes=(16, 8),
        hidden=(256,),
        likelihood="discretized_logistic",
        normalisation="layer",
        dropout=0.1,
    ),
    objective=Objective(warm_up=(50,)),
    training=Training(epochs=150, learning_rate=3e-3, averaging=0.99, **_COSINE),
)
_ONE = change(_DIGITS, latent_sizes=(16,))
_GELU = {"recipe": "bidirectional", "activation": "gelu"}


def _skip(base: Experiment, **options: Any) -> Experiment:  # noqa: ANN401
    return change(base, state="skip", **options)


DIGITS = Benchmark(
    num_samples=1000,
    models={
        "one_level": Entry("one level", _ONE),
        "chain": Entry("two levels, bottom-up", _DIGITS),
        "delta": Entry("two levels, delta", _skip(_DIGITS, recipe="delta")),
        "concatenation": Entry("two levels, concatenation", _skip(_DIGITS, **_GELU)),
        "ladder": Entry(
            "ladder of 5", _skip(_DIGITS, recipe="ladder", latent_sizes=DEPTH_LATENTS)
        ),
        "vamp": Entry(
            "two levels, VampPrior",
            _skip(_DIGITS, prior="vamp", prior_options={"num_components": 100}, **_GELU),
        ),
        "vhp": Entry("one level, VHP", change(_ONE, prior="vhp")),
    }
    | {
        f"depth_{recipe}_{depth}": Entry(
            f"{title}, L = {depth}",
            _skip(_DIGITS, recipe=recipe, latent_sizes=DEPTH_LATENTS[:depth], hidden=(128,)),
            "depth",
        )
        for recipe, title in FAMILIES.items()
        for depth in DEPTHS
    },
    kept=("one_level", 0),
)
"""Digits: all models in minutes on two CPU cores."""

_MNIST = Experiment(
    data=Data(data="mnist"),
    model=Model(latent_sizes=(40, 40), hidden=(300, 300), normalisation="batch"),
    objective=Objective(warm_up=(100,)),
    training=Training(epochs=400, batch_size=256, learning_rate=5e-3, averaging=0.999, **_COSINE),
)
_MNIST_ONE = change(_MNIST, latent_sizes=(40,))
MNIST = Benchmark(
    num_samples=5000,
    models={
        # without a warm-up: better validation ELBO
        "one_level": Entry("one level", change(_MNIST_ONE, warm_up=0)),
        "one_level_warm_up": Entry("one level, with a warm-up", _MNIST_ONE, "warm_up"),
        "chain": Entry("two levels, bottom-up", _MNIST),
        "delta": Entry("two levels, delta", _skip(_MNIST, recipe="delta")),
        "concatenation": Entry("two levels, concatenation", _skip(_MNIST, **_GELU)),
        "ladder": Entry(
            "ladder of 5",
            _skip(
                _MNIST,
                recipe="ladder",
                latent_sizes=(64, 32, 16, 8, 4),
                hidden=((512, 512), (256, 256), (128, 128), (64, 64), (32, 32)),
                epochs=500,
                learning_rate=2e-3,
            ),
        ),
        "vamp": Entry(
            "two levels, VampPrior",
            _skip(
                _MNIST,
                # batch normalisation would make the code of a pseudo-input depend on the others
                normalisation="layer",
                generative_normalisation="batch",
                learning_rate=2e-3,
                prior="vamp",
                prior_options={"num_components": 200},
                **_GELU,
            ),
        ),
        "vhp": Entry("one level, VHP", change(_MNIST_ONE, prior="vhp")),
    },
)
"""Dynamically binarised MNIST, beside published numbers; hours on two CPU cores."""

MNIST_DEEP = Benchmark(
    num_samples=1000,
    models={
        "vdvae": Entry(
            "VDVAE of 10",
            change(
                _MNIST,
                recipe="vdvae",
                latent_sizes=(2, 2, 8, 8, 8, 8, 8, 8, 32, 32),
                hidden=Model().hidden,
                normalisation="none",
                activation="silu",
                prior="normal",
                networks="convolutional",
                networks_options={
                    "stages": ((14, 2, 32), (7, 6, 64), (1, 2, 96)),
                    "expansion": 0.5,
                },
                warm_up=None,
                free_bits=0.5,
                epochs=40,
                batch_size=100,
                learning_rate=2e-3,
                clip_norm=200.0,
                precision="bf16",
            ),
            validation_samples=10,
        ),
    },
    num_others=20,
    precision="bf16",
    parts=2,
)
"""A convolutional hierarchy of ten levels on MNIST; three hours on one CPU core."""

_BASE = _skip(_MNIST, epochs=60, warm_up=20, **_GELU)


def _trial(title: str, group: str = "main", *, draws: int = 1, **options: Any) -> Entry:  # noqa: ANN401
    return Entry(title, change(_BASE, **options), group, draws)


def _one_level(title: str, **options: Any) -> Entry:  # noqa: ANN401
    shape = {"recipe": "bottom_up", "activation": "silu", "latent_sizes": (40,), "state": "markov"}
    return _trial(title, "warm_up", **shape, **options)


TRIALS = Benchmark(
    num_samples=None,
    models={
        "base": _trial("nothing"),
        "rate_low": _trial("learning rate 0.002", learning_rate=2e-3),
        "rate_high": _trial("learning rate 0.01", learning_rate=1e-2),
        "decay_none": _trial("a learning rate that does not fall", decay=0.0),
        "batch_small": _trial("batches of 128", batch_size=128),
        "averaging_none": _trial("no averaging of the weights", averaging=0.0),
        "warm_up_none": _trial("no warm-up", warm_up=0),
        "warm_up_long": _trial("a warm-up of 40 epochs", warm_up=40),
        "layer": _trial(
            "layer normalisation, learning rate 0.002", normalisation="layer", learning_rate=2e-3
        ),
        "no_normalisation": _trial(
            "no normalisation, learning rate 0.001", normalisation="none", learning_rate=1e-3
        ),
        "dropout": _trial("dropout of 0.1", dropout=0.1),
        "silu": _trial("SiLU in place of GELU", activation="silu"),
        "gated": _trial("gated linear units in place of GELU", activation="glu"),
        "ladder": _trial("precision-weighted merge, SiLU", recipe="ladder", activation="silu"),
        "wide": _trial("512 hidden units in place of 300", hidden=(512, 512)),
        "as_ladder": _trial(
            "the two lower levels of the ladder, learning rate 0.002",
            latent_sizes=(64, 32),
            hidden=((512, 512), (256, 256)),
            learning_rate=2e-3,
        ),
        "longer": _trial("150 epochs, 50 of them warm-up", draws=100, epochs=150, warm_up=50),
        "one_level": _one_level("one level"),
        "one_level_direct": _one_level("one level", warm_up=0),
        "vhp": _one_level("one level, VHP", prior="vhp"),
        "vhp_direct": _one_level("one level, VHP", prior="vhp", warm_up=0),
    },
)
"""Variants of the two-level model on MNIST, and the warm-up of other models, evaluated on
validation images only."""

BENCHMARKS: dict[str, Benchmark] = {"digits": DIGITS, "mnist": MNIST, "mnist_deep": MNIST_DEEP}
BENCHMARKS |= {"trials": TRIALS}
"""The benchmarks by name; if the test split is used, the name is that of the data set."""
