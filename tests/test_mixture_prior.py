"""Which prior is best, and the mixture of Gaussians."""

import math

import pytest
import torch
from linear_gaussian import D, agree
from torch.distributions import MixtureSameFamily, Normal
from torch.utils._python_dispatch import TorchDispatchMode

from hvae_course.gaussians import diag_normal
from hvae_course.priors import MixtureOfGaussians, VampPrior

GRID = torch.linspace(-30, 30, 60_001, dtype=D)
MEANS = torch.tensor([-2.0, -0.5, 0.1, 1.5, 4.0], dtype=D)
STDS = torch.tensor([0.3, 1.0, 0.6, 0.2, 0.8], dtype=D)


def integral(density: torch.Tensor) -> torch.Tensor:
    return torch.trapezoid(density, GRID)


def random_mixture(size: int, num_components: int = 4) -> MixtureOfGaussians:
    """A mixture with unequal weights, means and scales."""
    torch.manual_seed(0)
    prior = MixtureOfGaussians(size, num_components).double()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter)
    return prior


def mixture_of(means: torch.Tensor, stds: torch.Tensor) -> MixtureOfGaussians:
    """Equal weights, given means and scales, in one dimension."""
    prior = MixtureOfGaussians(1, len(means), log_std_bound=1e6).double()
    prior.means.data, prior.log_stds.data = means[:, None], stds.log()[:, None]
    return prior


def encode(x: torch.Tensor):
    """q(z | x) of five examples whose data are their numbers."""
    n = x.long()
    return diag_normal(MEANS[n], STDS[n].log())


POOLED = (STDS.square().mean() + MEANS.var(correction=0)).sqrt()
PRIORS = {
    "standard normal": lambda z: Normal(0.0, 1.0).log_prob(z),
    "Gaussian with its moments": lambda z: Normal(MEANS.mean(), POOLED).log_prob(z),
    "wide": lambda z: Normal(0.0, 20.0).log_prob(z),
    "three of its components": lambda z: mixture_of(MEANS[2:], STDS[2:])().log_prob(z[:, None]),
    "its components, shifted": lambda z: mixture_of(MEANS + 0.2, STDS)().log_prob(z[:, None]),
}
AGGREGATED = {
    "mixture": lambda: mixture_of(MEANS, STDS)(),
    "vamp": lambda: VampPrior(torch.arange(5.0, dtype=D)[:, None])(encode),
}


