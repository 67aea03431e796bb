"""Posterior families: what each draw depends on."""

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.gaussians import GaussianHead, diag_normal
from hvae_course.posteriors import (
    Chain,
    Concatenation,
    Delta,
    Direct,
    Posterior,
    PosteriorRule,
    PrecisionWeighted,
    TopDownPosterior,
)

SIZES = (4, 3, 2)  # Z_1, Z_2, Z_3


class Mean(nn.Module):
    """A head whose Gaussian is centred at its input, so that the mean shows the input."""

    def forward(self, features: Tensor) -> Distribution:
        return diag_normal(features, torch.zeros_like(features))


class FromAbove(PosteriorRule):
    """A rule whose Gaussian is centred at feature + state + prior mean."""

    def forward(self, d: Tensor, h: Tensor, p: Distribution) -> Distribution:
        return diag_normal(d + h + p.mean, torch.zeros_like(d))


@pytest.fixture
def chain() -> Chain:
    return Chain([GaussianHead(6, 4), GaussianHead(4, 3), GaussianHead(3, 2)]).double()


@pytest.fixture
def mean_field() -> TopDownPosterior:
    return TopDownPosterior([Direct(GaussianHead(6, size)) for size in SIZES]).double()


@pytest.fixture
def d() -> Tensor:
    return torch.randn(5, 6, dtype=torch.float64)


def prior(l: int, n: int = 5) -> Distribution:
    zeros = torch.zeros(n, SIZES[l], dtype=torch.float64)
    return diag_normal(zeros, zeros)


def test_each_link_of_the_chain_starts_from_the_draw_below(d):
    choose = Chain([Mean(), Mean(), Mean()])([d])
    below = d
    for l in range(3):
        q, z = choose(l, d, prior(0))
        assert torch.equal(q.mean, below)
        below = z


def test_the_chain_hands_out_the_same_joint_draw_on_every_call(chain, d):
    choose = chain([d])
    for l in (2, 1, 0, 2):
        h = torch.randn(5, 3, dtype=torch.float64)
        (q, z), (q_again, z_again) = choose(l, h, prior(l)), choose(l, 2 * h, prior(l))
        assert q is q_again and z is z_again


def test_two_passes_of_the_chain_give_different_draws(chain, d):
    first, second = (chain([d])(2, d, prior(2))[1] for _ in range(2))
    assert not torch.equal(first, second)


def test_the_chain_reads_only_the_first_feature(chain, d):
    torch.manual_seed(1)
    first = [chain([d])(l, d, prior(l))[1] for l in range(3)]
    torch.manual_seed(1)
    second = [chain([d, 7 * d])(l, d, prior(l))[1] for l in range(3)]
    assert all(map(torch.equal, first, second))


def test_levels_of_the_chain_are_correlated_given_the_data(assert_mean):
    choose = Chain([Mean(), Mean()])([torch.zeros(50_000, 1, dtype=torch.float64)])
    (_, z1), (_, z2) = (choose(l, z, prior(0)) for l, z in ((0, None), (1, None)))
    assert_mean(z1 * z2, 1.0)  # z_2 = z_1 + noise, so their covariance is the variance of z_1


def test_levels_of_the_mean_field_are_independent_given_the_data(assert_mean):
    zeros = torch.zeros(50_000, 1, dtype=torch.float64)
    choose = TopDownPosterior([Direct(Mean()), Direct(Mean())])([zeros, zeros])
    (_, z2), (_, z1) = (choose(l, None, prior(0)) for l in (1, 0))
    assert_mean(z1 * z2, 0.0)


def test_the_direct_rule_ignores_state_and_prior(d):
    rule = Direct(GaussianHead(6, 3)).double()
    first = rule(d, torch.randn(5, 2), prior(1))
    second = rule(d, torch.randn(5, 2), prior(2))
    assert torch.equal(first.mean, second.mean)
    assert torch.equal(first.stddev, second.stddev)


def test_the_walk_down_gives_each_rule_its_feature_the_state_and_the_prior(d):
    features = [d[:, :1], d[:, 1:2], d[:, 2:3]]
    choose = TopDownPosterior([FromAbove() for _ in range(3)])(features)
    h = torch.randn(5, 1, dtype=torch.float64)
    p = diag_normal(h**2, h)
    for l in range(3):
        q, _ = choose(l, h, p)
        assert torch.equal(q.mean, features[l] + h + h**2)


