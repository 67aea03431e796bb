"""NVAE: squashed Gaussians, posteriors relative to their raw parameters, and exact answers."""

import math

import numpy as np
import pytest
import torch
from deep_models import held, reads
from linear_gaussian import CHAINS, D, assert_exact
from torch import Tensor, nn

from hvae_course import recipes
from hvae_course.config import Model
from hvae_course.convolutions import MapBatchNorm
from hvae_course.data import DataSpec
from hvae_course.gaussians import diag_normal, is_diag_normal, kl_normal
from hvae_course.hierarchy import BottomUp, HierarchicalVAE, MarkovUpdate, TopDown, common_noise
from hvae_course.oracles import LinearGaussian
from hvae_course.oracles.layers import LinearGaussianLikelihood
from hvae_course.posteriors import (
    Concatenation,
    Direct,
    ResidualNormal,
    SquashedNormal,
    TopDownPosterior,
    kl_delta,
    squashed_normal,
)
from hvae_course.priors import StandardNormal
from hvae_course.recipes import build

SPEC = DataSpec((8, 8), 2)
STAGES = ((4, 2, 6), (2, 2, 4))
SIZES = (2, 1, 2, 3)


def small(spec: DataSpec = SPEC, *, sizes=SIZES, **networks) -> HierarchicalVAE:
    options = {"stages": STAGES, "zero_priors": False} | networks
    torch.manual_seed(0)
    return recipes.nvae(spec, latent_sizes=sizes, networks_options=options).double()


def binary(n: int, size: int = 64) -> Tensor:
    return torch.bernoulli(torch.full((n, size), 0.5, dtype=D))


def pair(shift: float, log_factor: float, *, mean: float, log_scale: float, n: int = 1):
    """A prior of raw parameters, and the posterior by a change of them."""
    raw = torch.tensor([[mean], [log_scale]], dtype=D).expand(2, n).unsqueeze(-1)
    change = torch.tensor([[shift], [log_factor]], dtype=D).expand(2, n).unsqueeze(-1)
    p = squashed_normal(*raw)
    return ResidualNormal(Fixed(torch.cat([*change], dim=1)))(raw[0], raw[0], p), p


