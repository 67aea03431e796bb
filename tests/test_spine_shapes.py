"""Latents that are images, at several resolutions, and states of any kind."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from linear_gaussian import CHAINS, D, assert_exact
from torch import Tensor, nn
from torch.distributions import (
    Distribution,
    Independent,
)

from hvae_course import analysis
from hvae_course.analysis import aggregate_split, diagnose, latent_shapes, latent_sizes
from hvae_course.gaussians import GaussianHead, diag_normal, split_normal
from hvae_course.hierarchy import (
    BottomUp,
    HierarchicalVAE,
    LearnedState,
    MarkovUpdate,
    SkipUpdate,
    TopDown,
    join,
)
from hvae_course.likelihoods import Bernoulli
from hvae_course.objectives import elbo
from hvae_course.posteriors import (
    Concatenation,
    Delta,
    Direct,
    PosteriorRule,
    PrecisionWeighted,
    TopDownPosterior,
    kl_delta,
)
from hvae_course.priors import VHP, MixtureOfGaussians, StandardNormal, VampPrior

CHAIN = CHAINS[3]
SHAPES = ((2, 8, 8), (3, 4, 4))  # of z_1 and z_2


# Latents that are images, at two resolutions


class Head(nn.Module):
    """Convolution to a diagonal Gaussian over an image."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.net = nn.Conv2d(channels_in, 2 * channels, 3, padding=1)

    def forward(self, features: Tensor) -> Independent:
        return split_normal(self.net(features))


class Upsampled(nn.Module):
    """An update whose state has twice the resolution."""

    def __init__(self, update: nn.Module) -> None:
        super().__init__()
        self.update = update

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        return F.interpolate(self.update(h, z), scale_factor=2)


def image_rule(kind: str, features: int, state: int, size: int) -> PosteriorRule:
    if kind == "direct":
        return Direct(Head(features, size))
    if kind == "concatenation":
        return Concatenation(Head(features + state, size))
    if kind == "delta":
        return Delta(nn.Conv2d(features + state, 2 * size, 3, padding=1))
    return PrecisionWeighted(Head(features, size))


def image_model(
    kind: str = "concatenation", state: str = "markov", prior: nn.Module | None = None
) -> HierarchicalVAE:
    """A hierarchy with z_2 at 4 x 4 and z_1 at 8 x 8 pixels; x are vectors."""
    torch.manual_seed(0)
    update, above = (SkipUpdate, 4) if state == "skip" else (MarkovUpdate, 0)
    below = above + 3 if state == "skip" else 3
    initial = LearnedState(above, 4, 4) if above else None
    stem = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 5, 3, padding=1))
    top = kind if prior is None else "direct"
    pixels = nn.Sequential(nn.Conv2d(2 + (below if above else 0), 1, 1), nn.Flatten())
    return HierarchicalVAE(
        prior or StandardNormal(*SHAPES[1]),
        BottomUp([stem, nn.Conv2d(5, 5, 2, stride=2)]),
        posterior=TopDownPosterior([image_rule(kind, 5, below, 2), image_rule(top, 5, above, 3)]),
        top_down=TopDown(
            [update(), Upsampled(update())], [Head(below, 2)], Bernoulli(pixels), initial=initial
        ),
    )


KINDS = ("direct", "concatenation", "delta", "merge")
kinds = pytest.mark.parametrize("kind", KINDS)
states = pytest.mark.parametrize("state", ["markov", "skip"])


@kinds
@states
def test_every_rule_and_state_takes_images(kind, state):
    model, x = image_model(kind, state), torch.rand(6, 64).round()
    trace = model(x, 3)
    assert [level.z.shape for level in trace.levels] == [(18, *shape) for shape in SHAPES]
    assert all(level.information.shape == (18,) for level in trace.levels)
    elbo(trace, x).mean().backward()
    unused = {"top_down.initial.value"} if kind in ("direct", "merge") else set()
    assert {n for n, p in model.named_parameters() if p.grad is None} <= unused
    assert latent_shapes(model) == list(SHAPES)


