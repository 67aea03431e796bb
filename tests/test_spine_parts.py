"""Parts that models are made of: shared and tied levels, mixed orders, flows and codes."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from linear_gaussian import CHAINS, D, assert_exact
from torch import Tensor, nn
from torch.distributions import (
    AffineTransform,
    Distribution,
    Independent,
    Normal,
    OneHotCategorical,
    TransformedDistribution,
)

from hvae_course import analysis
from hvae_course.analysis import aggregate_split, diagnose
from hvae_course.gaussians import GaussianHead
from hvae_course.hierarchy import (
    BottomUp,
    HierarchicalVAE,
    MarkovUpdate,
    TopDown,
    join,
)
from hvae_course.likelihoods import Bernoulli
from hvae_course.objectives import elbo
from hvae_course.oracles import LinearGaussian, LinearGaussianPair
from hvae_course.posteriors import (
    Delta,
    Direct,
    Posterior,
    TopDownPosterior,
)
from hvae_course.priors import StandardNormal

CHAIN = CHAINS[3]


# Levels that share


def test_levels_may_read_one_feature_without_copies():
    inner = CHAIN.exact_rules("concatenation")
    seen = []
    for rule in inner.rules:
        rule.register_forward_hook(lambda rule, given, q: seen.append(given[0]))
    model = CHAIN.hvae(TopDownPosterior(list(inner.rules), reads=(1, 1, 1)))
    model.bottom_up = BottomUp([nn.Identity()])
    assert_exact(model, CHAIN)
    assert len(seen) == 3 and all(d is seen[0] for d in seen)
    with pytest.raises(ValueError, match="3 rules need 1 features.*per feature that the rules re"):
        model.posterior([seen[0]] * 3)


@pytest.mark.parametrize("reads", [(1, 2), (0, 1, 1)])
def test_rules_read_one_feature_each(reads):
    with pytest.raises(ValueError, match=r"3 rules read one feature each.*got reads=\("):
        TopDownPosterior(list(CHAIN.exact_rules("merge").rules), reads=reads)


def tied_model(copies: bool) -> HierarchicalVAE:
    """Three levels with the same modules, or with copies of them."""
    torch.manual_seed(0)
    parts = MarkovUpdate(), GaussianHead(3, 3), Delta(nn.Linear(9, 6), reads_state=False)
    update, prior, rule = parts

    def times(module: nn.Module, n: int) -> list[nn.Module]:
        return [copy.deepcopy(module) if copies else module for _ in range(n)]

    return HierarchicalVAE(
        StandardNormal(3),
        BottomUp([nn.Identity()]),
        posterior=TopDownPosterior(times(rule, 3), reads=(1, 1, 1)),
        top_down=TopDown(times(update, 3), times(prior, 2), Bernoulli(nn.Linear(3, 9))),
    )


def test_levels_may_be_tied():
    tied, copies, x = tied_model(False), tied_model(True), torch.rand(6, 9).round()
    copies.load_state_dict(tied.state_dict())
    for model in (tied, copies):
        torch.manual_seed(1)
        elbo(model(x), x).mean().backward()
    assert len(list(tied.parameters())) == 6
    own = tied.posterior.rules[0].net.weight.grad
    torch.testing.assert_close(own, sum(rule.net.weight.grad for rule in copies.posterior.rules))


# The order in which the levels are drawn


def conditional(l: int, given: list[int], chain: LinearGaussian = CHAIN) -> LinearGaussianPair:
    """Exact p(z_l | variables), where x is variable 0."""
    c = chain.covariance()
    slopes = torch.linalg.solve(c[given][:, given], c[given, l])
    return LinearGaussianPair(slopes.tolist(), (c[l, l] - slopes @ c[given, l]).item())


class Mixed(Posterior):
    """Draws z_1 on the way up, then z_3 given z_1, then z_2 given both its neighbours."""

    draws_bottom_up = (True, False, False)
    num_levels = 3

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (
            conditional(1, [0]),
            conditional(2, [1, 3]),
            conditional(3, [1]),
        )

    def forward(self, features):
        q = self.first(features[0])
        return self._choose(q, q.rsample(), lambda l, q: q.rsample())

    def score(self, features, latents):
        return self._choose(self.first(features[0]), latents[0], lambda l, q: latents[l])

    def top(self, features, h):
        raise TypeError("q(z_3 | x) has no closed form")

    def _choose(self, q1, z1, pick):
        def choose(l, h, p):
            if l == 0:
                return q1, z1
            q = self.third(z1) if l == 2 else self.second(join(z1, h))
            return q, pick(l, q)

        return choose


def test_some_levels_may_be_drawn_on_the_way_up_and_others_on_the_way_down():
    model = CHAIN.hvae(Mixed())
    assert_exact(model, CHAIN)
    x = CHAIN.sample_x(50)
    trace = model(x)
    choose = model.posterior.score([x], [level.z for level in trace.levels])
    levels, _ = model.top_down.walk(model.top_prior(), choose, 50)
    for level, scored in zip(trace.levels, levels, strict=True):
        torch.testing.assert_close(scored.information, level.information)


def test_the_index_code_follows_the_order_in_which_the_levels_are_drawn():
    """Given z_1, neither z_2 nor z_3 says which example it was drawn for."""
    model, x = CHAIN.hvae(Mixed()), CHAIN.sample_x(40)
    torch.manual_seed(0)
    index, marginal = aggregate_split(model, x)
    torch.manual_seed(0)
    trace = model(x)
    q = model.posterior.first(x)
    pairs = q.expand((40, 40)).log_prob(trace.levels[0].z[:, None])
    code = pairs.diagonal() - pairs.logsumexp(dim=1) + math.log(40)
    torch.testing.assert_close(index[0], code)
    for l in (1, 2):
        torch.testing.assert_close(index[l], torch.zeros(40, dtype=D))
    for level, *parts in zip(trace.levels, index, marginal, strict=True):
        torch.testing.assert_close(sum(parts), level.information)


# Posteriors that are not Gaussian


class Flow(nn.Module):
    """A Gaussian, written as a flow that is inverted from its cache."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, features: Tensor) -> Distribution:
        normal = self.inner(features).base_dist
        base = Independent(Normal(torch.zeros_like(normal.loc), torch.ones_like(normal.loc)), 1)
        affine = AffineTransform(normal.loc, normal.scale, event_dim=1, cache_size=1)
        return TransformedDistribution(base, [affine])


