"""The VampPrior: a mixture of the model's own posteriors at learned pseudo-inputs."""

import copy

import pytest
import torch
from linear_gaussian import D
from torch.distributions import Categorical

from hvae_course import recipes
from hvae_course.data import DataSpec
from hvae_course.gaussians import GaussianHead, diag_normal
from hvae_course.priors import VampPrior

FLAT = {"normalisation": "none", "prior": "vamp", "hidden": (8,)}


@pytest.fixture
def encoder() -> GaussianHead:
    torch.manual_seed(0)
    return GaussianHead(6, 3).double()


def vamp_vae(data=None, **settings):
    """A model of one level with real-valued data and five pseudo-inputs."""
    torch.manual_seed(0)
    settings = FLAT | {"prior_options": {"num_components": 5}, "latent_size": 2} | settings
    return recipes.vae(data or DataSpec(6, None), **settings).double()


@pytest.mark.equation("eq-vamp")
@pytest.mark.parametrize("num_components", [1, 2, 7])
def test_the_prior_is_the_average_posterior_of_the_pseudo_inputs(encoder, num_components):
    prior = VampPrior(torch.randn(num_components, 6, dtype=D))
    z = torch.randn(10, 3, dtype=D)
    each = [encoder(u[None]).log_prob(z).exp() for u in prior.pseudo_inputs]
    density = prior(encoder).expand((10,)).log_prob(z).exp()
    torch.testing.assert_close(density, sum(each) / num_components)


@pytest.mark.equation("eq-vamp")
def test_one_pseudo_input_makes_the_prior_its_posterior(encoder):
    u, z = torch.randn(1, 6, dtype=D), torch.randn(10, 3, dtype=D)
    prior, q = VampPrior(u)(encoder), encoder(u)
    torch.testing.assert_close(prior.log_prob(z), q.log_prob(z), rtol=0, atol=1e-12)
    torch.testing.assert_close(prior.mean, q.mean[0])


@pytest.mark.equation("eq-vamp")
def test_the_density_integrates_to_one():
    torch.manual_seed(0)
    p = VampPrior(3 * torch.randn(5, 4, dtype=D))(GaussianHead(4, 1).double())
    z = torch.linspace(-40, 40, 40_001, dtype=D)
    total = torch.trapezoid(p.log_prob(z[:, None]).exp(), z)
    torch.testing.assert_close(total, torch.ones((), dtype=D))


@pytest.mark.equation("eq-vamp")
def test_draws_have_the_moments_of_the_mixture(encoder, assert_mean):
    p = VampPrior(2 * torch.randn(4, 6, dtype=D))(encoder)
    z = p.sample((50_000,))
    means, variances = p.component_distribution.mean, p.component_distribution.variance
    assert_mean(z, means.mean(0).detach())
    assert_mean(z.square(), (variances + means.square()).mean(0).detach())


def test_the_pseudo_inputs_and_the_encoder_learn_from_the_prior():
    model = vamp_vae()
    model.top_prior().log_prob(torch.randn(20, 2, dtype=D)).mean().backward()
    assert (model.prior.pseudo_inputs.grad != 0).any(dim=1).all()
    for module in (model.bottom_up, model.posterior):
        for name, parameter in module.named_parameters():
            assert (parameter.grad != 0).any(), name
    assert all(parameter.grad is None for parameter in model.top_down.parameters())


def test_the_prior_owns_its_pseudo_inputs_and_no_encoder():
    model = vamp_vae()
    assert [name for name, _ in model.prior.named_parameters()] == ["pseudo_inputs"]
    names = [name for name in model.state_dict() if name.startswith("prior")]
    assert names == ["prior.pseudo_inputs"]


