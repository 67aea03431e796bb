"""Small data sets, small models and a short training run, shared by the tests."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

import hvae_course
from hvae_course.config import DEEP_RECIPES
from hvae_course.data import DataSet, Split
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.training import History


def _cut(split: Split, size: int) -> Split:
    return split.select(slice(0, size))


def _tiny(data: DataSet, sizes: tuple[int, int, int] = (120, 60, 60)) -> DataSet:
    names = ("train", "validation", "test")
    return replace(
        data, **{n: _cut(data.split(n), size) for n, size in zip(names, sizes, strict=True)}
    )


@pytest.fixture(scope="session")
def tiny_data() -> DataSet:
    """A few of the digits, 17 grey values."""
    return _tiny(hvae_course.data.load("digits"))


@pytest.fixture(scope="session")
def tiny_binary() -> DataSet:
    """A few of the digits, whose training pixels are redrawn in every batch."""
    return _tiny(hvae_course.data.load("digits", binarisation="dynamic"))


@pytest.fixture
def make_model(tiny_data: DataSet) -> Callable[..., HierarchicalVAE]:
    """Build a small model; the same seed gives the same weights."""

    def make(
        recipe: str = "bottom_up_vae", data: DataSet | None = None, *, seed: int = 0, **settings
    ) -> HierarchicalVAE:
        deep = recipe.removesuffix("_vae") in DEEP_RECIPES
        small = {"channels": 8, "zero_priors": False}  # at zero a prior would read nothing yet
        usual = {"networks_options": small} if deep else {"hidden": (16,)}
        known = {"biva": (4, 4, 3), "downscaled_vae": (4, 1, 3)}  # of more than two levels
        sizes = known.get(recipe, (4, 3))
        if recipe == "draw":
            usual["tied"] = False  # its steps may then differ in size, as levels do
        settings = {**usual, "latent_sizes": sizes} | settings
        torch.manual_seed(seed)
        return getattr(hvae_course.recipes, recipe)(data or tiny_data, **settings)

    return make


@pytest.fixture
def make_accelerator() -> Iterator[Callable[..., Accelerator]]:
    """Make accelerators on the CPU; Accelerate's process-wide state is reset around each."""

    def make(**settings) -> Accelerator:
        AcceleratorState._reset_state(True)
        return Accelerator(cpu=True, **settings)

    yield make
    AcceleratorState._reset_state(True)


@pytest.fixture
def train(tiny_data: DataSet, make_accelerator: Callable) -> Callable[..., History]:
    """Fit a model with a short run on the CPU."""

    def run(model: HierarchicalVAE, data: DataSet | None = None, **settings) -> History:
        settings = {"epochs": 2, "batch_size": 40, "progress": False} | settings
        if "accelerator" not in settings:
            settings["accelerator"] = make_accelerator()
        return hvae_course.fit(model, data or tiny_data, **settings)

    return run


@pytest.fixture
def assert_mean() -> Callable[[Tensor, Tensor | float], None]:
    """Judge a Monte Carlo mean over the first axis; errs once in 1.7 million comparisons."""

    def check(draws: Tensor, expected: Tensor | float) -> None:
        standard_error = draws.std(dim=0) / len(draws) ** 0.5
        assert ((draws.mean(dim=0) - expected).abs() < 5 * standard_error).all()

    return check


@pytest.fixture
def assert_finite_gradients() -> Callable[[torch.nn.Module, Tensor], None]:
    """Check a loss and every gradient it sends into a module; none may be missing."""

    def check(module: torch.nn.Module, loss: Tensor) -> None:
        assert torch.isfinite(loss)
        module.zero_grad()
        loss.backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name

    return check
