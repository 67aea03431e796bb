"""What an evaluation costs: one bottom-up pass per example, and memory that S leaves alone."""

import weakref
from collections import Counter
from dataclasses import replace

import pytest
import torch
from recipe_kinds import PERCEPTRONS
from torch import Tensor
from torch.distributions import Normal
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

import hvae_course
from hvae_course import evaluate
from hvae_course.analysis import aggregate_split, diagnose, memory
from hvae_course.analysis.evaluation import MAX_ROWS, usual_rows
from hvae_course.analysis.memory import rows_in_memory
from hvae_course.data import DataSet, Split
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.recipes import PRIORS, RECIPES
from hvae_course.seeding import isolated_random, seed_all

pytestmark = pytest.mark.slow

OPTIONS = {
    "standard": {},
    "normal": {},
    "mixture": {"num_components": 5},
    "vamp": {"num_components": 5, "start": "random"},
    "vhp": {"num_samples": 4, "hidden": (6,)},
    "flow": {"hidden": (6,)},
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


# The usual limit


def images(shape: tuple[int, ...], num_values: int, size: int = 24) -> DataSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, num_values, (size, *shape), generator=generator)
    part = Split(pixels, torch.zeros(size, dtype=torch.int64), num_values - 1)
    return DataSet("random", shape, num_values, "none", part, part, part)


def rows_of(model: HierarchicalVAE, data: DataSet) -> int:
    with torch.no_grad():
        return usual_rows(model.eval(), data.test.batch(slice(0, 1)))


@pytest.mark.parametrize("recipe", PERCEPTRONS)
@pytest.mark.parametrize("likelihood", ["categorical", "discretized_logistic"])
def test_small_models_hold_as_many_draws_as_without_a_measure_of_memory(
    recipe, likelihood, tiny_data
):
    """The draws, and so the stored results of the notebooks, depend on this number."""
    shape = {"latent_sizes": (32, 16, 8, 4, 2), "hidden": (256, 256)}
    model = getattr(hvae_course.recipes, recipe)(tiny_data, **shape, likelihood=likelihood)
    assert rows_of(model, tiny_data) == MAX_ROWS == 20_000


@pytest.mark.parametrize(
    ("shape", "num_values", "likelihood"),
    [((28, 28), 17, "categorical"), ((3, 32, 32), 256, "discretized_logistic")],
    ids=["28x28, 17 values", "RGB"],
)
def test_a_model_of_larger_images_holds_fewer_draws_and_stays_within_the_budget(
    shape, num_values, likelihood, monkeypatch
):
    data = images(shape, num_values)
    model = hvae_course.recipes.ladder_vae(data, hidden=(64,), likelihood=likelihood)
    assert 2_000 < rows_of(model, data) < 6_000
    monkeypatch.setattr(memory, "CPU_BUDGET", 2**25)  # 32 MB
    with Memory() as used:
        evaluate(model, data, num_samples=100, batch_size=24)
    assert 2**24 < used.most < 1.15 * 2**25  # with the data


def test_the_way_up_counts_where_it_takes_more_than_the_way_down(monkeypatch):
    """With one draw per example, as many examples as draws pass the bottom-up path."""
    data = images((8, 8), 17, size=900)
    model = hvae_course.recipes.vae(
        data, hidden=(8,), inference_hidden=(20_000,), likelihood="discretized_logistic"
    )
    monkeypatch.setattr(memory, "CPU_BUDGET", 2**26)  # 64 MB
    with Memory() as used:
        evaluate(model, data, num_samples=1, batch_size=900)
    assert 2**25 < used.most < 1.15 * 2**26  # with weights that are seen transposed


def test_memory_counts_what_a_mixed_type_takes(tiny_data):
    model = hvae_course.recipes.vae(images((28, 28), 17), hidden=(64,))
    single = rows_of(model, images((28, 28), 17))
    model.double()
    x = images((28, 28), 17).test.batch(slice(0, 1)).double()
    with torch.no_grad():
        assert usual_rows(model, x) < 0.7 * single