def test_a_copy_of_a_model_uses_its_own_encoder():
    model, z = vamp_vae(), torch.randn(5, 2, dtype=D)
    twin, before = copy.deepcopy(model), model.top_prior().log_prob(z)
    torch.testing.assert_close(twin.top_prior().log_prob(z), before, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in twin.posterior.parameters():
            parameter.add_(0.5)
    torch.testing.assert_close(model.top_prior().log_prob(z), before, rtol=0, atol=0)
    assert ((twin.top_prior().log_prob(z) - before).abs() > 1e-3).all()


def test_the_prior_of_a_model_is_made_of_its_own_posterior():
    model, z = vamp_vae(), torch.randn(5, 2, dtype=D)
    expected = model(model.prior.pseudo_inputs).levels[0].q.log_prob(z[:, None]).exp().mean(1)
    torch.testing.assert_close(model.top_prior().log_prob(z).exp(), expected)


def test_the_caller_keeps_the_data_that_the_pseudo_inputs_start_from():
    x = torch.rand(4, 6)
    prior = VampPrior(x)
    prior.pseudo_inputs.data.add_(1)
    assert (x <= 1).all()


@pytest.mark.parametrize("num_components", [1, 5, 20])
def test_a_start_from_data_takes_different_examples(num_components):
    torch.manual_seed(0)
    x = torch.arange(20.0)[:, None].expand(-1, 3)
    prior = VampPrior.from_data(num_components, x)
    numbers = prior.pseudo_inputs[:, 0].tolist()
    assert len(set(numbers)) == num_components and set(numbers) <= set(range(20))
    assert (prior.pseudo_inputs == prior.pseudo_inputs[:, :1]).all()
    assert num_components == 1 or numbers != sorted(numbers)


def test_a_random_start_is_noise_around_mid_grey(assert_mean):
    torch.manual_seed(0)
    u = VampPrior.at_random(300, 100).pseudo_inputs.detach()
    assert u.shape == (300, 100)
    assert_mean(u.flatten(), 0.5)
    assert_mean((u.flatten() - 0.5).square(), 0.01)


def test_more_pseudo_inputs_than_examples_are_refused():
    match = "21 pseudo-inputs cannot start from 20 examples; lower num_components, or start at r"
    with pytest.raises(ValueError, match=match):
        VampPrior.from_data(21, torch.rand(20, 3))


@pytest.mark.parametrize("make", [VampPrior.at_random, VampPrior.from_data])
def test_a_prior_without_components_is_refused(make):
    second = 3 if make == VampPrior.at_random else torch.rand(20, 3)
    with pytest.raises(ValueError, match="needs num_components of at least 1, got num_comp.*=0"):
        make(0, second)


def test_pseudo_inputs_without_features_are_refused():
    with pytest.raises(ValueError, match="needs num_features of at least 1, got num_features=0"):
        VampPrior.at_random(3, 0)


@pytest.mark.parametrize("shape", [(0, 6), (6,), ()], ids=str)
def test_pseudo_inputs_of_a_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"needs pseudo-inputs \(U, D\) with U >= 1, got sha"):
        VampPrior(torch.zeros(shape))


def test_a_prior_without_its_encoder_is_refused():
    with pytest.raises(TypeError, match=r"pass q\(z_L \| x\), as in prior\(encode\), or let Hier"):
        VampPrior(torch.rand(2, 6))()


def test_posteriors_that_are_no_gaussians_are_refused():
    with pytest.raises(TypeError, match="mixes diagonal Gaussians q.*, got Categorical"):
        VampPrior(torch.rand(2, 6))(lambda u: Categorical(logits=u))


@pytest.mark.parametrize("shape", [(2,), (2, 3)], ids=str)
def test_latents_of_any_shape_are_mixed(shape):
    """As in convolutional models, where a latent is a map of vectors."""
    zeros = torch.zeros(4, *shape)
    p = VampPrior(torch.rand(4, 6))(lambda u: diag_normal(zeros + u.mean(), zeros))
    assert (p.batch_shape, p.event_shape) == ((), shape)
    assert p.expand((5,)).sample().shape == (5, *shape)