class Fixed(nn.Module):
    """The same outputs, whatever it reads."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, features: Tensor) -> Tensor:
        return self.outputs


# Squashed Gaussians


def test_mean_and_log_scale_are_squashed_and_every_scale_has_a_floor():
    m, s = torch.linspace(-30, 30, 12, dtype=D).reshape(2, 6), torch.randn(2, 6, dtype=D)
    p = squashed_normal(m, s)
    torch.testing.assert_close(p.mean, 5 * torch.tanh(m / 5))
    torch.testing.assert_close(p.stddev, (5 * torch.tanh(s / 5)).exp() + 0.01)
    extreme = squashed_normal(m, torch.full_like(m, -1e4)).stddev
    torch.testing.assert_close(extreme, torch.full_like(m, math.exp(-5) + 0.01))
    assert is_diag_normal(p) and p.event_shape == (6,) and torch.equal(p.raw[0], m)


def test_raw_parameters_are_kept_in_single_precision_and_in_every_row():
    p = squashed_normal(torch.zeros(1, 2, dtype=torch.bfloat16), torch.ones(1, 2))
    assert p.stddev.dtype == p.raw[0].dtype == torch.float32
    wider = p.expand((3,))
    assert isinstance(wider, SquashedNormal) and wider.batch_shape == (3,)
    assert [part.shape for part in wider.raw] == [(3, 2), (3, 2)]
    z = torch.randn(3, 2)
    torch.testing.assert_close(wider.log_prob(z), p.log_prob(z))


# The rule


@pytest.mark.equation("eq-clamped")
def test_the_sum_of_prior_and_change_is_squashed():
    q, _ = pair(2.0, -1.5, mean=4.0, log_scale=-3.0)
    assert q.mean.item() == pytest.approx(5 * math.tanh(6 / 5))
    assert q.stddev.item() == pytest.approx(math.exp(5 * math.tanh(-4.5 / 5)) + 0.01)


def test_without_a_change_the_posterior_is_the_prior():
    q, p = pair(0.0, 0.0, mean=3.0, log_scale=-2.0)
    assert torch.equal(q.mean, p.mean) and torch.equal(q.stddev, p.stddev)
    assert kl_normal(q, p).item() == 0


def test_a_prior_without_raw_parameters_is_refused():
    rule, h = ResidualNormal(nn.Identity()), torch.zeros(1, 2)
    with pytest.raises(TypeError, match="of a squashed Gaussian prior, and DiagNormal has none"):
        rule(h, h, diag_normal(h, h))


def test_the_top_level_is_squashed_too_and_reads_the_data_alone():
    model = small()
    kinds = [type(rule) for rule in model.posterior.rules]
    assert kinds == [ResidualNormal] * 3 + [Direct] and not model.posterior.reads_top_prior
    q = model.eval().encode_top(binary(2))
    assert isinstance(q, SquashedNormal) and q.event_shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("shift", "log_factor", "mean", "log_scale"),
    [(0.3, -0.2, 2.0, -2.0), (0.0, 0.2, 0.0, -3.0), (1.0, 0.0, 4.0, 0.0), (0.0, 2.0, 0.0, 3.0)],
)
def test_the_closed_form_of_deltas_is_not_the_divergence_of_squashed_gaussians(
    shift, log_factor, mean, log_scale, assert_mean
):
    """Many standard errors away from a Monte Carlo estimate, which `kl_normal` agrees with."""
    torch.manual_seed(0)
    q, p = pair(shift, log_factor, mean=mean, log_scale=log_scale, n=200_000)
    z = q.sample()
    information = q.log_prob(z) - p.log_prob(z)
    assert_mean(information, kl_normal(q, p)[0])
    change = torch.tensor([[shift], [log_factor]], dtype=D)
    wrong = kl_delta(change[:1], change[1:], p)[0]
    standard_error = information.std() / len(information) ** 0.5
    assert abs(information.mean() - wrong) > 20 * standard_error


def test_the_closed_form_of_deltas_is_never_below_the_divergence_of_squashed_gaussians():
    """Squashing and floor shrink both changes and keep their signs; the KL grows with each."""
    torch.manual_seed(0)
    m, s = 6 * torch.randn(2, 100_000, 1, dtype=D)
    size = torch.randn(2, 100_000, 1, dtype=D).exp()
    shift, log_factor = size * torch.randn(2, 100_000, 1, dtype=D)
    q, p = squashed_normal(m + shift, s + log_factor), squashed_normal(m, s)
    right, closed = kl_normal(q, p), kl_delta(shift, log_factor, p)
    assert (closed - right > -1e-9 * (1 + right)).all()
    assert (closed > 2 * right).double().mean() > 0.1  # not only because all changes are small


@pytest.mark.parametrize("mean", [0.0, 1.0, 4.0, 8.0])
@pytest.mark.parametrize("log_scale", [-6.0, -3.0, 0.0, 2.0])
def test_for_small_changes_the_error_of_the_closed_form_is_the_slope_of_the_squashing(
    mean, log_scale
):
    """Ratio of the KL to the closed form: c'(m)^2, and (share of e^c in the scale * c'(s))^2."""

    def ratio(shift: float, log_factor: float) -> float:
        q, p = pair(shift, log_factor, mean=mean, log_scale=log_scale)
        change = torch.tensor([[shift], [log_factor]], dtype=D)
        return (kl_normal(q, p) / kl_delta(change[:1], change[1:], p)).item()

    slopes = [1 / math.cosh(raw / 5) ** 2 for raw in (mean, log_scale)]
    scale = math.exp(5 * math.tanh(log_scale / 5))
    assert ratio(1e-4, 0) == pytest.approx(slopes[0] ** 2, rel=1e-3)
    expected = (scale / (scale + 0.01) * slopes[1]) ** 2
    assert ratio(0, 1e-4) == pytest.approx(expected, rel=1e-3)
    assert expected < 0.981  # also where nothing is squashed, because of the floor


# Exact answers

WIDE = {"bound": 1e8, "floor": 0.0}
"""c(a) = a up to 4e-15 for |a| < 5."""


class Squashed(nn.Module):
    """A linear-Gaussian conditional with raw parameters."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, h: Tensor) -> SquashedNormal:
        p = self.layer(h)
        return squashed_normal(p.mean, p.base_dist.scale.log(), **WIDE)


class Difference(nn.Module):
    """Change of the raw parameters that takes the prior to the exact posterior."""

    def __init__(self, q: nn.Module, p: nn.Module, size: int) -> None:
        super().__init__()
        self.q, self.p, self.size = q, p, size

    def forward(self, features: Tensor) -> Tensor:
        q, p = self.q(features), self.p(features[:, self.size :])
        scales = q.base_dist.scale.log() - p.base_dist.scale.log()
        return torch.cat([q.mean - p.mean, scales], dim=1)


