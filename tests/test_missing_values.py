"""Missing values: only what was observed is scored, exactly, and gradients stay finite."""

import re

import pytest
import torch
from linear_gaussian import CHAINS
from recipe_kinds import PERCEPTRONS
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal, Normal

from hvae_course import evaluate, fit, recipes
from hvae_course.analysis import diagnose
from hvae_course.config import AUTOREGRESSIVE_LIKELIHOODS
from hvae_course.data import DataSet, DataSpec, Split
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.likelihoods import MissingValues
from hvae_course.objectives import elbo, importance_weighted
from hvae_course.objectives.constrained import ERRORS
from hvae_course.oracles import LinearGaussian, LinearGaussianLayer, OneFactor
from hvae_course.posteriors import Chain
from hvae_course.priors import VampPrior
from hvae_course.recipes import LIKELIHOODS, build
from hvae_course.tables import ObservedValues, log_prob_each

D, NAN = torch.float64, torch.nan
FACTOR = OneFactor((1.0, -0.7, 0.4, 2.0, 0.0), (0.5, 0.3, 1.0, 0.2, 0.7))
BLOCKS = [
    {"columns": [2, 0], "likelihood": "gaussian"},
    {"columns": [1], "likelihood": "categorical", "num_values": 3},
    {"columns": [3], "likelihood": "poisson"},
    {"columns": [5], "likelihood": "bernoulli"},
    {"columns": [4], "likelihood": "discretized_logistic", "num_values": 4},
]
likelihoods = pytest.mark.parametrize(
    "likelihood", [name for name in LIKELIHOODS if name not in AUTOREGRESSIVE_LIKELIHOODS]
)
recipe_names = pytest.mark.parametrize("recipe", PERCEPTRONS)


def with_holes(x: Tensor, share: float = 0.4, seed: int = 1) -> Tensor:
    """Some values at random, all of the first row, none of the last."""
    holes = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < share
    holes[0], holes[-1] = True, False
    return x.masked_fill(holes, NAN)


def model_for(likelihood: str, make_model, recipe: str = "ladder_vae", **settings):
    spec = {
        "bernoulli": (6, 2, {}),
        "categorical": (6, 5, {}),
        "discretized_logistic": (6, 5, {}),
        "logistic_mixture": (6, 5, {}),
        "negative_binomial": (6, None, {"counts": True}),
        "poisson": (6, None, {"counts": True}),
    }.get(likelihood, (6, None, {}))
    options = {"blocks": BLOCKS} if likelihood == "mixed" else {}
    data = DataSpec(*spec[:2], **spec[2], missing=True)
    settings |= {"likelihood": likelihood, "likelihood_options": options}
    return make_model(
        recipe, data, **{"latent_sizes": (4, 2), "normalisation": "layer"} | settings
    )


# Exact answers


def test_with_the_exact_posterior_every_draw_gives_the_evidence_of_what_was_observed():
    """Of the model with the missing columns removed, from the covariance of the rest."""
    x = with_holes(FACTOR.sample_x(60))
    w, s = torch.tensor(FACTOR.slopes, dtype=D), torch.tensor(FACTOR.variances, dtype=D)
    covariance = torch.outer(w, w) + s.diag()
    expected = torch.zeros(60, dtype=D)
    for row, seen in enumerate(~x.isnan()):
        if seen.any():
            rest = MultivariateNormal(
                torch.zeros(int(seen.sum()), dtype=D), covariance[seen][:, seen]
            )
            expected[row] = rest.log_prob(x[row, seen])
    torch.testing.assert_close(FACTOR.log_px(x), expected, rtol=0, atol=1e-10)
    log_w = FACTOR.hvae()(x, 5).log_weight(x)
    torch.testing.assert_close(log_w, expected.repeat_interleave(5), rtol=0, atol=1e-10)


class Seen(nn.Module):
    """q(z_1 | x) of a chain, which is the prior where x is missing."""

    def __init__(self, head: LinearGaussianLayer, prior: LinearGaussianLayer) -> None:
        super().__init__()
        self.head, self.prior = head, prior

    def forward(self, x: Tensor) -> Distribution:
        missing = x.isnan()
        q, p = self.head(x.masked_fill(missing, 0)), self.prior(torch.zeros_like(x))
        mean, std = (
            torch.where(missing, b, a) for a, b in ((q.mean, p.mean), (q.stddev, p.stddev))
        )
        return type(q)(torch.distributions.Normal(mean, std), 1)