def test_a_posterior_may_be_a_flow_which_has_no_mean(tiny_data):
    posterior = CHAIN.exact_rules("concatenation")
    for rule in posterior.rules:
        rule.head = Flow(rule.head)
    model = CHAIN.hvae(posterior)
    assert_exact(model, CHAIN)
    x = CHAIN.sample_x(2)
    with pytest.raises(TypeError, match="TransformedDistribution has no mean in closed form"):
        analysis.interpolate(model, x, level=1)
    assert analysis.reconstruct(model, x, from_level=2).px.mean.shape == x.shape
    table = diagnose(flow_model(), tiny_data, max_examples=10)
    assert table["active_units"].isna().all() and table["informative_units"].isna().all()
    assert table["index_code"].notna().all()


def flow_model() -> HierarchicalVAE:
    """One level on the digits, whose posterior is a flow."""
    return HierarchicalVAE(
        StandardNormal(2),
        BottomUp([nn.Identity()]),
        posterior=TopDownPosterior([Direct(Flow(GaussianHead(64, 2)))]),
        top_down=TopDown([MarkovUpdate()], [], GaussianHead(2, 64)),
    )


# Codes, through which no gradient passes


class Code(Distribution):
    """The nearest entry of a codebook, with certainty."""

    arg_constraints = {}

    def __init__(self, features: Tensor, codebook: Tensor) -> None:
        super().__init__(features.shape[:1], codebook.shape[:1], validate_args=False)
        self.index = torch.cdist(features, codebook).argmin(dim=1)
        self.commitment = (features - codebook[self.index]).square().sum(dim=1)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return F.one_hot(self.index, self.event_shape[0]).float()

    def log_prob(self, value: Tensor) -> Tensor:
        return (value.argmax(dim=1) == self.index).float().log()


class Quantise(nn.Module):
    """Head of a level of codes."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.codebook = nn.Linear(9, 2), nn.Parameter(torch.randn(5, 2))

    def forward(self, d: Tensor) -> Code:
        return Code(self.net(d), self.codebook)


class Uniform(nn.Module):
    """Uniform prior over the codes."""

    num_samples = 1

    def forward(self, encode: object) -> Distribution:
        return OneHotCategorical(logits=torch.zeros(5), validate_args=False)


def test_levels_without_gradients_are_trained_by_what_their_posterior_says():
    head, pixels = Quantise(), nn.Linear(5, 9)
    model = HierarchicalVAE(
        Uniform(),
        BottomUp([nn.Identity()]),
        posterior=TopDownPosterior([Direct(head)]),
        top_down=TopDown([MarkovUpdate()], [], Bernoulli(pixels)),
    )
    x = torch.rand(6, 9).round()
    trace = model(x)
    (level,) = trace.levels
    torch.testing.assert_close(level.information, torch.full((6,), math.log(5)))
    elbo(trace, x).mean().backward(retain_graph=True)
    assert pixels.weight.grad is not None
    assert all(parameter.grad is None for parameter in head.parameters())
    (elbo(trace, x) - level.q.commitment).mean().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
