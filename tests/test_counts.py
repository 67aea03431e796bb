"""Counts: exact probabilities of small and large ones, their support, and what networks see."""

import math
import re

import pytest
import torch
from recipe_kinds import PERCEPTRONS
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions import NegativeBinomial as TextbookNegativeBinomial
from torch.distributions import Poisson as TextbookPoisson

from hvae_course import evaluate, fit, recipes
from hvae_course.counts import NegativeBinomialCounts, PoissonCounts
from hvae_course.data import DataSet, DataSpec, Split
from hvae_course.likelihoods import LARGEST_COUNT, NegativeBinomial, Poisson
from hvae_course.recipes import build

KINDS = ("poisson", "negative_binomial")
kinds = pytest.mark.parametrize("kind", KINDS)
D = torch.float64
VALUES = torch.tensor([0, 1, 2, 7, 15, 16, 17, 100, 1000], dtype=D)
LOG_MEANS = (-16.0, -3.0, 0.0, 1.0, 4.0, 9.0)
LOG_DISPERSIONS = (-10.0, -2.0, 0.0, 2.5, 3.0, 6.0)


def textbook(log_mean: Tensor, log_dispersion: Tensor | None = None) -> Distribution:
    """PyTorch's classes, with the formulas as they stand in textbooks."""
    if log_dispersion is None:
        return TextbookPoisson(log_mean.exp(), validate_args=False)
    r = log_dispersion.exp()
    return TextbookNegativeBinomial(r, logits=log_mean - log_dispersion, validate_args=False)


def counts(log_mean: Tensor, log_dispersion: Tensor | None = None) -> Distribution:
    if log_dispersion is None:
        return PoissonCounts(log_mean)
    return NegativeBinomialCounts(log_mean, log_dispersion)


def parameters(kind: str, dtype: torch.dtype = D) -> list[Tensor]:
    """All pairs of means and dispersions, each with an axis for the values behind it."""
    grids = [LOG_MEANS] if kind == "poisson" else [LOG_MEANS, LOG_DISPERSIONS]
    columns = torch.cartesian_prod(*(torch.tensor(grid, dtype=dtype) for grid in grids))
    return [*columns.reshape(-1, len(grids), 1).unbind(1)]


# Distributions


@kinds
def test_log_probabilities_are_those_of_the_textbook(kind):
    found, expected = (f(*parameters(kind)).log_prob(VALUES) for f in (counts, textbook))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-9)


@kinds
@pytest.mark.parametrize("mean", [1e4, 1e6, 1e7])
def test_the_float32_log_probability_of_a_large_count_is_right_to_a_thousandth(kind, mean):
    spread = torch.tensor([-3.0, -1.0, 0.0, 0.5, 3.0], dtype=D)
    x = (mean + spread * mean**0.5).round().float()
    given = [torch.tensor([math.log(mean)])] + ([torch.tensor([9.0])] * (kind != "poisson"))
    exact = textbook(*(p.double() for p in given)).log_prob(x.double())
    torch.testing.assert_close(
        counts(*given).log_prob(x).double(), exact, rtol=0, atol=2e-7 * mean**0.5 * 16 + 1e-5
    )
    if mean == 1e7:  # why PyTorch's formulas do not do
        assert (textbook(*given).log_prob(x) - exact).abs().max() > 0.1


@kinds
@pytest.mark.parametrize("log_mean", [-4.0, 0.0, 2.0, 5.0])
@pytest.mark.parametrize("log_dispersion", [-0.5, 2.0, 8.0])
def test_probabilities_of_all_counts_sum_to_one(kind, log_mean, log_dispersion):
    given = [torch.tensor([value], dtype=D) for value in (log_mean, log_dispersion)]
    distribution = counts(*given[: KINDS.index(kind) + 1])
    probability = distribution.log_prob(torch.arange(20_000, dtype=D)).exp()
    torch.testing.assert_close(probability.sum(), probability.new_tensor(1.0))
    mean = (probability * torch.arange(20_000, dtype=D)).sum()
    torch.testing.assert_close(distribution.mean[0], mean)


