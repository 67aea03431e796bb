"""Every posterior family on hierarchies whose evidence is known, and scoring of held latents."""

import math

import pytest
import torch
from linear_gaussian import CHAINS, D, standard_error
from recipe_kinds import RECIPE_STATES
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from hvae_course.gaussians import LOG_STD_BOUND, diag_normal
from hvae_course.hierarchy import BottomUp, HierarchicalVAE, SkipUpdate, TopDown, from_noise
from hvae_course.objectives import elbo, importance_weighted
from hvae_course.oracles import LinearGaussian, LinearGaussianPair
from hvae_course.oracles.layers import LinearGaussianLikelihood
from hvae_course.posteriors import Chain, Concatenation, Delta, Posterior, TopDownPosterior
from hvae_course.priors import StandardNormal

KINDS = ("chain", "concatenation", "delta", "merge")
kinds = pytest.mark.parametrize("kind", KINDS)
depths = pytest.mark.parametrize("num_levels", CHAINS)


def exact(chain: LinearGaussian, kind: str) -> Posterior:
    return Chain(chain.posterior_chain()) if kind == "chain" else chain.exact_rules(kind)


def replace_parts(posterior: Posterior, wrap: type[nn.Module], *settings: object) -> None:
    """Wrap the network of every level."""
    if isinstance(posterior, Chain):
        posterior.heads = nn.ModuleList(wrap(head, *settings) for head in posterior.heads)
        return
    for rule in posterior.rules:
        part = "net" if isinstance(rule, Delta) else "head"
        setattr(rule, part, wrap(getattr(rule, part), *settings))


# The exact posterior


@kinds
@depths
def test_with_the_exact_posterior_every_draw_gives_the_evidence(kind, num_levels):
    """If q(z|x) = p(z|x) then p(x, z) / q(z|x) = p(x), whatever z was drawn."""
    chain = CHAINS[num_levels]
    x = chain.sample_x(64)
    log_w = chain.hvae(exact(chain, kind))(x, 5).log_weight(x)
    expected = chain.log_px(x).repeat_interleave(5)
    torch.testing.assert_close(log_w, expected, rtol=0, atol=1e-12)


class Ends(nn.Module):
    """Passes on the first entries (of x, if there are any) and the last latent above."""

    def __init__(self, inner: nn.Module, first: int, last: int) -> None:
        super().__init__()
        self.inner, self.first, self.last = inner, first, last

    def forward(self, state: Tensor) -> Distribution | Tensor:
        above = state[:, self.first :]
        return self.inner(torch.cat([state[:, : self.first], above[:, -self.last :]], dim=1))


@kinds
@depths
def test_a_markov_hierarchy_is_as_exact_with_a_state_that_holds_all_latents(kind, num_levels):
    chain = CHAINS[num_levels]
    size, x, markov = chain.size, chain.sample_x(64), chain.hvae(exact(chain, kind))
    if kind != "chain":
        replace_parts(markov.posterior, Ends, size, size)
    conditionals, likelihood = markov.top_down.conditionals, markov.top_down.likelihood
    likelihood.net = Ends(likelihood.net, 0, size)
    model = HierarchicalVAE(
        markov.prior,
        markov.bottom_up,
        posterior=markov.posterior,
        top_down=TopDown(
            [SkipUpdate() for _ in range(num_levels)],
            [Ends(conditional, 0, size) for conditional in conditionals],
            likelihood,
        ),
    ).double()
    log_w = model(x, 5).log_weight(x)
    expected = chain.log_px(x).repeat_interleave(5)
    torch.testing.assert_close(log_w, expected, rtol=0, atol=1e-12)


def skip_covariance(num_levels: int) -> Tensor:
    """Covariance of (x, z_1, ..., z_L) where every variable depends on all the ones above it."""
    slopes = 0.5 * torch.randn(num_levels + 1, num_levels + 1, dtype=D).triu(1)
    noise = 0.3 + torch.rand(num_levels + 1, dtype=D)
    noise[-1] = 1.0
    rows = torch.linalg.inv(torch.eye(num_levels + 1, dtype=D) - slopes) * noise.sqrt()
    return rows @ rows.T


def pair(covariance: Tensor, of: int, given: list[int]) -> LinearGaussianPair:
    cross, own = covariance[given, of], covariance[given][:, given]
    slopes = torch.linalg.solve(own, cross)
    return LinearGaussianPair(slopes.tolist(), (covariance[of, of] - slopes @ cross).item())


def delta_to(q: LinearGaussianPair, p: LinearGaussianPair | None) -> Delta:
    """The delta rule that takes the prior to the posterior, with x in front of the state."""
    slopes = torch.tensor(q.slopes, dtype=D)
    slopes[1:] -= torch.tensor(p.slopes if p else (), dtype=D)
    net = nn.Linear(len(slopes), 2, dtype=D)
    net.weight.data = torch.stack([slopes, torch.zeros_like(slopes)])
    log_scale = q.log_std - (p.log_std if p else 0.0)
    raw = LOG_STD_BOUND * math.atanh(log_scale / LOG_STD_BOUND)
    net.bias.data = torch.tensor([0.0, raw], dtype=D)
    return Delta(net)


