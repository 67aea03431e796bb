"""What an evaluation costs: one bottom-up pass per example, and memory that S leaves alone."""

import weakref

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

import hvae_course
from hvae_course import evaluate
from hvae_course.data import DataSet, Split
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.recipes import PRIORS, RECIPES
from hvae_course.seeding import isolated_random, seed_all

pytestmark = pytest.mark.slow

OPTIONS = {
    "standard": {},
    "mixture": {"num_components": 5},
    "vamp": {"num_components": 5, "start": "random"},
    "vhp": {"num_samples": 4, "hidden": (6,)},
}


@pytest.fixture
def make_layer_model(make_model):
    """A model with a learned prior, which no batch normalisation would allow for all of them."""

    def make(prior: str, recipe: str = "ladder_vae") -> HierarchicalVAE:
        return make_model(
            recipe, normalisation="layer", prior=prior, prior_options=OPTIONS[prior]
        ).eval()

    return make


def test_every_prior_is_evaluated_here():
    assert OPTIONS.keys() == PRIORS.keys()


# The bottom-up path


def test_known_features_give_the_trace_that_the_model_computes_itself(make_model, tiny_data):
    x = tiny_data.test.batch(slice(0, 5))
    for recipe in RECIPES:
        model = make_model(recipe).eval()
        traces = []
        for features in (None, model.bottom_up(x)):
            with isolated_random(model.device):
                seed_all(1)
                traces.append(model(x, 3, features=features))
        assert torch.equal(*(trace.log_weight(x) for trace in traces)), recipe


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("num_samples", [1, 7, 50])
def test_the_bottom_up_path_sees_every_example_once(recipe, num_samples, make_model, tiny_data):
    model, seen = make_model(recipe), []
    model.bottom_up.register_forward_hook(lambda module, inputs, _: seen.append(inputs[0]))
    evaluate(model, tiny_data, num_samples=num_samples, batch_size=25, max_rows=100)
    assert torch.equal(torch.cat(seen), tiny_data.test.batch(slice(None)))


# Memory