def test_the_variance_of_the_negative_binomial_exceeds_the_mean_by_its_square_over_r():
    m, r = 6.0, 2.5
    p = NegativeBinomialCounts(torch.tensor([math.log(m)]), torch.tensor([math.log(r)])).log_prob
    x = torch.arange(2_000, dtype=D)
    variance = (p(x).exp() * (x - m) ** 2).sum()
    torch.testing.assert_close(variance.item(), m + m**2 / r, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, D])
def test_for_a_large_dispersion_the_negative_binomial_becomes_the_poisson_distribution(dtype):
    (log_mean,) = parameters("poisson", dtype)
    x = log_mean.exp().round() + torch.arange(4, dtype=dtype)  # counts that can happen
    gaps = []
    for log_dispersion in (8.0, 16.0, 24.0, 32.0):
        nb = NegativeBinomialCounts(log_mean, torch.full_like(log_mean, log_dispersion))
        gaps.append((nb.log_prob(x) - PoissonCounts(log_mean).log_prob(x)).abs().max().item())
    assert gaps[0] > gaps[1] > gaps[2] and gaps[3] < (1e-3 if dtype == torch.float32 else 1e-8)


@kinds
def test_draws_are_counts_with_the_mean_of_the_distribution(kind, assert_mean):
    given = [p[:, 0] for p in parameters(kind)]
    given = [p[(given[-1] > -1) & (given[0] > -4)] for p in given]  # else nearly all are zero
    distribution = counts(*given)
    drawn = distribution.sample((20_000,))
    assert torch.equal(drawn, drawn.round()) and (drawn >= 0).all()
    assert_mean(drawn, distribution.mean)


@kinds
def test_gradients_are_those_of_the_formula(kind):
    given = [p.clamp(-6, 6).requires_grad_() for p in parameters(kind)]
    assert torch.autograd.gradcheck(lambda *p: counts(*p).log_prob(VALUES), given)


def test_a_poisson_rate_is_right_where_it_is_the_count():
    x = torch.tensor([1.0, 20.0, 1e3, 1e6])
    log_rate = x.log().requires_grad_()
    PoissonCounts(log_rate).log_prob(x).sum().backward()
    torch.testing.assert_close(log_rate.grad / x.sqrt(), torch.zeros(4), rtol=0, atol=1e-3)


# Likelihoods


@pytest.mark.parametrize("kind", [Poisson, NegativeBinomial])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.5, "0.5"),
        (-1.0, "-1"),
        (1e-40, "9.99995e-41"),
        (1e30, "1e\\+30"),
        (2.0**25, "3.35544e\\+07"),
    ],
)
def test_what_is_not_a_count_is_refused_with_its_column(kind, value, shown):
    x = torch.zeros(3, 4)
    x[1, 2] = value
    match = (
        rf"{kind.__name__} scores counts, whole .* 16,777,216, got {shown} in column 2; correct"
    )
    with pytest.raises(ValueError, match=match):
        kind(nn.Identity()).check(x)


@pytest.mark.parametrize("kind", [Poisson, NegativeBinomial])
def test_every_count_that_float32_holds_exactly_is_accepted_and_has_a_finite_gradient(kind):
    x = torch.tensor([[-0.0, 0.0, 2.0, 40_000.0, LARGEST_COUNT]])
    likelihood = kind(nn.Identity())
    likelihood.check(x)
    raw = torch.zeros(1, 5 * likelihood.outputs_per_pixel, requires_grad=True)
    loss = likelihood(raw).log_prob(x).sum()
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(raw.grad).all() and (raw.grad != 0).all()


@pytest.mark.parametrize("bound", [2.0, 16.0])
def test_means_and_dispersions_stay_within_their_bounds(bound):
    raw = torch.tensor([[-1e4, 1e4, 1e4, -1e4]])
    px = NegativeBinomial(nn.Identity(), log_rate_bound=bound, log_dispersion_bound=3.0)(raw)
    expected = torch.tensor([[-bound, bound]]).exp()
    torch.testing.assert_close(px.mean, expected)
    dispersion = px.base_dist.total_count
    torch.testing.assert_close(dispersion, torch.tensor([[3.0, -3.0]]).exp())


