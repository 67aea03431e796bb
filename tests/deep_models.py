"""What the tests of convolutional recipes share: dependence by gradient, and linear models."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from hvae_course.convolutions import Residual, scale_last
from hvae_course.data import DataSpec
from hvae_course.hierarchy import HierarchicalVAE, Trace, common_noise
from hvae_course.objectives import importance_weighted
from hvae_course.recipes.convolutional import MapGaussian

REAL = DataSpec((4, 4), None)
"""Small images of real values."""
LINEAR = {
    "likelihood": "isotropic_gaussian",
    "likelihood_options": {"std": 2.0},
    "networks_options": {"stages": ((2, 2, 4), (1, 1, 4)), "zero_priors": False},
}
"""Options of a model of them whose generative part `make_linear` can make linear."""


def held(
    model: HierarchicalVAE, x: Tensor, latents: list[Tensor], y: Tensor | None = None
) -> Trace:
    """The trace of a walk with given latents, each q where the posterior scores them."""
    choose = model.posterior.score(model.features(x, y), latents)
    return model.top_down(model.top_prior(), choose, len(x), model.one_hot(y, len(x)))


def parameters_of(distribution: Distribution) -> list[Tensor]:
    """Tensors that depend on everything the distribution depends on."""
    if hasattr(distribution, "base") and hasattr(distribution, "maps"):  # a flow
        base = distribution.base
        return [*parameters_of(base), *distribution.maps(base.mean.detach())]
    return [distribution.base_dist.loc, distribution.base_dist.scale]


def reads(distribution: Distribution, leaves: dict[str, Tensor]) -> set[str]:
    """Names of the leaves that the parameters of a distribution depend on."""
    generator = torch.Generator().manual_seed(0)
    value = sum(
        (torch.randn(part.shape, generator=generator, dtype=part.dtype) * part).sum()
        for part in parameters_of(distribution)
    )
    if not value.requires_grad:
        return set()
    found = torch.autograd.grad(value, [*leaves.values()], retain_graph=True, allow_unused=True)
    return {n for n, g in zip(leaves, found, strict=True) if g is not None and (g != 0).any()}


def make_linear(model: HierarchicalVAE) -> HierarchicalVAE:
    """Make every mean of p a linear function of the state, with constant scales, in float64."""
    for part in model.top_down.updates.modules():
        if isinstance(part, Residual):
            scale_last(part.body, 0)
    for part in model.top_down.conditionals.modules():
        if isinstance(part, MapGaussian):
            first, *_, last = [p for p in part.net.modules() if isinstance(p, nn.Conv2d)]
            part.net = nn.Conv2d(first.in_channels, last.out_channels, 1)
            with torch.no_grad():
                part.net.weight[last.out_channels // 2 :] = 0
    return model.double().eval()


def fit_posterior(model: HierarchicalVAE, *, steps: int = 80) -> None:
    """Fit the inference networks to data of the model, so that importance weights vary little."""
    parameters = [*model.bottom_up.parameters(), *model.posterior.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(steps):
        x = model.generate(8).px.sample()
        optimiser.zero_grad()
        (-importance_weighted(model(x, 8), x).mean()).backward()
        optimiser.step()


@torch.no_grad()
def weight_ratios(model: HierarchicalVAE, n: int, num_samples: int) -> Tensor:
    """Importance weights of n examples over the exact p(x) of a linear model, ``(n, K)``."""
    x = model.generate(n).px.sample()
    log_w = model(x, num_samples).log_weight(x).unflatten(0, (n, -1))
    return (log_w - evidence(model, x)[:, None]).exp()


def evidence(model: HierarchicalVAE, x: Tensor) -> Tensor:
    """Exact log p(x) of a model whose data are a linear function of all noise."""
    shapes = [level.z.shape[1:] for level in model.generate(1).levels]

    def means(noise: Tensor) -> Tensor:
        parts = noise.split([shape.numel() for shape in shapes], dim=1)
        noise = [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]
        return model.generate(len(noise[0]), common_noise(noise)).px.mean

    size = sum(shape.numel() for shape in shapes)
    at = torch.cat([torch.zeros(1, size), torch.eye(size), torch.ones(1, size)]).to(x)
    zero, *rows, one = means(at)
    slopes = torch.stack(rows, dim=1) - zero[:, None]
    torch.testing.assert_close(one, zero + slopes.sum(dim=1))  # it is linear
    variance = model.generate(1).px.variance[0].diag()
    return MultivariateNormal(zero, slopes @ slopes.T + variance).log_prob(x)