def exact_model(chain: LinearGaussian) -> HierarchicalVAE:
    *lower, top = chain.posterior_conditionals()
    layers = chain.layers()
    rules = [
        ResidualNormal(Difference(q, p, chain.size), **WIDE)
        for q, p in zip(lower, layers[1:], strict=True)
    ]
    return HierarchicalVAE(
        StandardNormal(chain.size),
        BottomUp([nn.Identity() for _ in layers]),
        posterior=TopDownPosterior([*rules, Concatenation(top)]),
        top_down=TopDown(
            [MarkovUpdate() for _ in layers],
            [Squashed(layer) for layer in layers[1:]],
            LinearGaussianLikelihood(layers[0]),
        ),
    ).double()


@pytest.mark.parametrize("chain", CHAINS.values(), ids=lambda chain: chain.num_levels)
def test_with_the_exact_posterior_every_draw_gives_the_evidence(chain):
    assert_exact(exact_model(chain), chain)


def test_a_posterior_that_is_squashed_more_than_its_prior_is_not_exact():
    chain = CHAINS[3]
    model, x = exact_model(chain), chain.sample_x(32)
    for rule in model.posterior.rules[:-1]:
        rule.bound = 1.0
    error = model(x, 5).log_weight(x) - chain.log_px(x).repeat_interleave(5)
    assert error.std() > 0.1