# Models


def made(x: Tensor, **settings) -> DataSet:
    third = len(x) // 3
    parts = [Split(part, None, None) for part in x[: 3 * third].split(third)]
    return DataSet("counts", (x.shape[1],), None, "none", *parts, counts=True, **settings)


@pytest.mark.parametrize("recipe", PERCEPTRONS)
@kinds
def test_networks_read_the_logarithm_of_counts_and_the_likelihood_the_counts(
    recipe, kind, make_model
):
    model = make_model(recipe, DataSpec(3, None, counts=True), likelihood=kind).eval()
    x = torch.tensor([[0.0, 3.0, 9_000.0]])
    torch.testing.assert_close(model.bottom_up.read(x), x.log1p())
    trace = model(x)
    expected = trace.px.base_dist.log_prob(x).sum(1)
    torch.testing.assert_close(trace.log_px(x), expected)
    bottom_up, alone = model.bottom_up, model.bottom_up.blocks[0](x.log1p())
    assert torch.equal(bottom_up(x)[0], alone)


def test_the_usual_likelihood_of_counts_is_the_negative_binomial():
    model = recipes.vae(DataSpec(1, None, counts=True), hidden=(8,))
    assert type(model.top_down.likelihood) is NegativeBinomial
    assert build(model.config).config == model.config
    assert str(build(model.config)) == str(model)


@pytest.mark.parametrize("size", [1, 5])
@kinds
def test_a_model_of_counts_learns_evaluates_and_draws_counts(size, kind, make_accelerator):
    generator = torch.Generator().manual_seed(0)
    rates = 200 * torch.rand(600, 1, generator=generator).expand(-1, size)
    data = made(torch.poisson(rates, generator=generator))
    model = recipes.ladder_vae(data, latent_sizes=(4, 2), hidden=(32,), likelihood=kind)
    before = evaluate(model, data, num_samples=2).elbo.mean
    fit(model, data, epochs=4, progress=False, accelerator=make_accelerator(), learning_rate=0.01)
    result = evaluate(model, data, num_samples=2)
    assert result.elbo.mean > before + 1 and result.reconstruction.mean < 0
    assert model.top_down.likelihood.measure == "probability"
    model.top_down.likelihood.check(model.generate(50).px.sample())


@pytest.mark.parametrize(
    ("spec", "likelihood", "match"),
    [
        (
            DataSpec(4, None),
            "poisson",
            "not said to be counts; say so where the data set is made",
        ),
        (DataSpec(4, 17), "negative_binomial", "scores counts, and these data are not said"),
        (
            DataSpec(4, None, counts=True),
            "categorical",
            "scores grey values and the data are counts; choose 'negative_binomial' or 'poisson'",
        ),
    ],
)
def test_a_likelihood_of_other_values_is_refused(spec, likelihood, match):
    with pytest.raises(ValueError, match=match):
        recipes.vae(spec, likelihood=likelihood)


@pytest.mark.parametrize("spec", [{"counts": True}, {"missing": True}], ids=str)
def test_pseudo_inputs_are_refused_where_data_are_not_complete_real_numbers(spec):
    settings = {"prior": "vamp", "normalisation": "none"}
    with pytest.raises(ValueError, match=re.escape("the prior 'vamp' are complete rows of free")):
        recipes.vae(DataSpec(4, None, **spec), **settings)
    recipes.vae(DataSpec(4, None), **settings)


@kinds
def test_a_training_step_takes_place_on_the_meta_device(kind):
    with torch.device("meta"):
        model = recipes.ladder_vae(DataSpec(6, None, counts=True), likelihood=kind, hidden=(8,))
        x = torch.empty(5, 6)
        model(x, 2).log_weight(x).mean().backward()
        assert model.generate(2).px.sample().shape == (2, 6)
    assert all(p.grad is not None and p.grad.is_meta for p in model.parameters())