@pytest.mark.parametrize("num_levels", CHAINS)
def test_in_a_hierarchy_the_evidence_is_that_of_the_copies_that_were_observed(num_levels):
    chain = CHAINS[num_levels]
    one, heads = LinearGaussian(chain.slopes, chain.variances), chain.posterior_chain()
    marginal = LinearGaussianLayer(0.0, chain.covariance()[1, 1].item())
    model = chain.hvae(Chain([Seen(heads[0], marginal), *heads[1:]]))
    model.top_down.likelihood = MissingValues(model.top_down.likelihood)
    x = with_holes(chain.sample_x(64))
    expected = sum(one.log_px(column).nan_to_num() for column in x.split(1, dim=1))
    log_w = model(x, 3).log_weight(x)
    torch.testing.assert_close(log_w, expected.repeat_interleave(3), rtol=0, atol=1e-10)


def test_the_mean_over_draws_imputes_the_mean_given_what_was_observed(assert_mean):
    x, n = with_holes(FACTOR.sample_x(8)), 20_000
    imputed = FACTOR.hvae()(x, n).px.mean.unflatten(0, (-1, n)).movedim(1, 0)
    missing = x.isnan() & (torch.tensor(FACTOR.slopes) != 0)  # else every draw is the mean
    assert_mean(imputed[:, missing], FACTOR.expected_x(x)[missing])


# Every likelihood


@likelihoods
def test_what_was_observed_scores_as_before_and_nothing_scores_zero(likelihood, make_model):
    px = model_for(likelihood, make_model)(torch.full((7, 6), NAN)).px
    complete = px.sample()
    x = with_holes(complete)
    each = log_prob_each(px.complete, complete)
    torch.testing.assert_close(each.sum(1), px.complete.log_prob(complete))
    torch.testing.assert_close(px.log_prob(x), each.masked_fill(x.isnan(), 0).sum(1))
    assert px.log_prob(x)[0] == 0
    torch.testing.assert_close(px.log_prob(complete), px.complete.log_prob(complete))


@likelihoods
@recipe_names
def test_losses_and_gradients_are_finite_and_draws_complete(
    likelihood, recipe, make_model, assert_finite_gradients
):
    model = model_for(likelihood, make_model, recipe)
    x = with_holes(model.generate(7).px.sample())
    model.top_down.likelihood.check(x)
    assert_finite_gradients(model, -elbo(model(x), x).mean())
    assert_finite_gradients(model, -importance_weighted(model(x, 3), x).mean())
    trace = model(x)
    assert torch.isfinite(trace.px.mean).all() and torch.isfinite(trace.px.sample()).all()
    again = build(model.config)
    again.load_state_dict(model.state_dict())
    assert str(again) == str(model) and again.config == model.config


@likelihoods
def test_networks_read_finite_numbers_and_which_values_were_observed(likelihood, make_model):
    model = model_for(likelihood, make_model).eval()
    x = with_holes(model.generate(7).px.sample())
    read = model.bottom_up.read(x)
    assert torch.isfinite(read).all()
    torch.testing.assert_close(read[:, -6:], (~x.isnan()).float())
    assert (read[0] == 0).all()


def test_real_values_are_read_as_zero_where_they_are_missing():
    model = recipes.vae(DataSpec(3, None, missing=True))
    read = model.bottom_up.read(torch.tensor([[0.5, NAN, -2.0]]))
    assert read.tolist() == [[0.5, 0.0, -2.0, 1.0, 0.0, 1.0]]
    assert model.bottom_up.blocks[0][0].in_features == 6


def test_the_gradient_with_respect_to_the_data_is_finite(make_model):
    model = model_for("gaussian", make_model).eval()
    x = with_holes(torch.randn(5, 6)).requires_grad_()
    model(x).log_weight(x).sum().backward()
    assert torch.isfinite(x.grad).all() and (x.grad[0] == 0).all() and (x.grad[-1] != 0).all()


@likelihoods
def test_under_autocast_what_was_observed_is_scored_in_float32(likelihood, make_model):
    model = model_for(likelihood, make_model)
    x = with_holes(model.generate(5).px.sample())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_px = model(x, 2).log_px(x)
    assert log_px.dtype == torch.float32 and torch.isfinite(log_px).all()


@likelihoods
def test_a_training_step_with_missing_values_takes_place_on_the_meta_device(
    likelihood, make_model
):
    with torch.device("meta"):
        config = model_for(likelihood, make_model).config
        model = build(config)
        x = torch.empty(5, 6)
        model(x, 2).log_weight(x).mean().backward()
    assert all(p.grad is not None and p.grad.is_meta for p in model.parameters())


