"""The spine: what a trace computes, the walk down, and ways to pick a latent without data."""

import math
import re

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Laplace

from hvae_course.gaussians import GaussianHead, diag_normal, standard_normal
from hvae_course.hierarchy import (
    BottomUp,
    HierarchicalVAE,
    Level,
    MarkovUpdate,
    TopDown,
    Trace,
    common_noise,
    draw_noise,
    from_prior,
    hold,
    prior_mean,
)
from hvae_course.objectives import elbo, importance_weighted
from hvae_course.oracles import LinearGaussian
from hvae_course.posteriors import Chain
from hvae_course.priors import StandardNormal

SIZES = (4, 3, 2)  # Z_1, Z_2, Z_3


@pytest.fixture
def model(make_model) -> HierarchicalVAE:
    """Three levels, float64, in evaluation mode."""
    return make_model(latent_sizes=SIZES).double().eval()


@pytest.fixture
def x(tiny_data) -> Tensor:
    return tiny_data.test.batch(slice(0, 5)).double()


def zeros(n: int, size: int) -> Tensor:
    return torch.zeros(n, size, dtype=torch.float64)


# What a trace computes


def test_information_is_the_log_ratio_at_the_drawn_value():
    z, mean = torch.randn(2, 6, 3, dtype=torch.float64)
    level = Level(z, diag_normal(mean, zeros(6, 3) - 1), diag_normal(zeros(6, 3), zeros(6, 3)))
    expected = 0.5 * (z.square() - ((z - mean) * math.e).square()) + 1
    torch.testing.assert_close(level.information, expected.sum(1))


def test_information_of_a_draw_from_the_prior_is_zero(model):
    for level in model.generate(5).levels:
        assert (level.information == 0).all()


@pytest.mark.parametrize("num_samples", [1, 3])
def test_log_weight_is_the_joint_over_the_posterior_at_one_joint_draw(model, x, num_samples):
    trace = model(x, num_samples)
    expected = trace.px.log_prob(x.repeat_interleave(num_samples, 0))
    for level in trace.levels:
        expected = expected + level.p.log_prob(level.z) - level.q.log_prob(level.z)
    torch.testing.assert_close(trace.log_weight(x), expected)


def test_levels_below_saw_the_very_values_that_the_trace_holds(model, x):
    trace = model(x)
    again = model.generate(len(x), hold({l: level.z for l, level in enumerate(trace.levels, 1)}))
    for first, second in zip(trace.levels, again.levels, strict=True):
        torch.testing.assert_close(first.p.mean, second.p.mean)
        torch.testing.assert_close(first.p.stddev, second.p.stddev)
    torch.testing.assert_close(trace.px.mean, again.px.mean)


@pytest.mark.parametrize("num_samples", [1, 4])
def test_draws_of_one_example_lie_next_to_each_other(model, x, num_samples):
    q1, expected = model(x, num_samples).levels[0].q, model(x).levels[0].q
    torch.testing.assert_close(q1.mean, expected.mean.repeat_interleave(num_samples, 0))


@pytest.mark.parametrize("shape", [(1, 64), (4, 64), (10, 64), (5, 1), (5,)])
def test_data_that_are_not_those_of_the_trace_are_refused(model, x, shape):
    trace = model(x, 2)
    expected = rf"batch of shape \(5, 64\), but x has shape {re.escape(str(shape))}"
    with pytest.raises(ValueError, match=expected):
        trace.log_px(torch.zeros(shape, dtype=torch.float64))


def trace_of(log_w: Tensor) -> tuple[Trace, Tensor]:
    """A trace without latents whose log-weights are the given ones, (B, K), below -0.9."""
    mean = (-2 * log_w - math.log(2 * math.pi)).sqrt().reshape(-1, 1)
    x = torch.zeros(len(log_w), 1, dtype=torch.float64)
    return Trace((), diag_normal(mean, torch.zeros_like(mean)), log_w.shape[1]), x


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("num_samples", [1, 2, 7])
def test_objectives_average_the_draws_of_each_example(batch, num_samples):
    log_w = -1 - 4 * torch.rand(batch, num_samples, dtype=torch.float64)
    trace, x = trace_of(log_w)
    torch.testing.assert_close(elbo(trace, x), log_w.mean(1))
    torch.testing.assert_close(importance_weighted(trace, x), log_w.exp().mean(1).log())


def test_the_importance_weighted_bound_of_one_draw_is_the_elbo(model, x):
    trace = model(x)
    torch.testing.assert_close(importance_weighted(trace, x), elbo(trace, x), rtol=0, atol=0)


def test_the_importance_weighted_bound_survives_weights_that_underflow():
    trace, x = trace_of(torch.tensor([[-5000.0, -6000.0]], dtype=torch.float64))
    expected = torch.tensor([-5000 - math.log(2)], dtype=torch.float64)
    torch.testing.assert_close(importance_weighted(trace, x), expected)


# The walk down


