"""The settings of all commands, one class for each group of options.

A new argument of `hvae_course.training.loop.fit` becomes an option with one line in
`TrainingSettings`, a new field of `hvae_course.recipes.architecture.Architecture` with one line in
`ModelSettings`.
"""

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hvae_course.cli.options import option, parse_widths
from hvae_course.data import BINARISATIONS, NAMES, DataSet, load
from hvae_course.nets import ACTIVATIONS, NORMALISATIONS
from hvae_course.objectives import FreeBits, WarmUp, Weighted, elbo, importance_weighted
from hvae_course.recipes import LIKELIHOODS, PRIORS, RECIPES, STATES
from hvae_course.recipes.widths import Widths
from hvae_course.training import DECAY_SHAPES, Objective

OBJECTIVES: dict[str, Objective] = {"elbo": elbo, "iwae": importance_weighted}
"""Objectives by name.

:meta hide-value:
"""
SPLITS = ("train", "validation", "test")
"""Parts of a data set."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Data."""

    data: str = option("digits", "data set", choices=NAMES)
    binarisation: str | None = option(
        None,
        "how grey pixels become binary",
        choices=BINARISATIONS,
        shown="dynamic for mnist and fashion_mnist, none for the others",
    )
    data_root: str | None = option(
        None, "folder of mnist and fashion_mnist", shown="HVAE_DATA, or a cache folder"
    )

    def load(self) -> DataSet:
        """Read the data.

        Returns:
            The data set, on the CPU.
        """
        return load(self.data, binarisation=self.binarisation, root=self.data_root)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Model."""

    latent_sizes: tuple[int, ...] = option(
        (16, 8), "number of latent dimensions of z_1, ..., z_L, bottom to top", flag="--levels"
    )
    hidden: Widths = option(
        (256,),
        "widths of the hidden layers of every network, or one word per level, bottom to top, as "
        "in 512,512 256,256",
        read=parse_widths,
    )
    inference_hidden: Widths | None = option(
        None, "widths in the inference networks", shown="as --hidden", read=parse_widths
    )
    normalisation: str | None = option(
        None,
        "normalisation in every network",
        choices=NORMALISATIONS,
        shown="batch; layer for bidirectional",
    )
    generative_normalisation: str | None = option(
        None,
        "normalisation in the generative networks",
        choices=NORMALISATIONS,
        shown="as --normalisation",
    )
    activation: str | None = option(
        None,
        "activation function",
        choices=ACTIVATIONS,
        shown="silu; gelu for bidirectional",
    )
    dropout: float = option(0.0, "probability of dropping a hidden unit in training")
    state: str = option("markov", "levels above that a generative network sees", choices=STATES)
    likelihood: str | None = option(
        None, "likelihood p(x | z)", choices=LIKELIHOODS, shown="chosen to suit the data"
    )
    likelihood_options: Mapping[str, Any] = option(
        {}, "settings of the likelihood, such as std=0.1"
    )
    prior: str = option("standard", "prior over the top level", choices=PRIORS)
    prior_options: Mapping[str, Any] = option(
        {}, "settings of the prior, such as num_components=500"
    )
    recipe_options: Mapping[str, Any] = option(
        {}, "settings of this recipe only, such as merge_top=true for ladder"
    )

    def arguments(self, recipe: str) -> dict[str, Any]:
        """Collect the arguments of a recipe.

        Args:
            recipe: a key of `hvae_course.recipes.models.RECIPES`.

        Returns:
            Keyword arguments; settings that are None are left to the recipe.

        Raises:
            ValueError: if the recipe does not have one of the settings.
            TypeError: if a setting has the wrong type.
        """
        signature = inspect.signature(RECIPES[recipe]).parameters.values()
        own = {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}
        for name, value in self.recipe_options.items():
            if name not in own:
                known = f"has {', '.join(own)}" if own else "has no options of its own"
                raise ValueError(f"unknown option {name!r} of {recipe}, which {known}")
            if not isinstance(value, type(own[name])):
                raise TypeError(
                    f"{name} of {recipe} is a {type(own[name]).__name__} such as "
                    f"{own[name]!r}, got {value!r}"
                )
        shared = {name: value for name, value in asdict(self).items() if value is not None}
        del shared["recipe_options"]
        return shared | dict(self.recipe_options)


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """Objective."""

    objective: str = option("elbo", "objective to maximise", choices=OBJECTIVES)
    warm_up: tuple[int, ...] | None = option(
        None, "epochs until the KL weight reaches 1, one number for all levels or one for each"
    )
    free_bits: tuple[float, ...] | None = option(
        None, "free nats per example, one number for all levels or one for each"
    )

    def make(self) -> Objective:
        """Assemble the objective.

        Returns:
            The objective that `hvae_course.training.loop.fit` maximises.

        Raises:
            ValueError: if the settings contradict each other or are negative.
        """
        if self.warm_up is None and self.free_bits is None:
            return OBJECTIVES[self.objective]
        if self.objective != "elbo":
            raise ValueError(
                "--warm-up and --free-bits change the KL terms of the ELBO, and the objective "
                f"{self.objective!r} has no KL terms; omit them, or choose elbo"
            )
        final = Weighted() if self.free_bits is None else FreeBits(_one_or_all(self.free_bits))
        return final if self.warm_up is None else WarmUp(_one_or_all(self.warm_up), final)


def _one_or_all(values: tuple[Any, ...]) -> Any:  # noqa: ANN401
    return values[0] if len(values) == 1 else values


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Training."""

    num_samples: int = option(1, "draws of the latents per example", flag="--draws")
    epochs: int = option(100, "total number of epochs")
    batch_size: int = option(100, "examples per step, over all processes")
    learning_rate: float = option(1e-3, "step size of Adam")
    prior_learning_rate: float | None = option(
        None, "step size for the prior over the top level", shown="as --learning-rate"
    )
    decay: float = option(
        0.0, "share of the epochs, at the end, over which both learning rates fall to zero"
    )
    decay_shape: str = option("linear", "how they fall", choices=DECAY_SHAPES)
    averaging: float = option(
        0.0, "decay per step of a moving average of the weights, such as 0.999; 0 for none"
    )
    compiled: bool = option(
        False, "compile the training step; faster, but needs a C++ compiler", flag="--compile"
    )
    patience: int | None = option(
        None, "stop after this many epochs without a better validation objective", shown="never"
    )
    seed: int = option(0, "seed of the initial weights and of the run")


