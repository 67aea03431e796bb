"""Top levels from the posterior, lower levels from their priors; against exact chains."""

import math

import pytest
import torch
from linear_gaussian import CHAINS, D, agree, standard_error
from test_diagnostics import Shifted, data_of, exact
from test_spine_shapes import SHAPES, image_model

from hvae_course import analysis
from hvae_course.analysis import bound_above, evaluate, held, hold_top, ood_score, progressive
from hvae_course.data import DataSet, Split
from hvae_course.hierarchy import prior_mean
from hvae_course.oracles import LinearGaussian
from hvae_course.posteriors import Chain, TopDownPosterior
from hvae_course.seeding import seed_all

CHAIN = CHAINS[3]
X = CHAIN.sample_x(5, seed=1)
kinds = pytest.mark.parametrize("kind", ["chain", "top-down"])


def joint(chain):
    """Slopes of the means given x, of one copy, and covariance of z_1, ..., z_L given x."""
    c = chain.covariance()
    slopes = c[0, 1:] / c[0, 0]
    return slopes, c[1:, 1:] - torch.outer(slopes, c[0, 1:])


def images_of(x):
    part = Split(x.long(), torch.zeros(len(x), dtype=torch.int64), 1)
    return DataSet("images", (8, 8), 2, "none", part, part, part)


# Holding levels


def test_all_levels_held_are_the_posterior_and_none_are_ancestral_samples(make_model, tiny_data):
    model, x = make_model("ladder_vae").eval(), tiny_data.test.batch(slice(0, 4))
    torch.manual_seed(1)
    trace = hold_top(model, x, 2, num_samples=3)
    torch.manual_seed(1)
    with torch.no_grad():
        assert torch.equal(trace.log_weight(x), model(x, 3).log_weight(x))
    seed_all(1)
    trace = hold_top(model, x, 0, temperature=0.7)
    sampled = analysis.sample(model, 4, seed=1, temperature=0.7)
    for a, b in zip(trace.levels, sampled.levels, strict=True):
        assert torch.equal(a.z, b.z)
    assert sum(level.information.abs().sum() for level in trace.levels) == 0


@pytest.mark.equation("eq-held-top")
@kinds
@pytest.mark.parametrize("num_held", [0, 1, 2, 3])
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_held_levels_have_the_moments_of_the_posterior_and_those_below_of_the_prior(
    kind, num_held, temperature, assert_mean
):
    """Every wrong dependence changes a mean or a variance; judged in standard errors."""
    torch.manual_seed(2)
    x = torch.tensor([[1.5, -0.5]], dtype=D)
    trace = hold_top(exact(CHAIN, kind), x, num_held, num_samples=20_000, temperature=temperature)
    slopes, covariance = joint(CHAIN)
    lowest = CHAIN.num_levels - num_held  # from 0
    mean, variance = torch.zeros(2, dtype=D), torch.tensor(temperature**2, dtype=D)
    for l in reversed(range(CHAIN.num_levels)):
        if l >= lowest:
            mean, variance = slopes[l] * x[0], covariance[l, l]
        elif l < CHAIN.num_levels - 1:
            a, s = CHAIN.slopes[l + 1], CHAIN.variances[l + 1]
            mean, variance = a * mean, a**2 * variance + temperature**2 * s
        z = trace.levels[l].z
        assert_mean(z, mean)
        assert_mean((z - mean).square(), variance)


def test_levels_of_images_are_held():
    model, x = image_model("delta", "skip").eval(), torch.rand(2, 64).round()
    trace = hold_top(model, x, 1, num_samples=3)
    assert [level.z.shape for level in trace.levels] == [(6, *shape) for shape in SHAPES]
    assert trace.px.mean.shape == (6, 64)
    assert (trace.levels[0].information == 0).all() and (trace.levels[1].information != 0).all()
    table = progressive(model, images_of(x), num_samples=2)
    assert table["held"].tolist() == [0, 1, 2] and table.notna().all(axis=None)


@pytest.mark.parametrize("number", [-1, 3])
def test_more_levels_than_there_are_cannot_be_held(number, make_model, tiny_data):
    model, x = make_model().eval(), tiny_data.test.batch(slice(0, 2))
    with pytest.raises(ValueError, match=f"num_held must be between 0 and 2, .* got {number}"):
        hold_top(model, x, number)
    with pytest.raises(ValueError, match=f"k must be between 0 and 2, .* got {number}"):
        ood_score(model, x, number)
    with pytest.raises(ValueError, match=f"held must be between 0 and 2, .* got {number}"):
        progressive(model, tiny_data, held=[number])
    with pytest.raises(TypeError, match=r"num_held must be a whole number, got 1\.5"):
        hold_top(model, x, 1.5)


# The curve