PRIORS = {
    "mixture": lambda: MixtureOfGaussians(SHAPES[1], 5),
    "vamp": lambda: VampPrior.at_random(5, 64),
    "vhp": lambda: VHP(
        nn.Sequential(nn.Linear(2, 48), nn.Unflatten(1, (3, 4, 4)), Head(3, 3)),
        nn.Sequential(nn.Flatten(), GaussianHead(48, 2)),
        size=SHAPES[1],
        zeta=StandardNormal(2),
        num_samples=4,
    ),
}


@pytest.mark.parametrize("name", PRIORS)
@states
def test_every_prior_takes_images(name, state):
    prior = PRIORS[name]()
    model, x = image_model("concatenation", state, prior), torch.rand(6, 64).round()
    elbo(model(x), x).mean().backward()
    assert all(p.grad is not None for p in prior.parameters())
    p, z = model.top_prior(), torch.randn(7, *SHAPES[1])
    assert p.expand((7,)).sample().shape == z.shape
    if name != "vhp":  # whose density is random
        recorded = p.log_prob(z)
        with torch.no_grad():
            torch.testing.assert_close(p.log_prob(z), recorded)
            parts = p.component_distribution.log_prob(z[:, None])
            expected = (parts + p.mixture_distribution.logits).logsumexp(dim=1)
        torch.testing.assert_close(recorded, expected)


def test_a_level_of_images_is_held_varied_interpolated_and_reconstructed():
    model, x = image_model("delta", "skip").eval(), torch.rand(2, 64).round()
    values = torch.randn(5, *SHAPES[1])
    torch.manual_seed(0)
    given = analysis.infer(model, x)
    varied = analysis.vary(model, values, level=2)
    noise = [(z.z - z.p.mean) / z.p.stddev for z in varied.levels]
    assert torch.equal(varied.levels[1].z, values)
    torch.testing.assert_close(noise[0], noise[0][:1].expand(5, *SHAPES[0]))
    below = analysis.vary(model, torch.randn(5, *SHAPES[0]), level=1, above=given)
    assert torch.equal(below.levels[1].z, given.levels[1].z[:1].expand(5, *SHAPES[1]))
    torch.manual_seed(0)
    path = analysis.interpolate(model, x, level=1, steps=3)
    start, end = given.levels[0].q.mean
    torch.testing.assert_close(path.levels[0].z, torch.stack([start, (start + end) / 2, end]))
    torch.manual_seed(0)
    again = analysis.reconstruct(model, x, from_level=2)
    assert torch.equal(again.levels[1].z, given.levels[1].z)
    assert analysis.sample(model, 4).px.mean.shape == (4, 64)


def test_levels_of_images_are_diagnosed_with_and_without_their_index_code(tiny_binary):
    model = image_model()
    full = diagnose(model, tiny_binary, max_examples=20)
    short = diagnose(model, tiny_binary, max_examples=20, index_code=False)
    assert full["units"].tolist() == [128, 48]
    assert (full["informative_units"] <= full["units"]).all()
    x = tiny_binary.test.batch(slice(0, 20))
    with torch.no_grad():
        index, marginal = aggregate_split(model, x, max_rows=70)
    assert all(part.shape == (20,) for part in (*index, *marginal))
    assert set(full.columns) - set(short.columns) == {"index_code", "marginal_kl"}
    assert full[short.columns].equals(short)


def test_sums_run_over_the_whole_event():
    image = torch.randn(4, 5, 3, 2, 2, dtype=D)
    flat = image.flatten(2)
    in_closed_form = [kl_delta(a, b, diag_normal(c, d)) for a, b, c, d in (image, flat)]
    torch.testing.assert_close(*in_closed_form)


# The state


def test_an_empty_state_joins_whatever_it_meets():
    empty, z, image = torch.empty(4, 0), torch.randn(4, 3), torch.randn(4, 3, 2, 2)
    assert torch.equal(join(z, empty), z) and torch.equal(join(empty, image), image)
    assert join(image, image).shape == (4, 6, 2, 2)