def find_recipe(name: str) -> str:
    """Look up a recipe by its full or its short name.

    Args:
        name: such as ``"ladder_vae"`` or ``"ladder"``.

    Returns:
        A key of `hvae_course.recipes.models.RECIPES`.

    Raises:
        ValueError: if there is no recipe of that name.
    """
    known = {short_name(key): key for key in RECIPES}
    if name not in RECIPES and name not in known:
        raise ValueError(f"unknown recipe {name!r}; choose one of {', '.join(known)}")
    return known.get(name, name)


def short_name(recipe: str) -> str:
    """Name of a recipe on the command line.

    Args:
        recipe: a key of `hvae_course.recipes.models.RECIPES`.

    Returns:
        The name without its ending.
    """
    return recipe.removesuffix("_vae")


def check_seed(seed: int) -> None:
    """Refuse a seed that no generator accepts.

    Args:
        seed: the seed.

    Raises:
        ValueError: if it is negative.
    """
    if seed < 0:
        raise ValueError(f"--seed must not be negative, got {seed}")


def check_draws(objective: ObjectiveSettings, training: TrainingSettings) -> None:
    """Refuse an importance-weighted objective with one draw, which is the ELBO.

    Args:
        objective: the objective to maximise.
        training: the number of draws.

    Raises:
        ValueError: if the objective is that one.
    """
    if objective.objective == "iwae" and training.num_samples == 1:
        raise ValueError(
            "the importance-weighted bound with one draw is the ELBO; give --draws 10, or choose "
            "--objective elbo"
        )