def cost(log_q: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
    """Mean over the examples of KL(q(z | x) || p), by quadrature."""
    return integral(log_q.exp() * (log_q - log_p)).mean()


@pytest.mark.equation("eq-optimal-prior")
@pytest.mark.parametrize("name", PRIORS)
def test_what_a_prior_costs_is_information_plus_its_distance_to_the_aggregated_posterior(name):
    log_q = Normal(MEANS[:, None], STDS[:, None]).log_prob(GRID)  # (N, grid)
    aggregated, log_p = log_q.exp().mean(0), PRIORS[name](GRID)
    information = integral(log_q.exp() * (log_q - aggregated.log())).mean()
    distance = integral(aggregated * (aggregated.log() - log_p))
    torch.testing.assert_close(cost(log_q, log_p), information + distance)
    assert distance > 1e-3
    assert 0 < information < math.log(5)


@pytest.mark.equation("eq-optimal-prior")
@pytest.mark.parametrize("best", AGGREGATED)
@pytest.mark.parametrize("name", PRIORS)
def test_no_prior_costs_less_than_the_aggregated_posterior(best, name):
    """A mixture with one component per example, or a VampPrior with all data, is that prior."""
    log_q = Normal(MEANS[:, None], STDS[:, None]).log_prob(GRID)
    log_best = AGGREGATED[best]().expand(GRID.shape).log_prob(GRID[:, None])
    information = integral(log_q.exp() * (log_q - log_q.exp().mean(0).log())).mean()
    torch.testing.assert_close(cost(log_q, log_best), information)
    assert cost(log_q, PRIORS[name](GRID)) > cost(log_q, log_best) + 1e-3


@pytest.mark.equation("eq-mixture-prior")
@pytest.mark.parametrize("size", [1, 3])
def test_the_density_is_the_weighted_sum_of_gaussians(size):
    prior = random_mixture(size)
    z = 2 * torch.randn(7, size, dtype=D)
    weights = prior.logits.exp() / prior.logits.exp().sum()
    density = torch.zeros(7, dtype=D)
    for weight, mean, log_std in zip(weights, prior.means, prior.log_stds, strict=True):
        std = (7 * torch.tanh(log_std / 7)).exp()
        density = density + weight * Normal(mean, std).log_prob(z).sum(1).exp()
    torch.testing.assert_close(prior().expand((7,)).log_prob(z), density.log())


@pytest.mark.equation("eq-mixture-prior")
def test_the_density_integrates_to_one():
    density = random_mixture(1)().log_prob(GRID[:, None]).exp()
    torch.testing.assert_close(integral(density), torch.ones((), dtype=D))


@pytest.mark.equation("eq-mixture-prior")
def test_draws_follow_the_density():
    p = random_mixture(1)()
    z, density = p.sample((100_000,))[:, 0], p.log_prob(GRID[:, None]).exp().detach()
    for threshold in (-2.0, -0.5, 0.0, 0.7, 2.0):
        assert agree((z < threshold).to(D), integral(density * (GRID < threshold)))


@pytest.mark.equation("eq-mixture-prior")
@pytest.mark.parametrize(("spread", "log_std"), [(1.0, 0.0), (3.0, -3.0), (10.0, -6.0)])
def test_without_gradients_the_density_is_the_same_and_no_less_exact(spread, log_std):
    torch.manual_seed(2)
    prior = MixtureOfGaussians(20, 30, spread=spread)
    prior.log_stds.data = log_std + 0.5 * torch.randn(30, 20)
    torch.nn.init.normal_(prior.logits)
    centres = prior.means.detach()[torch.randint(30, (200,))]
    z = centres + math.exp(log_std) * torch.randn(200, 20)
    with torch.no_grad():
        quick = prior().expand((200,)).log_prob(z)
        exact = MixtureSameFamily.log_prob(prior.double()().expand((200,)), z.to(D))
    torch.testing.assert_close(quick.to(D), exact, rtol=1e-6, atol=1e-5)
    assert quick.dtype == torch.float32


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor that is made holds."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            numbers = made.untyped_storage().nbytes() // made.element_size()  # views count once
            self.numbers = max(self.numbers, numbers)
        return made


def test_without_gradients_no_draw_is_held_against_every_mean_dimension_by_dimension():
    prior, draws = MixtureOfGaussians(20, 30), torch.randn(100, 20)
    sizes = {}
    for recorded in (True, False):
        with Largest() as largest, torch.set_grad_enabled(recorded):
            prior().expand((100,)).log_prob(draws)
        sizes[recorded] = largest.numbers
    assert sizes == {True: 100 * 30 * 20, False: 100 * 2 * 20}


@pytest.mark.parametrize("shape", [(), (7,)])
def test_without_gradients_values_broadcast_as_with_them(shape):
    z = torch.randn(7, 3, dtype=D)
    for value in (z, z[:1], torch.randn(2, 7, 3, dtype=D)):
        p = random_mixture(3)().expand(shape)
        with torch.no_grad():
            quick = p.log_prob(value)
        torch.testing.assert_close(quick, p.log_prob(value).detach())


def test_every_parameter_receives_a_gradient(assert_finite_gradients):
    prior = random_mixture(3)
    assert_finite_gradients(prior, -prior().log_prob(torch.randn(50, 3, dtype=D)).mean())
    assert all((parameter.grad != 0).all() for parameter in prior.parameters())


@pytest.mark.parametrize("value", [-1e3, 1e3])
def test_extreme_scales_and_weights_give_finite_densities(value, assert_finite_gradients):
    prior = MixtureOfGaussians(2, 3)
    prior.log_stds.data.fill_(value)
    prior.logits.data[0] = value
    assert_finite_gradients(prior, -prior().log_prob(torch.zeros(4, 2)).mean())


@pytest.mark.parametrize(("num_components", "size"), [(1, 1), (16, 2), (100, 4)])
def test_components_start_alike_and_narrower_the_more_there_are(num_components, size):
    torch.manual_seed(1)
    prior = MixtureOfGaussians(size, num_components, spread=2.0)
    p = prior()
    expected = torch.full((num_components,), 1 / num_components)
    torch.testing.assert_close(p.mixture_distribution.probs, expected)
    stds, volume = prior.log_stds.exp(), 2.0**size  # U boxes of their width fill the spread
    torch.testing.assert_close(num_components * stds.prod(1), torch.full_like(expected, volume))
    assert (stds == stds[0, 0]).all()


def test_the_spread_scales_the_means_at_the_start():
    means = []
    for spread in (1.0, 3.0):
        torch.manual_seed(0)
        means.append(MixtureOfGaussians(2, 500, spread=spread).means.detach())
    torch.testing.assert_close(means[1], 3 * means[0])
    assert agree(means[0][:, 0].square(), 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, D], ids=str)
def test_the_mixture_has_no_batch_shape_and_keeps_the_precision(dtype):
    p = MixtureOfGaussians(3, 5).to(dtype)()
    assert (p.batch_shape, p.event_shape) == ((), (3,))
    z = p.expand((4,)).sample()
    assert z.shape == (4, 3)
    assert z.dtype == p.expand((4,)).log_prob(z).dtype == p.mean.dtype == dtype


@pytest.mark.parametrize("sizes", [{"size": 0}, {"num_components": 0}, {"num_components": -2}])
def test_a_mixture_of_nothing_is_refused(sizes):
    ((name, size),) = sizes.items()
    with pytest.raises(ValueError, match=f"a prior needs {name} of at least 1, got {name}={size}"):
        MixtureOfGaussians(**({"size": 2} | sizes))


@pytest.mark.parametrize("spread", [0.0, -1.0, math.nan])
def test_means_without_spread_are_refused(spread):
    match = f"spread of the means must be positive, got spread={spread}"
    with pytest.raises(ValueError, match=match):
        MixtureOfGaussians(2, spread=spread)