def test_what_cannot_be_joined_is_refused():
    small, large = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 4, 4)
    match = r"cannot join tensors of shapes \(4, 3, 4, 4\), \(4, 3, 2, 2\) along axis 1; bring the"
    for part in (Concatenation(nn.Identity()), Delta(nn.Identity())):
        with pytest.raises(ValueError, match=match):
            part(large, small, diag_normal(large, large))
    with pytest.raises(ValueError, match=r"\(4, 3, 2, 2\), \(4, 3, 4, 4\) along axis 1"):
        SkipUpdate()(small, large)
    with pytest.raises(ValueError, match=r"\(4, 3\), \(4, 3, 2, 2\) along axis 1"):
        join(torch.randn(4, 3), small)
    with pytest.raises(TypeError, match="only tensors can be joined, got Canvas; write a rule"):
        Concatenation(nn.Identity())(large, Canvas(small, small), None)


def test_sizes_are_those_of_vectors():
    with pytest.raises(ValueError, match=r"has a shape and not one size, got \[\(2, 8, 8\), \(3,"):
        latent_sizes(image_model())


def test_a_learned_initial_state_is_read_by_every_part_above_the_top():
    initial, d = LearnedState(3), torch.randn(5, 6)
    nn.init.normal_(initial.value)
    rules = [Concatenation(GaussianHead(9, 2)), Concatenation(GaussianHead(9, 3))]
    model = HierarchicalVAE(
        VampPrior.at_random(4, 6),
        BottomUp([nn.Identity(), nn.Identity()]),
        posterior=TopDownPosterior(rules),
        top_down=TopDown(
            [SkipUpdate(), MarkovUpdate()],
            [GaussianHead(3, 2)],
            Bernoulli(nn.Linear(5, 6)),
            initial=initial,
        ),
    )
    expected = rules[1].head(torch.cat([d, initial.value.expand(5, -1)], dim=1))
    assert torch.equal(model.encode_top(d).mean, expected.mean)
    assert torch.equal(model(d).levels[1].q.mean, expected.mean)
    assert "top_down.initial.value" in model.state_dict()
    x = d.gt(0).float()
    elbo(model(x), x).mean().backward()
    assert (initial.value.grad != 0).all()


class Canvas(NamedTuple):
    """A state of two tensors: the latent above, and the sum of all so far."""

    above: Tensor
    total: Tensor


class Paint(nn.Module):
    """Update of the record."""

    def forward(self, h: Canvas, z: Tensor) -> Canvas:
        return Canvas(z, h.total + z)


class Blank(nn.Module):
    """The record above the top level."""

    def forward(self, n: int) -> Canvas:
        return Canvas(torch.empty(n, 0, dtype=D), torch.zeros(n, CHAIN.size, dtype=D))


class Above(nn.Module):
    """A conditional, or a likelihood, that reads one part of the record."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, h: Canvas) -> Distribution:
        return self.inner(h.above)


class RuleAbove(PosteriorRule):
    """A rule that reads one part of the record."""

    def __init__(self, inner: PosteriorRule) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, d: Tensor, h: Canvas, p: Distribution | None) -> Distribution:
        return self.inner(d, h.above, p)


def test_a_state_may_be_a_record():
    model = CHAIN.hvae(CHAIN.exact_rules("concatenation"))
    top_down, rules = model.top_down, model.posterior.rules
    model.posterior = TopDownPosterior([RuleAbove(rule) for rule in rules])
    model.top_down = TopDown(
        [Paint() for _ in rules],
        [Above(part) for part in top_down.conditionals],
        top_down.likelihood,
        initial=Blank(),
    )
    top_down.likelihood.net = Above(top_down.likelihood.net)
    assert_exact(model, CHAIN)
    levels, h = model.top_down.walk(model.top_prior(), model.posterior([CHAIN.sample_x(4)] * 3), 4)
    torch.testing.assert_close(h.total, sum(level.z for level in levels))