@pytest.mark.parametrize("sizes", [(4,), (4, 3), (4, 3, 2), (5, 4, 3, 2, 1)], ids=str)
def test_the_first_level_is_next_to_the_data(make_model, x, sizes):
    model = make_model(latent_sizes=sizes).double()
    for trace in (model(x), model.generate(5)):
        assert [tuple(level.z.shape) for level in trace.levels] == [(5, size) for size in sizes]


def test_the_walk_starts_at_the_top_and_ends_at_the_data(model):
    visited = []

    def choose(l: int, h: Tensor, p: Independent) -> tuple[Independent, Tensor]:
        visited.append((l, h.shape[1], p.event_shape))
        return from_prior(l, h, p)

    model.generate(2, choose)
    assert visited == [
        (2, 0, (2,)),
        (1, 2, (3,)),
        (0, 3, (4,)),
    ]  # the state is z of the level above


def test_the_state_of_a_markov_chain_is_the_latent_above():
    h, z = torch.randn(2, 3), torch.randn(2, 5)
    assert torch.equal(MarkovUpdate()(h, z), z)


@pytest.mark.parametrize(("updates", "conditionals"), [(0, 0), (1, 1), (2, 0), (3, 1)])
def test_the_wrong_number_of_conditionals_is_refused(updates, conditionals):
    match = f"L - 1 conditional priors, got {updates} and {conditionals}"
    with pytest.raises(ValueError, match=match):
        TopDown(
            [MarkovUpdate()] * updates, [nn.Identity()] * conditionals, likelihood=nn.Identity()
        )


@pytest.mark.parametrize("wrong", ["q", "z"])
def test_a_choice_over_another_latent_is_refused(model, wrong):
    def choose(l: int, h: Tensor, p: Independent) -> tuple[Independent, Tensor]:
        if l != 1:
            return from_prior(l, h, p)
        other = diag_normal(zeros(4, 6), zeros(4, 6))
        return (other, p.sample()) if wrong == "q" else (p, other.sample())

    with pytest.raises(ValueError, match=r"p\(z_2\) has event shape \(3,\).* level 2 the same"):
        model.generate(4, choose)


def test_held_values_need_one_row_per_sample(model):
    with pytest.raises(ValueError, match=r"p\(z_3\) .* and 3 rows.* one value per row"):
        model.generate(3, hold({3: zeros(5, SIZES[2])}))


def test_bottom_up_features_build_on_each_other(x):
    blocks = [nn.Linear(64, 5).double(), nn.Linear(5, 4).double()]
    d1, d2 = BottomUp(blocks)(x)
    torch.testing.assert_close(d1, blocks[0](x))
    torch.testing.assert_close(d2, blocks[1](d1))


def test_a_bottom_up_path_without_blocks_is_refused():
    with pytest.raises(ValueError, match="at least one block, the network that reads x"):
        BottomUp([])


def test_a_posterior_with_another_number_of_levels_is_refused():
    top_down = TopDown([MarkovUpdate()] * 2, [GaussianHead(3, 4)], nn.Identity())
    with pytest.raises(ValueError, match="posterior has 1 levels and the top-down path has 2"):
        HierarchicalVAE(
            StandardNormal(3),
            BottomUp([nn.Identity()]),
            posterior=Chain([GaussianHead(64, 4)]),
            top_down=top_down,
        )


@pytest.mark.parametrize(
    ("shape", "num_samples"), [((64,), 1), ((0, 64), 1), ((2, 64), 0), ((2, 64), -1)], ids=str
)
def test_what_is_no_batch_or_no_draw_is_refused(model, shape, num_samples):
    with pytest.raises(ValueError, match=r"a batch \(B, D\) with B >= 1.*got x of shape") as error:
        model(torch.zeros(shape).double(), num_samples)
    assert f"{shape} and num_samples={num_samples}; add a batch axis" in str(error.value)


OTHERS = {
    "image": (
        lambda x: x.unflatten(1, (1, 8, 8)),
        ValueError,
        r"\(B, 64\), got x of shape \(5, 1",
    ),
    "hint": (lambda x: x.unflatten(1, (8, 8)), ValueError, r"use x.flatten\(1\)$"),
    "one image": (lambda x: x[0].unflatten(0, (8, 8)), ValueError, r"x.reshape\(1, -1\) for one"),
    "size": (lambda x: x[:, :9], ValueError, r"shape \(5, 9\); give the data that it was built"),
    "double": (lambda x: x.float(), TypeError, "x is torch.float32 and the model torch.float64; "),
    "bytes": (lambda x: x.byte(), TypeError, r"x.to\(model.dtype\), and divide grey values by"),
    "array": (lambda x: x.numpy(), TypeError, r"a tensor \(B, D\), got ndarray; convert an array"),
    "list": (lambda x: x.tolist(), TypeError, r"must be a tensor \(B, D\), got list"),
    "device": (lambda x: x.to("meta"), ValueError, "x is on meta and the model on cpu; move it"),
}