class Memory(TorchDispatchMode):
    """Most bytes that tensors which are made in the block hold at once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.most = 0
        self.known: set[int] = set()  # storages that are counted

    def __torch_dispatch__(self, function, types, arguments=(), settings=None):
        result = function(*arguments, **(settings or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor):
                self.meet(tensor.untyped_storage())
        return result

    def meet(self, storage: torch.UntypedStorage) -> None:
        """Count a storage until the last tensor that uses it is gone."""
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.bytes += size
            self.most = max(self.most, self.bytes)
            weakref.finalize(storage, self.leave, key, size)

    def leave(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.bytes -= size


def memory_of(model: HierarchicalVAE, data: DataSet, **settings: int) -> int:
    with Memory() as memory:
        evaluate(model, data, batch_size=20, **settings)
    return memory.most


def test_the_measured_memory_is_that_of_the_tensors_alive_at_once():
    with Memory() as memory:
        a = torch.zeros(1000, dtype=torch.float64)
        b = a[:500].view(50, 10)  # no memory of its own
        del a
        c = b + 1
        del b, c
        torch.zeros(300, dtype=torch.float64)
    assert memory.most == 8 * 1500 and memory.bytes == 0


@pytest.mark.parametrize("prior", OPTIONS)
def test_memory_does_not_grow_with_the_number_of_draws(prior, make_layer_model, tiny_data):
    model = make_layer_model(prior)
    few, many = (memory_of(model, tiny_data, num_samples=s, max_rows=400) for s in (40, 400))
    assert many == few
    assert memory_of(model, tiny_data, num_samples=400, max_rows=1_000_000) > 10 * many


@pytest.mark.parametrize("prior", OPTIONS)
@pytest.mark.parametrize("max_rows", [100, 400, 1000])
def test_as_many_draws_are_held_as_allowed(prior, max_rows, make_layer_model, tiny_data):
    model, held = make_layer_model(prior), []
    model.register_forward_hook(lambda module, inputs, trace: held.append(trace.num_samples))
    evaluate(model, tiny_data, num_samples=30, batch_size=20, max_rows=max_rows)
    per_draw = 20 * OPTIONS[prior].get("num_samples", 1)
    assert max(held) == min(30, max_rows // per_draw)


def test_one_draw_of_every_example_is_the_least(make_model, tiny_data):
    model, held = make_model(), []
    model.register_forward_hook(lambda module, inputs, trace: held.append(trace.num_samples))
    evaluate(model, tiny_data, num_samples=3, batch_size=20, max_rows=1)
    assert held == [1] * 9


# Chunks


@pytest.fixture(scope="module")
def real_data() -> DataSet:
    """Real values in float64."""
    generator = torch.Generator().manual_seed(0)

    def split(size: int) -> Split:
        pixels = torch.randn(size, 6, generator=generator, dtype=torch.float64)
        return Split(pixels, torch.zeros(size, dtype=torch.int64), None)

    return DataSet("real", (2, 3), None, "none", *map(split, (20, 10, 24)))


@pytest.fixture
def fixed_noise(monkeypatch):
    """Noise that belongs to an example and the number of its draw, however the draws are cut."""

    def fix(num_examples: int, num_samples: int) -> None:
        generator, noise, used = torch.Generator().manual_seed(1), {}, {}

        def rsample(self: Normal, shape: tuple[int, ...] = ()) -> Tensor:
            (_, size), extra = self.loc.shape, tuple(shape)  # (N k, Z), draws of zeta or none
            whole = (*extra, num_examples, num_samples, size)
            if whole not in noise:
                noise[whole] = torch.randn(whole, generator=generator, dtype=torch.float64)
            k, start = len(self.loc) // num_examples, used.get(whole, 0)
            used[whole] = (start + k) % num_samples
            part = noise[whole][..., start : start + k, :]
            return self.loc + self.scale * part.flatten(-3, -2)

        monkeypatch.setattr(Normal, "rsample", rsample)

    return fix


@pytest.mark.parametrize("prior", OPTIONS)
def test_the_bounds_are_those_without_chunks(prior, real_data, fixed_noise):
    torch.manual_seed(0)
    model = hvae_course.recipes.ladder_vae(
        real_data,
        latent_sizes=(4, 3),
        hidden=(8,),
        normalisation="layer",
        prior=prior,
        prior_options=OPTIONS[prior],
    ).double()
    results = []
    for max_rows in (1_000_000, 24 * 16, 24 * 4, 1):  # whole, 16, 4 and 1 draws, 4, 1, 1 with vhp
        fixed_noise(24, 50)
        results.append(evaluate(model, real_data, num_samples=50, max_rows=max_rows))
    whole, *chunked = (torch.tensor(r.frame.to_numpy()) for r in results)
    for result in chunked:
        torch.testing.assert_close(result, whole, rtol=1e-10, atol=1e-10)


def test_log_weights_far_apart_neither_overflow_nor_vanish(real_data):
    """With p(x | z) as narrow as 1e-3 log-weights are about -1e6, whose exponential is 0."""
    torch.manual_seed(0)
    model = hvae_course.recipes.vae(
        real_data,
        latent_size=3,
        hidden=(8,),
        normalisation="layer",
        likelihood_options={"std": 1e-3},
    ).double()
    log_w = []

    def keep(module: HierarchicalVAE, inputs: tuple, trace: hvae_course.Trace) -> None:
        log_w.append(trace.log_weight(inputs[0]).unflatten(0, (-1, trace.num_samples)))

    model.register_forward_hook(keep)
    result = evaluate(model, real_data, num_samples=50, max_rows=24 * 7)
    best = torch.cat(log_w, dim=1).max(dim=1).values.mean()
    assert best < -1e5
    assert best - torch.tensor(50.0).log() <= result.log_likelihood.mean <= best