def moved(model: HierarchicalVAE, scale: float) -> HierarchicalVAE:
    """A model whose parameters have moved from their start, so that its latents matter."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=D)
            parameter += scale * noise
    return model


def test_importance_weights_of_the_recipe_average_to_the_exact_probability(assert_mean):
    """Two latents of one dimension each, integrated over the noise by Gauss-Hermite quadrature."""
    spec = DataSpec((2, 2), 2)
    model = small(spec, sizes=(1, 1), stages=((1, 2, 4),), expansion=1)
    model = moved(model, 0.4).eval()
    nodes, weights = (torch.tensor(a) for a in np.polynomial.hermite_e.hermegauss(60))
    grid = torch.cartesian_prod(nodes, nodes)[..., None, None, None]
    log_w = (torch.outer(weights, weights) / (2 * math.pi)).flatten().log()
    assert log_w.logsumexp(dim=0).item() == pytest.approx(0)
    torch.manual_seed(0)
    with torch.no_grad():
        trace = model.generate(len(grid), common_noise([grid[:, 0], grid[:, 1]]))
        for row in binary(3, 4):
            log_px = (log_w + trace.px.log_prob(row)).logsumexp(dim=0)
            found = model(row[None], 40_000).log_weight(row[None])
            assert_mean((found - log_px).exp(), 1.0)
            assert found.mean() < log_px - 5 * found.std() / 200


# The recipe


@pytest.mark.parametrize("conditional", [False, True])
def test_a_level_reads_the_data_and_all_latents_above_it(conditional):
    spec = DataSpec((8, 8), 2, num_classes=3) if conditional else SPEC
    options = {"stages": STAGES, "zero_priors": False}
    settings = {"networks_options": options, "conditional": conditional}
    model = recipes.nvae(spec, latent_sizes=SIZES, **settings).double().eval()
    x, y = binary(3).requires_grad_(), torch.tensor([0, 2, 1]) if conditional else None
    latents = [level.z.detach().requires_grad_() for level in model(x, y=y).levels]
    names = ("z_1", "z_2", "z_3", "z_4")
    leaves = {"x": x} | dict(zip(names, latents, strict=True))
    trace = held(model, x, latents, y)
    for l, level in enumerate(trace.levels):
        assert reads(level.q, leaves) == {"x", *names[l + 1 :]}
        assert reads(level.p, leaves) == {*names[l + 1 :]}
    gradients = torch.autograd.grad(trace.px.log_prob(x.detach()).sum(), latents)
    assert all((gradient != 0).any() for gradient in gradients)


def test_every_level_reads_a_feature_of_its_own_unless_told_otherwise():
    assert small().posterior.reads == (1, 2, 3, 4)
    assert small(shared_features=True).posterior.reads == (2, 2, 4, 4)


def test_priors_start_at_the_standard_normal_but_for_the_floor_and_the_kl_at_zero():
    model, x = small(zero_priors=True), binary(4)
    levels = model(x).levels
    for level in levels[:-1]:
        assert (level.p.mean == 0).all() and (level.p.stddev == 1.01).all()
        assert torch.equal(kl_normal(level.q, level.p), torch.zeros(4, dtype=D))
        assert (level.information == 0).all()
    assert (levels[-1].p.stddev == 1).all() and (kl_normal(levels[-1].q, levels[-1].p) > 0).all()
    moving = small()(x).levels[:-1]
    assert all((kl_normal(level.q, level.p) > 0).all() for level in moving)


def test_blocks_are_plain_upward_and_depthwise_downward_with_batch_normalisation():
    model = recipes.nvae(SPEC, latent_sizes=(2, 2), networks_options={"channels": 4})
    up, down = (
        [m for m in part.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1]
        for part in (model.bottom_up.blocks[1], model.top_down.updates[1].blocks)
    )
    assert [(c.kernel_size, c.groups, c.out_channels) for c in up[-2:]] == [((3, 3), 1, 4)] * 2
    assert [(c.kernel_size, c.groups, c.out_channels) for c in down] == [((5, 5), 24, 24)]
    assert any(isinstance(m, MapBatchNorm) for m in model.bottom_up.modules())
    assert any(isinstance(m, nn.SiLU) for m in model.top_down.modules())
    prior = [m for m in model.top_down.conditionals[0].modules() if isinstance(m, nn.Conv2d)]
    assert [c.kernel_size for c in prior] == [(1, 1)]


def test_a_latent_enters_by_a_convolution_of_the_joined_map_that_keeps_the_state():
    update = small().top_down.updates[0]
    h, z = torch.randn(2, 6, 4, 4, dtype=D), torch.randn(2, 2, 4, 4, dtype=D)
    joined = nn.Conv2d(8, 6, 1).double()
    with torch.no_grad():
        joined.weight[:, :6] = torch.eye(6)[..., None, None]
        joined.weight[:, 6:], joined.bias[:] = update.latent.weight, update.latent.bias
    update.eval()
    expected = update.blocks(joined(torch.cat([h, z], dim=1)))
    torch.testing.assert_close(update(h, z), expected)


def test_groups_of_levels_share_the_state_of_prior_and_posterior():
    """In a group no level reads another, so that its latents are independent given those above."""
    model, x = small(group=2).eval(), binary(2)
    latents = [level.z.detach().requires_grad_() for level in model(x).levels]
    leaves = dict(zip(("z_1", "z_2", "z_3", "z_4"), latents, strict=True))
    levels = held(model, x, latents).levels
    found = [reads(level.p, leaves) for level in levels]
    assert found == [{"z_3", "z_4"}, {"z_3", "z_4"}, set(), set()]
    assert [reads(level.q, leaves) for level in levels] == found


def test_a_few_steps_raise_the_bound_of_the_digits(tiny_data, train):
    torch.manual_seed(0)
    options = {"channels": 8, "expansion": 2}
    model = recipes.nvae(tiny_data, latent_sizes=(2, 2, 4), networks_options=options)
    history = train(model, epochs=3, learning_rate=5e-3, batch_size=30)
    bounds = [row[4] for row in history.rows if row[1:3] == ("train", "elbo")]
    assert len(bounds) == 3 and bounds[-1] > bounds[0] + 5


# The start of deep hierarchies


def state_variance(recipe: str, num_levels: int, *, scaled: bool) -> float:
    """Variance over draws of the state that the likelihood reads, before training."""
    options = {"stages": ((4, num_levels, 8),), "depth_scaled": scaled, "expansion": 1}
    model = Model(
        recipe=recipe,
        networks="convolutional",
        latent_sizes=(2,) * num_levels,
        networks_options=options,
    )
    built, states = build(model, DataSpec((4, 4), 2), seed=0), []
    built.top_down.likelihood.register_forward_pre_hook(lambda _, read: states.append(read[0]))
    torch.manual_seed(0)
    with torch.no_grad():
        built.generate(80)
    return states[0].var(dim=0).mean().item()


@pytest.mark.parametrize("recipe", ["nvae", "vdvae"])
def test_the_depth_scaled_start_keeps_the_variance_of_the_state_at_every_depth(recipe):
    depths = (4, 16, 48)
    scaled = [state_variance(recipe, num_levels, scaled=True) for num_levels in depths]
    assert max(scaled) < 1.25 * min(scaled)
    plain = [state_variance(recipe, num_levels, scaled=False) for num_levels in depths]
    per_level = [variance / num_levels for variance, num_levels in zip(plain, depths, strict=True)]
    assert max(per_level) < 1.25 * min(per_level)  # so that the variance grows with the depth