@pytest.mark.parametrize("kind", ["concatenation", "delta"])
@depths
def test_with_skips_the_exact_posterior_is_within_reach_of_rules_that_see_all_latents(
    kind, num_levels
):
    c = skip_covariance(num_levels)
    above = [list(range(num_levels, l, -1)) for l in range(num_levels + 1)]  # z_L first
    priors = [pair(c, l, above[l]) for l in range(num_levels)]
    posteriors = [pair(c, l, [0, *above[l]]) for l in range(1, num_levels + 1)]
    rules = [Concatenation(q) for q in posteriors]
    if kind == "delta":
        rules = [delta_to(q, p) for q, p in zip(posteriors, [*priors[1:], None], strict=True)]
    model = HierarchicalVAE(
        StandardNormal(1),
        BottomUp([nn.Identity()] * num_levels),
        posterior=TopDownPosterior(rules),
        top_down=TopDown(
            [SkipUpdate() for _ in rules], priors[1:], LinearGaussianLikelihood(priors[0])
        ),
    ).double()
    x = torch.randn(64, 1, dtype=D)
    expected = Normal(0.0, c[0, 0].sqrt()).log_prob(x).repeat_interleave(5)
    torch.testing.assert_close(model(x, 5).log_weight(x), expected, rtol=0, atol=1e-12)


# Other posteriors


class Off(nn.Module):
    """Changes mean and scale of its module's output a little."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, features: Tensor) -> Distribution | Tensor:
        out = self.inner(features)
        if isinstance(out, Tensor):
            return out + 0.2
        return diag_normal(0.9 * out.mean + 0.1, out.base_dist.scale.log() + 0.2)


@kinds
@depths
def test_bounds_of_a_wrong_posterior_rise_with_the_draws_and_stay_below_the_evidence(
    kind, num_levels
):
    chain, n = CHAINS[num_levels], 5_000
    posterior = exact(chain, kind)
    replace_parts(posterior, Off)
    model, x = chain.hvae(posterior), chain.sample_x(1).expand(n, -1)
    bounds = [elbo(model(x), x)]
    bounds += [importance_weighted(trace, x) for trace in (model(x, 4), model(x, 16))]
    for lower, higher in zip(bounds, bounds[1:], strict=False):
        spread = (standard_error(lower) ** 2 + standard_error(higher) ** 2) ** 0.5
        assert higher.mean() - lower.mean() > 5 * spread
    gaps = [chain.log_px(x) - bound for bound in bounds]
    assert gaps[0].mean() > 5 * standard_error(gaps[0])
    assert all(gap.mean() > -5 * standard_error(gap) for gap in gaps)


# Scoring of held latents


@pytest.mark.parametrize(("recipe", "state"), RECIPE_STATES)
def test_held_draws_are_scored_by_the_very_distributions_they_were_drawn_from(
    recipe, state, make_model
):
    model, x = make_model(recipe, latent_sizes=(4, 3, 2), state=state).eval(), torch.rand(5, 64)
    trace = model(x)
    choose = model.posterior.score(model.bottom_up(x), [level.z for level in trace.levels])
    levels, _ = model.top_down.walk(model.prior(), choose, 5)
    for scored, drawn in zip(levels, trace.levels, strict=True):
        assert scored.z is drawn.z
        for name in ("q", "p"):
            again, first = getattr(scored, name), getattr(drawn, name)
            for noise in (0.0, 1.0):
                torch.testing.assert_close(from_noise(again, noise), from_noise(first, noise))


@pytest.mark.parametrize(
    ("recipe", "moved"),
    [("bottom_up_vae", {3}), ("mean_field_vae", set())]
    + [(name, {1}) for name in ("delta_vae", "ladder_vae", "bidirectional_vae")],
)
def test_a_changed_z_2_changes_the_score_of_the_level_drawn_from_it(recipe, moved, make_model):
    """Above it in a bottom-up posterior, below it in a top-down one."""
    model, x = make_model(recipe, latent_sizes=(4, 3, 2)).eval(), torch.rand(5, 64)
    features, latents = model.bottom_up(x), [level.z for level in model(x).levels]
    walks = [
        model.top_down.walk(model.prior(), model.posterior.score(features, held), 5)[0]
        for held in (latents, [latents[0], latents[1] + 1, latents[2]])
    ]
    changed = {
        l
        for l, (first, second) in enumerate(zip(*walks, strict=True), start=1)
        if not torch.equal(first.q.mean, second.q.mean)
    }
    assert changed == moved


def test_scoring_with_a_wrong_number_of_features_is_refused(make_model):
    model, x = make_model("delta_vae").eval(), torch.rand(5, 64)
    latents = [level.z for level in model(x).levels]
    with pytest.raises(ValueError, match=r"2 rules need 2 features d_1, ..., d_L, got 1; give"):
        model.posterior.score(model.bottom_up(x)[:1], latents)
