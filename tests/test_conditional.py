"""Models of x given its label: exact answers, what depends on the label, and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from linear_gaussian import D
from recipe_kinds import CONDITIONAL, OF_ANY_NETWORKS, PERCEPTRONS, RECIPE_STATES
from test_networks import Convolutions
from torch import Tensor, nn
from torch.distributions import Normal

from hvae_course import fit
from hvae_course.analysis import classify, evaluate
from hvae_course.config import Model
from hvae_course.data import DataSet, DataSpec, Split, Standardisation, load
from hvae_course.gaussians import LOG_STD_BOUND
from hvae_course.hierarchy import HierarchicalVAE, centre_of, hold, prior_mean, with_label
from hvae_course.objectives import elbo, importance_weighted
from hvae_course.oracles import LinearGaussian
from hvae_course.recipes import build, read_config
from hvae_course.training import Checkpoint, load_checkpoint, save_checkpoint

C = 3
SIZES = (4, 3, 2)
recipe_names = pytest.mark.parametrize("recipe", CONDITIONAL)
recipe_states = pytest.mark.parametrize(("recipe", "state"), RECIPE_STATES)


@pytest.fixture
def make(make_model):
    """Build a small conditional model of the digits, usually of three levels."""

    def build_small(recipe: str = "ladder_vae", **settings) -> HierarchicalVAE:
        settings = {"latent_sizes": SIZES, "conditional": True} | settings
        return make_model(recipe, **settings)

    return build_small


@pytest.fixture
def x(tiny_data) -> Tensor:
    return tiny_data.train.batch(slice(0, 5))


@pytest.fixture
def y(tiny_data) -> Tensor:
    return tiny_data.train.labels[:5]


# Exact answers


CHAINS = {
    1: LinearGaussian((1.3,), (0.4,)),
    2: LinearGaussian((1.0, 0.9), (0.25, 0.19)),
    3: LinearGaussian((0.8, -1.1, 0.6), (0.3, 0.5, 0.2)),
}
OFFSETS = ((-2.0, 0.5, 1.0), (0.7, -0.3, 1.5), (0.2, 0.4, -1.0))
"""What each class adds to the mean of x, of z_1 and of z_2."""


def means(chain: LinearGaussian) -> Tensor:
    """Mean of (x, z_1, ..., z_L) given each class, ``(L + 1, C)``."""
    rows = [torch.zeros(C, dtype=D)]
    below = OFFSETS[: chain.num_levels]
    for slope, offsets in zip(chain.slopes[::-1], below[::-1], strict=True):
        rows.append(slope * rows[-1] + torch.tensor(offsets, dtype=D))
    return torch.stack(rows[::-1])


def gaussian(chain: LinearGaussian, of: int, given: list[int]) -> tuple[Tensor, Tensor, float]:
    """Slopes, the offset of each class and the variance of one variable given others."""
    c, m = chain.covariance(), means(chain)
    slopes = torch.linalg.solve(c[given][:, given], c[given, of])
    return slopes, m[of] - slopes @ m[given], (c[of, of] - slopes @ c[given, of]).item()


def set_linear(network: nn.Module, slopes: dict[int, float], offsets: Tensor, raw: float) -> None:
    """Write an affine map into the only linear layer; offsets go to the first block of labels."""
    (layer,) = (part for part in network.modules() if isinstance(part, nn.Linear))
    weight, bias = torch.zeros_like(layer.weight.data), torch.zeros_like(layer.bias.data)
    for column, slope in slopes.items():
        weight[0, column] = slope
    first = next(k for k in range(weight.shape[1]) if k not in slopes)
    weight[0, first : first + C] = offsets
    bias[1] = raw
    layer.weight.data, layer.bias.data = weight, bias


def raw_scale(log_std: float) -> float:
    return LOG_STD_BOUND * math.atanh(log_std / LOG_STD_BOUND)  # undoes bound_log_std


def exact_model(recipe: str, chain: LinearGaussian) -> HierarchicalVAE:
    """A recipe without hidden layers, whose weights are those of the true model and posterior."""
    depth = chain.num_levels
    options = {"latent_sizes": (1,) * depth, "hidden": (), "normalisation": "none"}
    options |= {"likelihood": "gaussian", "conditional": True}
    model = build(Model(recipe=recipe, **options), DataSpec(1, None, num_classes=C)).double()
    parts = [model.top_down.likelihood.net, *model.top_down.conditionals]
    for l, part in enumerate(parts):  # p(x | z_1, y), p(z_1 | z_2, y), ...
        slopes, offsets, variance = gaussian(chain, l, [l + 1])
        set_linear(part, {0: slopes[0]}, offsets, raw_scale(0.5 * math.log(variance)))
    networks = model.posterior.heads if recipe == "bottom_up" else model.posterior.rules
    for l, part in enumerate(networks, start=1):
        top, below, above = l == depth, [l - 1], [0, l + 1]
        given = below if recipe == "bottom_up" else [0] if top else above
        if recipe == "ladder" and not top:  # the message p(x | z_l, y), as a Gaussian over z_l
            (slope,), offsets, variance = gaussian(chain, 0, [l])
            slopes, offsets, variance = 1 / slope[None], -offsets / slope, variance / slope**2
        else:
            slopes, offsets, variance = gaussian(chain, l, given)
        log_std = 0.5 * math.log(variance)
        columns = [0] if len(slopes) == 1 else [0, 1 + C]  # x, y, z_l+1, y
        if recipe == "delta" and not top:
            a, shift, s = gaussian(chain, l, [l + 1])
            slopes, offsets = slopes - torch.cat([0 * a, a]), offsets - shift
            log_std -= 0.5 * math.log(s)
        set_linear(part, dict(zip(columns, slopes, strict=True)), offsets, raw_scale(log_std))
    return model


def log_px(chain: LinearGaussian, x: Tensor) -> Tensor:
    """Exact log p(x | y) of every example and class, ``(B, C)``."""
    variance = chain.covariance()[0, 0]
    return Normal(means(chain)[0], variance.sqrt()).log_prob(x)


EXACT = [(r, l) for r in ("bottom_up", "delta", "ladder", "bidirectional") for l in CHAINS]


@pytest.mark.parametrize(("recipe", "depth"), [*EXACT, ("mean_field", 1)])
def test_with_the_exact_posterior_every_draw_gives_the_evidence_given_the_label(recipe, depth):
    """If q(z|x, y) = p(z|x, y) then p(x, z|y) / q(z|x, y) = p(x|y), whatever z was drawn."""
    chain = CHAINS[depth]
    model, x = exact_model(recipe, chain), 2 * torch.randn(30, 1, dtype=D)
    for label in range(C):
        y = torch.full((30,), label)
        expected = log_px(chain, x)[:, label].repeat_interleave(4)
        log_w = model(x, 4, y=y).log_weight(x)
        torch.testing.assert_close(log_w, expected, rtol=0, atol=1e-10)
    y = torch.randint(C, (30,))
    mixed = model(x, y=y).log_weight(x)
    expected = log_px(chain, x)[torch.arange(30), y]
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("recipe", ["bottom_up", "bidirectional"])
def test_samples_of_a_class_have_its_mean_and_the_top_level_has_that_of_the_prior(
    recipe, assert_mean
):
    chain = CHAINS[3]
    model = exact_model(recipe, chain)
    for label, expected in enumerate(means(chain).T):
        trace = model.generate(20_000, y=torch.full((20_000,), label))
        values = torch.cat([trace.px.sample(), *(level.z for level in trace.levels)], dim=1)
        assert_mean(values, expected)


# Classification, by Bayes' rule


def labelled(x: Tensor, y: Tensor | None, train: Tensor | None = None) -> DataSet:
    """Real values with one feature, whose test split has these labels."""
    test = Split(x, y, None)
    train = Split(torch.randn(len(train), 1), train, None) if train is not None else test
    return DataSet("classes", (1,), None, "none", train, test, test, num_classes=C)


TRAIN = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2, 2])


@pytest.mark.parametrize("recipe", ["bottom_up", "ladder", "bidirectional"])
@pytest.mark.parametrize("prior", [None, (0.6, 0.4, 0.0)])
def test_with_the_exact_posterior_the_class_follows_bayes_rule_exactly(recipe, prior):
    chain, x = CHAINS[3], 2 * torch.randn(30, 1)
    p_y = torch.tensor([0.2, 0.3, 0.5] if prior is None else prior, dtype=D)
    joint = log_px(chain, x.double()).exp() * p_y
    expected = (joint / joint.sum(dim=1, keepdim=True)).log()
    data = labelled(x, expected.argmax(dim=1), TRAIN)
    found = classify(exact_model(recipe, chain), data, num_samples=3, prior=prior)
    torch.testing.assert_close(found.log_posterior, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.prior, p_y)
    assert torch.equal(found.predicted, expected.argmax(dim=1))
    assert (found.accuracy, found.standard_error) == (1.0, 0.0)


def test_a_model_that_ignores_the_label_repeats_the_shares_of_the_classes(make, tiny_data):
    model = make("ladder_vae", normalisation="none").eval()
    nets = [model.bottom_up.blocks[0], model.top_down.likelihood, *model.top_down.conditionals]
    for net in nets:
        first = next(layer for layer in net.modules() if isinstance(layer, nn.Linear))
        first.weight.data[:, -10:] = 0
    found, before = classify(model, tiny_data, num_samples=2), torch.get_rng_state()
    shares = tiny_data.train.labels.bincount(minlength=10).double() / len(tiny_data.train)
    torch.testing.assert_close(found.log_posterior.exp(), shares.expand(60, 10))
    assert (found.predicted == shares.argmax()).all()
    classify(model, tiny_data, num_samples=1, split="validation")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_trained_model_classifies_far_above_chance(make_model):
    """One in ten by chance; on all digits, and trained for longer, it is nine in ten."""
    digits = load("digits")
    model = make_model("ladder_vae", digits, hidden=(64,), conditional=True)
    fit(model, digits, epochs=3, learning_rate=1e-2, progress=False)
    found = classify(model, digits, num_samples=2)
    assert found.accuracy > 0.6
    assert found.accuracy == pytest.approx((found.predicted == digits.test.labels).float().mean())
    assert str(found).startswith(f"accuracy {found.accuracy:.3f} +- 0.0")


def test_examples_without_labels_are_classified_without_an_accuracy():
    data = labelled(torch.randn(7, 1), None, TRAIN)
    found = classify(exact_model("ladder", CHAINS[1]), data, num_samples=1)
    assert found.labels is found.accuracy is found.standard_error is None
    assert str(found) == "7 examples, accuracy unknown without labels"
    assert found.predicted.shape == (7,) and found.log_posterior.shape == (7, C)


X = torch.randn(10, 1, generator=torch.Generator().manual_seed(0))
UNFIT = {
    "no training labels": (
        labelled(X, None),
        None,
        "has no labels to count; pass prior=, the prob",
    ),
    "sum": (labelled(X, TRAIN), (0.2, 0.2, 0.2), "3 probabilities that sum to 1, got .0.2, 0.2, "),
    "sign": (labelled(X, TRAIN), (-0.5, 0.5, 1.0), "3 probabilities that sum to 1, got .-0.5"),
    "NaN": (labelled(X, TRAIN), (math.nan, 0.5, 0.5), "3 probabilities that sum to 1, got .nan"),
    "number": (labelled(X, TRAIN), (0.5, 0.5), "3 probabilities that sum to 1, got .0.5, 0.5"),
    "classes": (
        labelled(X, TRAIN + 1, TRAIN),
        None,
        "labels 0 to 2, got labels from 1 to 3 in the test",
    ),
    "training classes": (labelled(X, TRAIN, TRAIN - 1), None, "from -1 to 1 in the train"),
}


@pytest.mark.parametrize(("data", "prior", "match"), UNFIT.values(), ids=UNFIT)
def test_what_cannot_be_classified_is_refused(data, prior, match):
    with pytest.raises(ValueError, match=match):
        classify(exact_model("ladder", CHAINS[1]), data, prior=prior)


def test_a_model_of_x_alone_cannot_classify(make_model, tiny_data):
    with pytest.raises(ValueError, match="only a conditional model can classify, and this one"):
        classify(make_model(), tiny_data)


def test_a_class_is_not_read_off_bounds_that_are_not_finite():
    model = exact_model("ladder", CHAINS[1])
    model.top_down.likelihood.net[1].bias.data[0] = math.nan
    with pytest.raises(FloatingPointError, match="bounds of .* of 10 examples are not finite"):
        classify(model, labelled(X, TRAIN), num_samples=1)


# What depends on the label


def moves(before: Tensor, after: Tensor) -> bool:
    return not torch.equal(before, after)


@recipe_states
def test_every_part_but_the_prior_over_the_top_reads_the_label(recipe, state, make, x, y):
    """Held at the same values, a level is judged by the label alone."""
    model = make(recipe, state=state).eval()
    other, held = (y + 1) % 10, [level.z for level in model(x, y=y).levels]

    def walk(label: Tensor) -> tuple:
        choose = model.posterior.score(model.features(x, label), held)
        return model.top_down.walk(model.top_prior(), choose, 5, model.one_hot(label, 5))

    (first, h), (second, h_other) = walk(y), walk(other)
    for l, (a, b) in enumerate(zip(first, second, strict=True), start=1):
        assert moves(a.q.mean, b.q.mean) and moves(a.q.stddev, b.q.stddev), l
        assert moves(centre_of(a.p), centre_of(b.p)) == (l < 3), l
    likelihood = model.top_down.likelihood
    assert moves(likelihood(h).mean, likelihood(h_other).mean)


@pytest.mark.parametrize("recipe", PERCEPTRONS)
@pytest.mark.parametrize("state", ["markov", "skip"])
def test_the_weights_of_every_label_receive_a_gradient(recipe, state, make, x):
    """The columns that read the label are the last of a layer that reads z, or x, as well."""
    model, y = make(recipe, state=state, normalisation="layer"), torch.arange(10)
    x = x.repeat(2, 1)
    elbo(model(x, y=y), x).mean().backward()
    nets = [model.bottom_up.blocks[0], model.top_down.likelihood, *model.top_down.conditionals]
    if recipe == "bottom_up_vae":
        nets += model.posterior.heads[1:]
    if recipe in ("delta_vae", "bidirectional_vae"):
        nets += model.posterior.rules
    for net in nets:
        first = next(layer for layer in net.modules() if isinstance(layer, nn.Linear))
        assert (first.weight.grad[:, -10:] != 0).any(dim=0).all()


def test_a_row_depends_on_its_own_label_alone(make, x, y):
    model, changed = make().eval(), y.clone()
    changed[2] = (y[2] + 1) % 10
    first, second = (model.features(x, label)[0] for label in (y, changed))
    assert [moves(a, b) for a, b in zip(first, second, strict=True)] == [i == 2 for i in range(5)]


@recipe_names
def test_draws_of_an_example_share_its_label_and_features_can_be_handed_in(recipe, make, x, y):
    model, traces = make(recipe).eval(), []
    for features in (None, model.features(x, y)):
        torch.manual_seed(1)
        traces.append(model(x, 3, features=features, y=y))
    assert torch.equal(traces[0].log_weight(x), traces[1].log_weight(x))
    torch.manual_seed(1)
    repeated = model(x.repeat_interleave(3, 0), y=y.repeat_interleave(3))
    torch.testing.assert_close(traces[0].px.mean, repeated.px.mean)
    assert importance_weighted(traces[0], x).shape == (5,)


def test_a_label_that_is_held_makes_variations_of_its_class(make, y):
    model = make("bidirectional_vae").eval()
    z = {3: torch.randn(1, 2).expand(5, -1)}
    first, again, other = (
        model.generate(5, hold(z, prior_mean), y=label).px.mean for label in (y, y, y.flip(0))
    )
    assert torch.equal(first, again) and moves(first, other)
    assert torch.equal(first[y == y[0]], first[:1].expand(int((y == y[0]).sum()), -1))


@recipe_names
def test_the_posterior_at_the_top_reads_the_label(recipe, make, x, y):
    model = make(recipe, latent_sizes=(4,)).eval()
    if model.posterior.reads_top_prior:
        with pytest.raises(TypeError, match="use Direct at the top level"):
            model.encode_top(x, y)
        return
    q, other = model.encode_top(x, y), model.encode_top(x, (y + 1) % 10)
    assert moves(q.mean, other.mean)
    torch.testing.assert_close(q.mean, model(x, y=y).levels[0].q.mean)


# One model with and without labels


@recipe_names
def test_a_model_of_x_alone_is_built_with_the_same_draws_as_before(recipe, make, tiny_data):
    """The option adds inputs where it is set, and nothing where it is not."""
    plain, labelled = make(recipe, conditional=False), make(recipe)
    assert plain.num_classes is None and plain.config["conditional"] is False
    assert "num_classes" not in plain.config
    shapes = {name: tuple(value.shape) for name, value in plain.state_dict().items()}
    for name, value in labelled.state_dict().items():
        wider = tuple(value.shape) != shapes[name]
        assert not wider or value.shape[1] - shapes[name][1] in (10, 20), name
    without = build(Model(**{**_options(plain), "conditional": False}), DataSpec((8, 8), 17))
    assert without.config == plain.config and str(without) == str(plain)


def _options(model: HierarchicalVAE) -> dict:
    names = ("recipe", "latent_sizes", "hidden", "networks_options")
    return {name: model.config[name] for name in names}


@recipe_states
def test_a_conditional_model_is_rebuilt_from_its_checkpoint(recipe, state, make, x, y, tmp_path):
    model, path = make(recipe, state=state).eval(), tmp_path / "labels.pt"
    assert model.config["num_classes"] == model.num_classes == 10
    save_checkpoint(Checkpoint(model.config, model.state_dict()), path)
    checkpoint = load_checkpoint(path)
    again = build(checkpoint.config).eval()
    again.load_state_dict(checkpoint.weights)
    assert again.config == model.config and again.num_classes == 10
    torch.manual_seed(1)
    first = model(x, y=y).log_weight(x)
    torch.manual_seed(1)
    assert torch.equal(again(x, y=y).log_weight(x), first)


def test_the_whole_specification_of_the_data_stays_with_the_model():
    scale = Standardisation((0.5, 1.0), (2.0, 3.0))
    names = {"feature_names": ("height", "weight"), "standardisation": scale}
    for spec in (
        DataSpec(2, None, num_classes=4, **names),
        DataSpec((1, 2), None, missing=True, num_classes=4),
        DataSpec(2, None, counts=True, num_classes=4),
    ):
        config = build(Model(conditional=True), spec).config
        assert read_config(config)[1] == spec
        assert not {"counts", "missing"} & {n for n in config if config[n] is False}
        alone = replace(spec, num_classes=None)
        assert read_config(build(Model(), spec).config)[1] == alone


# Training


@recipe_states
def test_a_conditional_step_runs_on_a_device_without_values(recipe, state):
    with torch.device("meta"):
        spec = DataSpec((8, 8), 17, num_classes=10)
        model = build(Model(recipe=recipe, state=state, conditional=True), spec)
        x, y = torch.rand(5, 64), torch.zeros(5, dtype=torch.int64)
    trace = model(x, 3, y=y)
    importance_weighted(trace, x).mean().backward()
    assert all(p.grad.device.type == "meta" for p in model.parameters())
    assert model.generate(4, y=y[:4]).px.mean.shape == (4, 64)


@recipe_names
def test_a_compiled_conditional_model_gives_the_same_distributions(recipe, make, x, y):
    model = make(recipe, normalisation="layer").eval()
    compiled = torch.compile(model.features, backend="eager", fullgraph=True)
    for plain, captured in zip(model.features(x, y), compiled(x, y), strict=True):
        torch.testing.assert_close(plain, captured)


# Other networks


class Planes(nn.Module):
    """Rows of pixels and label as an image whose other channels hold the label."""

    def forward(self, rows: Tensor) -> Tensor:
        return with_label(rows[:, :64].unflatten(1, (1, 8, 8)), rows[:, 64:])


class LabelledConvolutions(Convolutions):
    """Convolutions that have 10 more channels wherever a label is read."""

    def feature(self, l):
        if l:
            return super().feature(l)
        return nn.Sequential(Planes(), nn.Conv2d(11, 5, 2, stride=2), nn.SiLU())

    def upward(self, l):
        return self.head_of(self.model.latent_sizes[l - 1] + 10, l, stride=2)

    def head(self, l):
        return self.head_of(20, l)

    def delta(self, l, *, reads_state):
        return self.head_of(20 if reads_state else 5, l, kind=nn.Conv2d)

    def prior(self, l):
        return self.head_of(15, l)

    def decoder(self, num_outputs):
        return nn.Sequential(nn.Conv2d(15, num_outputs // 64, 1), nn.Flatten())


@pytest.mark.parametrize("recipe", OF_ANY_NETWORKS)
def test_a_label_is_repeated_at_every_position_of_an_image(recipe, tiny_data, x, y):
    model = Model(recipe=recipe, latent_sizes=SIZES, conditional=True)
    vae = build(model, tiny_data, networks=LabelledConvolutions, seed=0)
    trace = vae(x, 2, y=y)
    elbo(trace, x).mean().backward()
    assert [tuple(level.z.shape[1:]) for level in trace.levels] == [
        (4, 4, 4),
        (3, 2, 2),
        (2, 1, 1),
    ]
    choose = hold({l: level.z[::2] for l, level in enumerate(trace.levels, start=1)})
    assert moves(vae.generate(5, choose, y).px.mean, vae.generate(5, choose, y.flip(0)).px.mean)


def test_a_label_joins_states_of_every_resolution_and_nothing_without_labels():
    y, h = torch.eye(3)[[2, 0]], torch.randn(2, 4, 5, 6)
    joined = with_label(h, y)
    assert joined.shape == (2, 7, 5, 6) and torch.equal(joined[:, :4], h)
    assert torch.equal(joined[:, 4:].amin(dim=(2, 3)), y)
    assert torch.equal(joined[:, 4:].amax(dim=(2, 3)), y)
    assert with_label(h, None) is h
    assert torch.equal(with_label(torch.empty(2, 0), y), y)
    with pytest.raises(TypeError, match="only tensors can be joined, got dict; write a rule or"):
        with_label({"above": h}, y)


# What is refused


WRONG = {
    "none": (lambda y: None, r"and got no labels; pass y=, int64 labels from 0 to 9, one for"),
    "floats": (lambda y: y.float(), r"got the shape \(5,\) and torch.float32; use torch.as_te"),
    "one-hot": (lambda y: torch.eye(10)[y], r"got the shape \(5, 10\).*use y.argmax\(dim=1\)"),
    "list": (lambda y: y.tolist(), "must be a tensor of int64 .* got list; use torch.as_tensor"),
    "strings": (lambda y: ["a"] * 5, "must be a tensor of int64 .* got list"),
    "scalar": (lambda y: torch.tensor(3), r"one for each of 5 rows, got the shape \(\)"),
    "too few": (lambda y: y[:4], r"one for each of 5 rows, got the shape \(4,\)"),
    "too large": (lambda y: y + 10, "from 0 to 9, one for each of 5 rows, got labels from 1"),
    "negative": (lambda y: y - 10, "from 0 to 9, one for each of 5 rows, got labels from -"),
}


@pytest.mark.parametrize(("change", "match"), WRONG.values(), ids=WRONG)
def test_what_are_not_labels_is_refused_wherever_labels_go(change, match, make, x, y):
    model, wrong = make(), change(y)
    for use in (
        lambda: model(x, y=wrong),
        lambda: model.generate(5, y=wrong),
        lambda: model.features(x, wrong),
    ):
        with pytest.raises(ValueError, match=match):
            use()


@pytest.mark.parametrize("wrong", ["labels", 2.0, "3"])
def test_what_is_no_number_of_draws_is_refused_with_the_place_of_labels(wrong, make, x, y):
    match = r"num_samples must be a whole number, got (Tensor|float|str); .* model\(x, y=labels\)"
    with pytest.raises(TypeError, match=match):
        make()(x, y if wrong == "labels" else wrong)


def test_a_walk_wants_labels_as_vectors(make, y):
    model = make()
    with pytest.raises(ValueError, match=r"one-hot, \(B, C\), got the shape \(5,\); write"):
        model.top_down.walk(model.top_prior(), prior_mean, 5, y)


def test_a_label_outside_the_range_gives_nan_where_a_check_would_wait(make, x, y):
    model, wrong = make().eval(), torch.tensor([1, -1, 10, 9, 0])
    compiled = torch.compile(model.one_hot, backend="eager", fullgraph=True)
    hot = compiled(wrong, 5)
    assert hot.isnan().all(dim=1).tolist() == [False, True, True, False, False]
    assert hot[[0, 3, 4]].argmax(dim=1).tolist() == [1, 9, 0] and (hot[[0, 3]].sum(1) == 1).all()


@pytest.mark.parametrize("labels", ["none", "other"])
def test_data_without_the_labels_of_the_model_are_refused_before_any_work(
    labels, make, train, tiny_data
):
    others = None if labels == "none" else tiny_data.test.labels + 5
    parts = {name: replace(tiny_data.test, labels=others) for name in ("train", "validation")}
    data = replace(tiny_data, **parts, test=parts["train"])
    match = "needs labels" if others is None else "the labels 0 to 9, got labels from 5 to 14"
    for work in (train, lambda model, data: evaluate(model, data, num_samples=1)):
        with pytest.raises(ValueError, match=match):
            work(make(), data)


def test_a_split_whose_classes_are_all_new_is_refused(make, train, tiny_data):
    """As in the test split of Omniglot; a few classes without training examples are let pass."""
    model = make()
    data = replace(tiny_data, train=replace(tiny_data.train, labels=tiny_data.train.labels % 5))
    new = replace(data, test=replace(data.test, labels=data.test.labels % 5 + 5))
    with pytest.raises(ValueError, match=r"labels 5 to 9 of the split.*omniglot.*; choose a spl"):
        evaluate(model, new, num_samples=1)
    for split in ("train", "validation"):
        evaluate(model, new, split=split, num_samples=1)
    evaluate(model, data, num_samples=1)
    train(model, data=new, epochs=1)


def test_a_posterior_that_reads_a_label_belongs_to_a_conditional_model(make):
    model = make("bottom_up_vae")
    with pytest.raises(ValueError, match="posterior Chain reads a label and the model has none"):
        HierarchicalVAE(
            model.prior, model.bottom_up, posterior=model.posterior, top_down=model.top_down
        )


def test_a_model_of_x_alone_takes_no_labels(make, x, y):
    model = make(conditional=False)
    for use in (lambda: model(x, y=y), lambda: model.generate(5, y=y)):
        with pytest.raises(ValueError, match="takes no labels, got y; leave it out, or build"):
            use()


def test_data_without_labels_give_no_conditional_model():
    with pytest.raises(ValueError, match="needs the number of classes, and the data have no lab"):
        build(Model(conditional=True), DataSpec((8, 8), 17))


@pytest.mark.parametrize("classes", [0, -1, 2.0, "3"])
def test_a_number_of_classes_that_is_none_is_refused(classes):
    match = f"num_classes is a whole number of at least 1 or None, got {classes!r}"
    with pytest.raises(ValueError, match=match):
        DataSpec((8, 8), 17, num_classes=classes)
    if isinstance(classes, int):
        parts = exact_model("ladder", CHAINS[1])
        with pytest.raises(ValueError, match=f"at least one class, got num_classes={classes}"):
            HierarchicalVAE(
                parts.prior,
                parts.bottom_up,
                posterior=parts.posterior,
                top_down=parts.top_down,
                num_classes=classes,
            )


def test_numbers_from_numpy_make_the_same_specification():
    spec = DataSpec(np.int64(6), np.int64(2), num_classes=np.int64(3))
    assert repr(spec) == repr(DataSpec(6, 2, num_classes=3))


def test_no_rows_need_no_labels_but_an_empty_tensor(make, y):
    assert make().generate(0, y=y[:0]).px.mean.shape == (0, 64)


def test_a_label_that_is_always_the_same_is_refused():
    pendulum = DataSpec((16, 16), None, num_classes=1)
    with pytest.raises(ValueError, match="the data have one class, so a label says nothing about"):
        build(Model(conditional=True), pendulum)
    assert build(Model(), pendulum).num_classes is None


def test_pseudo_inputs_without_labels_are_refused():
    with pytest.raises(ValueError, match="pseudo-inputs of the prior 'vamp' have no labels.*choo"):
        Model(conditional=True, prior="vamp", normalisation="layer")
    for prior in ("standard", "mixture", "vhp"):
        build(Model(conditional=True, prior=prior), DataSpec(6, 2, num_classes=3))