@kinds
def test_the_last_row_of_the_curve_is_the_evaluation_and_the_first_the_prior(kind):
    x = CHAIN.sample_x(3_000, seed=1)
    model, data = exact(CHAIN, kind), data_of(x)
    table = progressive(model, data, num_samples=4, max_examples=3_000).set_index("held")
    result = evaluate(model, data, num_samples=4)
    nats = sum(estimate.mean for estimate in result.information)
    full = table.loc[3]
    assert full["log_px"] == pytest.approx(
        result.reconstruction.mean, abs=5 * 2**0.5 * full["log_px_error"]
    )
    assert full["information"] == pytest.approx(nats, abs=5 * 2**0.5 * full["information_error"])
    assert (table.loc[0, ["information", "information_error"]] == 0).all()
    if kind == "top-down":
        assert (table["information"].diff()[1:] > 0).all()
    # x and an independent draw of its mean, a_0 z_1
    c = CHAIN.covariance()
    spread = (c[0, 0] + CHAIN.slopes[0] ** 2 * c[1, 1]).item()
    assert table.loc[0, "rmse"] == pytest.approx(
        math.sqrt(spread), abs=5 * table.loc[0, "rmse_error"]
    )
    log_2_pi_s = math.log(2 * math.pi * CHAIN.variances[0])
    log_px = -0.5 * CHAIN.size * (log_2_pi_s + spread / CHAIN.variances[0])
    assert table.loc[0, "log_px"] == pytest.approx(log_px, abs=5 * table.loc[0, "log_px_error"])
    assert (table["rmse"].diff()[1:] < 0).all() and (table["log_px"].diff()[1:] > 0).all()


def test_a_row_does_not_depend_on_the_others(make_model, tiny_data):
    model = make_model("ladder_vae", latent_sizes=(4, 3, 2))
    settings = {"max_examples": 30, "num_samples": 2, "temperature": 0.0}
    whole = progressive(model, tiny_data, **settings).set_index("held")
    some = progressive(model, tiny_data, held=[3, 1], **settings)
    assert some["held"].tolist() == [3, 1]
    assert some.set_index("held").equals(whole.loc[[3, 1]])  # at temperature 0 nothing else draws


# The bound and the score


def bound_by_hand(chain, x, k):
    """Exact L^{>k} of the exact posterior, from its moments; (B,)."""
    slopes, covariance = joint(chain)
    if k == chain.num_levels:  # no level is inferred
        spread, mean, kl = chain.covariance()[0, 0] - chain.variances[0], 0 * x, 0.0
    else:
        gain = math.prod(chain.slopes[: k + 1])  # from z_{k+1} to the mean of x
        above = [math.prod(chain.slopes[:l]) ** 2 * chain.variances[l] for l in range(1, k + 1)]
        mean, spread = gain * slopes[k] * x, gain**2 * covariance[k, k] + sum(above)
        prior = chain.covariance()[k + 1, k + 1]
        ratio = covariance[k, k] / prior
        kl = 0.5 * (ratio - 1 - ratio.log() + (slopes[k] * x).square() / prior)
        kl = kl.sum(dim=1)
    terms = math.log(2 * math.pi * chain.variances[0])
    terms = terms + ((x - mean).square() + spread) / chain.variances[0]
    return -0.5 * terms.sum(dim=1) - kl


@pytest.mark.equation("eq-llr")
@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_the_bound_of_the_upper_levels_is_the_exact_one_and_below_log_px(k, assert_mean):
    expected, model = bound_by_hand(CHAIN, X, k), exact(CHAIN, "top-down")
    drawn = torch.stack(
        [bound_above(model, X, k, num_samples=400, seed=seed) for seed in range(40)]
    )
    assert_mean(drawn + 1e-9 * torch.randn(40, 5, dtype=D), expected)  # with k=0 nothing varies
    assert (expected <= CHAIN.log_px(X) + 1e-9).all()
    if k == 0:
        torch.testing.assert_close(expected, CHAIN.log_px(X), rtol=0, atol=1e-9)
    else:
        assert (expected < CHAIN.log_px(X) - 0.05).all()


@pytest.mark.parametrize("k", [1, 2])
def test_a_bottom_up_posterior_gives_a_bound_that_is_lower_by_what_its_draws_tell(k, assert_mean):
    """By E KL(q(z_k+1 | z_k) || q(z_k+1 | x)), in closed form."""
    model = CHAIN.hvae(Chain(CHAIN.posterior_chain()))
    head = CHAIN.posterior_chain()[k]
    _, covariance = joint(CHAIN)
    loss = 0.5 * CHAIN.size * (covariance[k, k].log() - 2 * head.log_std)
    drawn = torch.stack(
        [bound_above(model, X, k, num_samples=400, seed=seed) for seed in range(40)]
    )
    assert loss > 0.05
    assert_mean(drawn, bound_by_hand(CHAIN, X, k) - loss)