def test_batches_shrink_where_one_draw_per_example_is_too_much(monkeypatch):
    data, held = images((28, 28), 17), []
    model = hvae_course.recipes.vae(data, hidden=(64,))
    monkeypatch.setattr(memory, "CPU_BUDGET", 7 * 112_000)  # a draw takes about 112 kB
    model.register_forward_hook(
        lambda module, inputs, trace: held.append(len(inputs[0]) * trace.num_samples)
    )
    result = evaluate(model, data, num_samples=3, batch_size=24, per_example=True)
    assert max(held) == result.max_rows < 24 and sum(held) == 3 * 24
    assert len(result.per_example) == 24


def test_the_measure_leaves_no_trace(make_layer_model, tiny_data):
    """Neither hooks on the model nor the draws of the evaluation notice it."""
    for prior in OPTIONS:
        model, seen = make_layer_model(prior), Counter()
        model.register_forward_hook(lambda model, x, trace, seen=seen: seen.update(rows=len(x[0])))
        usual = evaluate(model, tiny_data, num_samples=3)
        assert seen["rows"] == 60
        assert evaluate(model, tiny_data, num_samples=3, max_rows=20_000) == usual


def test_the_pseudo_inputs_of_a_prior_do_not_count_as_rows(make_model, tiny_data):
    counts = []
    for number in (2, 100):
        options = {"num_components": number, "start": "random"}
        model = make_model(
            "ladder_vae", normalisation="layer", prior="vamp", prior_options=options
        )
        run = rows_in_memory(
            lambda n, m=model: m.forward(tiny_data.test.batch(slice(0, n)), 1),
            torch.device("cpu"),
            most=10**9,
        )
        counts.append(run)
    assert counts[0] == counts[1]


def test_an_interrupted_evaluation_with_the_usual_limit_resumes(make_model, tiny_data, tmp_path):
    model, path = make_model(), tmp_path / "part.pt"
    expected = evaluate(model, tiny_data, num_samples=3, batch_size=20, per_example=True)
    calls = []

    def stop(*_) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    hook = model.register_forward_hook(stop)
    settings = {"num_samples": 3, "batch_size": 20, "partial": path, "per_example": True}
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, tiny_data, **settings)
    hook.remove()
    result = evaluate(model, tiny_data, **settings)
    assert result == expected and result.per_example.equals(expected.per_example)


def test_part_of_an_evaluation_of_other_data_is_refused(make_model, tiny_data, tmp_path):
    """Name and sizes agree, the pixels do not."""
    model, path = make_model(), tmp_path / "part.pt"
    hook = model.register_forward_hook(lambda *_: 1 / 0 if path.exists() else None)
    with pytest.raises(ZeroDivisionError):
        evaluate(model, tiny_data, num_samples=1, batch_size=20, partial=path)
    hook.remove()
    other = replace(tiny_data, test=tiny_data.test.select(torch.arange(59, -1, -1)))
    assert str(other) == str(tiny_data)
    with pytest.raises(ValueError, match="part of another evaluation: content of the data was"):
        evaluate(model, other, num_samples=1, batch_size=20, partial=path)


def test_a_diagnosis_does_not_hold_the_likelihood(make_model, tiny_data):
    model = make_model()
    model.top_down.likelihood.register_forward_hook(lambda *_: 1 / 0)
    assert len(diagnose(model, tiny_data, num_samples=3)) == 2


def test_pairs_of_examples_are_scored_within_the_budget(make_model, tiny_data, monkeypatch):
    model, x = make_model("ladder_vae", hidden=(256,)).eval(), tiny_data.test.batch(slice(None))
    torch.manual_seed(0)
    whole = aggregate_split(model, x)
    monkeypatch.setattr(memory, "CPU_BUDGET", 2**20)
    torch.manual_seed(0)
    with Memory() as used:
        cut = aggregate_split(model, x)
    assert used.most < 2 * 2**20
    for a, b in zip(whole[0], cut[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