@pytest.mark.parametrize("name", ["chain", "mean_field"])
@pytest.mark.parametrize("batch", [1, 5])
def test_a_draw_carries_gradients_to_its_parameters(name, batch, request):
    posterior = request.getfixturevalue(name)
    features = [torch.randn(batch, 6, dtype=torch.float64)] * (1 if name == "chain" else 3)
    choose = posterior(features)
    for l, size in enumerate(SIZES):
        q, z = choose(l, torch.zeros(batch, 0), prior(l, batch))
        assert z.shape == (batch, size)
        assert (q.batch_shape, q.event_shape) == ((batch,), (size,))
        posterior.zero_grad()
        z.sum().backward(retain_graph=True)
        own = posterior.heads[l] if name == "chain" else posterior.rules[l].head
        assert (own.linear.weight.grad != 0).any()


@pytest.mark.parametrize("name", ["chain", "mean_field"])
def test_draws_follow_the_distribution_that_comes_with_them(name, request, assert_mean):
    posterior = request.getfixturevalue(name)
    features = [torch.randn(1, 6, dtype=torch.float64).expand(20_000, -1)] * 3
    choose = posterior(features)
    for l in range(3):
        q, z = choose(l, features[0], prior(l))
        noise = (z - q.mean) / q.stddev
        assert_mean(noise, 0.0)
        assert_mean(noise.square(), 1.0)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_wrong_number_of_features_is_refused(mean_field, d, number):
    match = rf"3 rules need 3 features d_1, ..., d_L, got {number}; give BottomUp one block"
    with pytest.raises(ValueError, match=match):
        mean_field([d] * number)


# q(z_L | x), from which a prior can be built


def test_the_top_of_a_chain_of_one_level_is_its_only_posterior(d):
    chain = Chain([GaussianHead(6, 4)]).double()
    q, (expected, _) = chain.top([d], None), chain([d])(0, d, None)
    assert (q.batch_shape, q.event_shape) == ((5,), (4,))
    assert torch.equal(q.mean, expected.mean) and torch.equal(q.stddev, expected.stddev)


@pytest.mark.parametrize("levels", [2, 3])
def test_a_longer_chain_has_no_top_in_closed_form(levels, chain, d):
    match = f"bottom-up inference over {levels} levels .* no closed form, so no prior can be built"
    with pytest.raises(TypeError, match=match):
        Chain([Mean()] * levels).top([d], None)


@pytest.mark.parametrize("rule", [Direct, Concatenation])
def test_the_top_of_a_walk_down_is_its_rule_at_the_highest_feature(rule):
    features = [torch.randn(5, 6, dtype=torch.float64) for _ in range(2)]
    posterior = TopDownPosterior([rule(GaussianHead(6, 4)), rule(GaussianHead(6, 3))]).double()
    q = posterior.top(features, torch.empty(5, 0))
    expected = posterior.rules[1].head(features[1])
    assert (q.batch_shape, q.event_shape) == ((5,), (3,))
    assert torch.equal(q.mean, expected.mean) and torch.equal(q.stddev, expected.stddev)
    with pytest.raises(ValueError, match="2 rules need 2 features"):
        posterior.top(features[:1], None)


@pytest.mark.parametrize("rule", [Delta, PrecisionWeighted])
def test_no_prior_can_be_built_from_a_top_rule_that_reads_the_prior(rule, d):
    posterior = TopDownPosterior([Direct(Mean()), rule(nn.Identity())])
    match = f"top-level rule that does not read the prior, got {rule.__name__}; use Direct at"
    with pytest.raises(TypeError, match=match):
        posterior.top([d, d], None)
    below = TopDownPosterior([rule(nn.Identity()), Direct(Mean())])
    assert torch.equal(below.top([d, d + 1], None).mean, d + 1)  # only the top rule is used


def test_a_chain_without_heads_is_refused():
    with pytest.raises(ValueError, match="at least one head"):
        Chain([])


def test_the_number_of_levels_is_the_number_of_parts(chain, mean_field):
    assert chain.num_levels == mean_field.num_levels == 3


@pytest.mark.parametrize("kind", [Posterior, PosteriorRule])
def test_abstract_posteriors_cannot_be_made(kind):
    with pytest.raises(TypeError, match="abstract"):
        kind()