@kinds
@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_weights_of_the_upper_levels_average_to_the_evidence(kind, k):
    x = CHAIN.sample_x(1, seed=3)
    model, log_px = exact(CHAIN, kind), CHAIN.log_px(x)
    one_by_one = bound_above(model, x.expand(20_000, -1), k)
    weights = (one_by_one - log_px).exp()
    assert abs(weights.mean() - 1) < 5 * standard_error(weights) + 1e-9
    together = bound_above(model, x, k, num_samples=20_000, weighted=True)
    assert together.item() == pytest.approx(log_px.item(), abs=0.1)
    few = bound_above(model, x, k, num_samples=200, weighted=True)
    assert few <= log_px + 0.5 and few >= bound_above(model, x, k, num_samples=200)


def test_the_mode_of_the_prior_gives_no_bound():
    """A plug-in of z_1 = E[z_1 | z_2] exceeds log p(x) by about half log 11 = 1.2 nats."""
    chain = LinearGaussian((1.0, 0.1), (0.1, 1.0))
    x, model = torch.zeros(1, 1, dtype=D), exact(chain, "top-down")
    settings = {"num_samples": 2_000}
    log_px = chain.log_px(x).item()
    plug_in = bound_above(model, x, 1, below=prior_mean, **settings).item()
    bound = bound_above(model, x, 1, **settings).item()
    assert bound < log_px - 1 and plug_in - log_px == pytest.approx(0.5 * math.log(11), abs=0.1)
    weighted = bound_above(model, x, 1, below=prior_mean, weighted=True, **settings).item()
    assert weighted > log_px + 1  # and more draws do not mend it


@pytest.mark.parametrize("recipe", ["bottom_up_vae", "ladder_vae", "bidirectional_vae"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_score_is_zero_where_no_level_comes_from_its_prior(
    recipe, weighted, make_model, tiny_data
):
    model, x = make_model(recipe), tiny_data.test.batch(slice(0, 7))
    settings = {"num_samples": 5, "weighted": weighted}
    assert torch.equal(ood_score(model, x, 0, **settings), torch.zeros(7, dtype=D))
    score = ood_score(model, x, 2, **settings)
    full, part = (bound_above(model, x, k, **settings) for k in (0, 2))
    torch.testing.assert_close(score, full - part)


def test_the_score_agrees_with_the_exact_difference():
    x, model = CHAIN.sample_x(2_000, seed=1), exact(CHAIN, "top-down")
    before = torch.get_rng_state()
    for k in (1, 2):
        expected = bound_by_hand(CHAIN, x, 0) - bound_by_hand(CHAIN, x, k)
        assert agree(ood_score(model, x, k) - expected, 0.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_conditional_model_is_given_its_labels(make_model, tiny_data):
    model, x = make_model("ladder_vae", conditional=True), tiny_data.test.batch(slice(0, 4))
    y = tiny_data.test.labels[:4]
    assert torch.equal(ood_score(model, x, 0, num_samples=3, y=y), torch.zeros(4, dtype=D))
    assert not torch.equal(*(bound_above(model, x, 1, y=labels) for labels in (y, (y + 1) % 10)))
    assert hold_top(model, x, 1, num_samples=2, y=y).px.mean.shape == (8, 64)
    assert len(progressive(model, tiny_data, max_examples=10)) == 3
    with pytest.raises(ValueError, match="the model is conditional; give y="):
        ood_score(model, x, 1)


def test_chunks_of_draws_and_examples_hold_no_more_rows_than_allowed(
    make_model, tiny_data, monkeypatch
):
    model, seen, x = make_model("ladder_vae"), [], tiny_data.test.batch(slice(0, 7))
    monkeypatch.setattr(held, "_rows", lambda *_: 3)
    model.top_down.likelihood.register_forward_hook(
        lambda _, inputs, __: seen.append(len(inputs[0]))
    )
    assert bound_above(model, x, 1, num_samples=2).shape == (7,)
    assert max(seen) == 3 and sum(seen) == 2 * 7 * 2
    seen.clear()
    progressive(model, tiny_data, max_examples=7, held=[1])
    assert max(seen) == 3 and sum(seen) == 2 * 7


def test_the_prior_draws_of_a_walk_belong_to_a_diagonal_gaussian_at_other_temperatures(
    make_model, tiny_data
):
    x = tiny_data.test.batch(slice(0, 2))
    options = {"num_components": 3, "start": "random"}
    model = make_model("ladder_vae", normalisation="layer", prior="vamp", prior_options=options)
    assert hold_top(model, x, 1, temperature=0.1).px.mean.isfinite().all()  # its top is inferred
    with pytest.raises(TypeError, match="a temperature scales a diagonal Gaussian"):
        hold_top(model, x, 0, temperature=0.1)


def test_a_posterior_that_is_the_prior_has_a_score_of_zero_in_expectation(assert_mean):
    model = CHAIN.hvae(TopDownPosterior([Shifted(0, 0)] * 3))
    assert_mean(ood_score(model, X[:1].expand(4_000, -1), 1), 0.0)