@pytest.mark.parametrize(("change", "error", "match"), OTHERS.values(), ids=OTHERS)
def test_data_of_another_shape_type_or_device_are_refused(change, error, match, model, x):
    for use in (model, model.encode_top, model.features):
        with pytest.raises(error, match=match):
            use(change(x))


def test_a_model_without_weights_is_not_held_to_a_type(make_model):
    chain = LinearGaussian((1.3,), (0.4,))
    model, x = chain.hvae(Chain(chain.posterior_chain())).float(), chain.sample_x(3)
    torch.testing.assert_close(model(x).log_weight(x), chain.log_px(x), rtol=0, atol=1e-5)


# Picking latents without data


def test_generation_needs_no_gradients(model):
    trace = model.generate(3)
    assert not trace.px.mean.requires_grad
    assert not any(level.z.requires_grad for level in trace.levels)


def test_ancestral_samples_follow_their_priors(model, assert_mean):
    for level in model.generate(20_000).levels:
        noise = (level.z - level.p.mean) / level.p.stddev
        assert_mean(noise, 0.0)
        assert_mean(noise.square(), 1.0)


def test_prior_means_are_handed_down(model):
    trace = model.generate(3, prior_mean)
    assert all(torch.equal(level.z, level.p.mean) for level in trace.levels)
    assert torch.equal(trace.px.mean, model.generate(3, prior_mean).px.mean)


def noise_for(n: int) -> list[Tensor]:
    return [torch.randn(n, size, dtype=torch.float64) for size in SIZES]


def test_common_noise_shifts_and_scales_each_prior(model):
    noise = noise_for(5)
    for level, epsilon in zip(model.generate(5, common_noise(noise)).levels, noise, strict=True):
        torch.testing.assert_close(level.z, level.p.mean + level.p.stddev * epsilon)


def test_rows_with_common_noise_and_equal_held_values_are_equal(model):
    held = torch.randn(1, 3, dtype=torch.float64).expand(6, -1)
    trace = model.generate(6, hold({2: held}, common_noise(noise_for(1))))
    for level in trace.levels:
        torch.testing.assert_close(level.z, level.z[:1].expand_as(level.z), rtol=0, atol=1e-14)
    means = trace.px.mean
    torch.testing.assert_close(means, means[:1].expand_as(means), rtol=0, atol=1e-14)


def test_common_noise_refuses_other_priors():
    p = Independent(Laplace(zeros(2, 3), zeros(2, 3) + 1), 1)
    with pytest.raises(TypeError, match="or enters a flow, got Independent; hold this level"):
        common_noise([zeros(1, 3)])(0, zeros(2, 0), p)


def test_with_every_level_held_generation_is_deterministic(model):
    choose = hold(dict(enumerate(noise_for(4), start=1)))
    first, second = model.generate(4, choose), model.generate(4, choose)
    assert torch.equal(first.px.mean, second.px.mean)
    assert all(torch.equal(a.z, b.z) for a, b in zip(first.levels, second.levels, strict=True))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_changing_one_level_changes_only_what_is_below_it(model, level):
    noise = noise_for(1)
    first, second = (
        model.generate(2, hold({level: value.expand(2, -1)}, common_noise(noise)))
        for value in torch.randn(2, 1, SIZES[level - 1], dtype=torch.float64)
    )
    for l, (a, b) in enumerate(zip(first.levels, second.levels, strict=True), start=1):
        assert torch.equal(a.z, b.z) == (l > level)
    assert not torch.equal(first.px.mean, second.px.mean)


def test_the_data_do_not_depend_on_the_top_when_the_bottom_is_held(model):
    """In a Markov chain z_1 separates x from everything above it."""
    z1, z2, z3 = noise_for(4)
    first = model.generate(4, hold({1: z1}))
    second = model.generate(4, hold({1: z1, 2: 100 * z2, 3: 100 * z3}))
    assert not torch.equal(first.levels[1].z, second.levels[1].z)
    assert torch.equal(first.px.mean, second.px.mean)


def test_noise_follows_from_its_seed_and_leaves_the_random_numbers_alone():
    before, like = torch.get_rng_state(), torch.empty(0, dtype=torch.float64)
    first, second, other = (draw_noise(SIZES, seed=seed, like=like) for seed in (1, 1, 2))
    assert [tuple(epsilon.shape) for epsilon in first] == [(1, size) for size in SIZES]
    assert all(epsilon.dtype == torch.float64 for epsilon in first)
    assert all(map(torch.equal, first, second))
    assert not any(map(torch.equal, first, other))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_prior_without_batch_shape_is_expanded_to_the_rows(model):
    p = model.generate(5).levels[-1].p
    expected = standard_normal(2, like=zeros(1, 1)).expand((5,))
    assert p.batch_shape == (5,)
    assert torch.equal(p.log_prob(zeros(5, 2)), expected.log_prob(zeros(5, 2)))