@pytest.mark.parametrize("error", ERRORS)
def test_errors_of_a_constraint_are_per_observed_dimension(error, make_model):
    """A row with holes has the error of the row without those columns."""
    model = model_for("gaussian", make_model).eval()
    x = with_holes(torch.randn(6, 6))
    trace = model(x, 2)
    trace.px.mean.retain_grad()
    found, seen = ERRORS[error](trace, x), ~x.isnan()
    assert found[0] == 0 and torch.isfinite(found).all()
    px = trace.px.complete.base_dist
    for row in range(1, 6):
        d = seen[row]
        means, scales = (p.unflatten(0, (6, 2))[row][:, d] for p in (px.loc, px.scale))
        expected = (x[row, d] - means).square().mean()
        if error == "negative_log_likelihood":
            expected = -Normal(means, scales).log_prob(x[row, d]).mean()
        torch.testing.assert_close(found[row], expected)
    found.sum().backward()
    assert torch.isfinite(trace.px.mean.grad).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("likelihood", ["mixed", "negative_binomial"])
def test_a_step_is_captured_as_one_graph(likelihood, make_model):
    """Without a break, so that nothing in it waits for the device."""
    model = model_for(likelihood, make_model)
    x = with_holes(model.generate(7).px.sample())

    def step(x: Tensor) -> Tensor:
        return model(x, 2).log_weight(x)

    torch.manual_seed(0)
    expected = step(x)
    torch.manual_seed(0)
    found = torch.compile(step, backend="eager", fullgraph=True)(x)
    torch.testing.assert_close(found, expected)


# What is refused


@likelihoods
def test_nan_is_refused_unless_it_marks_missing_values(likelihood, make_model):
    masked = model_for(likelihood, make_model).top_down.likelihood
    x = with_holes(masked.net(torch.zeros(7, 4)).sample())
    masked.check(x)
    with pytest.raises(ValueError, match="hold NaN; remove them, or say that they are missing"):
        masked.net.check(x)
    with pytest.raises(ValueError, match="hold infinite values; remove them"):
        masked.check(x.masked_fill(x.isnan(), torch.inf))


def test_observed_values_off_the_support_are_refused(make_model):
    masked = model_for("bernoulli", make_model).top_down.likelihood
    with pytest.raises(ValueError, match="scores binary pixels, got grey values"):
        masked.check(torch.tensor([[NAN, 0.5, 1.0, 0.0, 0.0, 0.0]]))


def test_pseudo_inputs_do_not_start_from_rows_with_holes():
    with pytest.raises(ValueError, match="these hold NaN or infinite values; start at random"):
        VampPrior.from_data(3, with_holes(torch.randn(9, 4), 1.0))


def test_a_distribution_that_is_no_product_cannot_be_scored_in_part():
    joint = MultivariateNormal(torch.zeros(2), torch.eye(2))
    match = re.escape("MultivariateNormal has no log-probability of single values; give it a")
    with pytest.raises(TypeError, match=match):
        ObservedValues(joint).log_prob(torch.tensor([NAN, 0.0]))


# Whole runs


def made(x: Tensor, num_values: int | None = None, **settings) -> DataSet:
    parts = [Split(part, None, None) for part in x.split(len(x) // 3)]
    return DataSet("holes", (x.shape[1],), num_values, "none", *parts, missing=True, **settings)


@pytest.mark.parametrize("num_values", [None, 2, 17])
def test_a_model_learns_from_data_with_missing_values(num_values, make_accelerator):
    """Also grey and binary pixels, kept as real numbers."""
    x = FACTOR.sample_x(900).float()
    if num_values is not None:
        x = ((x / 6 + 0.5).clamp(0, 1) * (num_values - 1)).round() / (num_values - 1)
    data = made(with_holes(x, 0.3), num_values)
    model = recipes.ladder_vae(data, latent_sizes=(3, 2), hidden=(32,))
    before = evaluate(model, data, num_samples=2).elbo.mean
    settings = {"epochs": 4, "learning_rate": 0.01, "progress": False}
    fit(model, data, accelerator=make_accelerator(), **settings)
    assert evaluate(model, data, num_samples=2).elbo.mean > before + 0.1
    assert diagnose(model, data, num_samples=1, max_examples=50).notna().any().any()


def test_observed_columns_help_to_impute_the_others(make_accelerator):
    """Better than the mean of the column, which does not look at the rest of the row."""
    x = OneFactor((1.0,) * 5, (0.1,) * 5).sample_x(1_500).float()
    data = made(with_holes(x, 0.3))
    model: HierarchicalVAE = recipes.vae(
        data, latent_size=2, hidden=(32,), likelihood="gaussian", normalisation="none"
    )
    settings = {"epochs": 15, "learning_rate": 0.01, "batch_size": 50, "progress": False}
    fit(model, data, accelerator=make_accelerator(), **settings)
    test = data.test.pixels
    truth, missing = x[-len(test) :], test.isnan()
    with torch.no_grad():
        imputed = model.eval()(test, 20).px.mean.unflatten(0, (-1, 20)).mean(1)
    errors = [(guess - truth)[missing].square().mean() for guess in (imputed, truth.mean(0))]
    assert errors[0] < 0.5 * errors[1]
