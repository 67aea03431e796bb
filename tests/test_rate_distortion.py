"""Equations of chapter 9, each against an exact answer: sums over all images and all latents."""

import itertools
import math

import pytest
import torch
from answers.running import solution

from hvae_course.analysis import evaluate, least_information
from hvae_course.data import DataSpec
from hvae_course.objectives import Weighted, elbo
from hvae_course.oracles import SharedBit
from hvae_course.recipes import ladder_vae, vae

D = torch.float64


def assert_close(value, expected):
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)


def table(*shape, seed):
    """Positive numbers that sum to one over the last axis."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=D).mul(1.5).softmax(dim=-1)


class Discrete:
    """A VAE of 4 latents and 6 observations, with every distribution a table."""

    def __init__(self, seed):
        self.qx = table(6, seed=seed)
        self.pz = table(4, seed=seed + 10)
        self.px_z = table(4, 6, seed=seed + 20)
        self.qz_x = table(6, 4, seed=seed + 30)
        self.joint = self.qx[:, None] * self.qz_x  # q(x, z)
        self.px = self.pz @ self.px_z

    def mean(self, value):
        return (self.joint * value).sum()

    @property
    def rate(self):
        return self.mean((self.qz_x / self.pz).log())

    @property
    def distortion(self):
        return -self.mean(self.px_z.T.log())

    @property
    def entropy(self):
        return -(self.qx * self.qx.log()).sum()

    @property
    def information(self):
        return self.mean((self.qz_x / self.joint.sum(0)).log())

    @property
    def elbo(self):
        return self.mean(self.px_z.T.log() + self.pz.log() - self.qz_x.log())


seeds = pytest.mark.parametrize("seed", range(5))


@pytest.mark.equation("eq-shared-bit")
def test_the_bit_and_the_pixels_have_the_stated_probabilities():
    bit = SharedBit()
    images = bit.images()
    exact = [
        sum(math.prod(0.8 if x == g else 0.2 for x in image) / 2 for g in (0, 1))
        for image in images.tolist()
    ]
    assert_close(bit.log_px(images).exp(), torch.tensor(exact, dtype=D))
    entropy = -sum(p * math.log(p) for p in exact)
    assert entropy == pytest.approx(bit.entropy(), abs=1e-12)
    assert f"{entropy:.3f} {bit.information():.3f}" == "4.621 0.618"


@pytest.mark.equation("eq-window-worth")
def test_the_worth_of_the_bit_is_that_of_the_best_decoder_of_each_window():
    bit = SharedBit()
    p = bit.log_px(bit.images()).exp().reshape((2,) * 8)
    printed = {0: "0.924", 1: "0.460", 2: "0.256", 3: "0.130", 5: "0.025", 7: "0.0000"}
    for window, expected in printed.items():
        excess = 0.0
        for image in itertools.product((0, 1), repeat=8):  # no entropy is a difference here
            cost = 0.0
            for i in range(8):
                before = image[max(i - window, 0) : i]
                cost -= math.log(_marginal(bit, (*before, image[i])) / _marginal(bit, before))
            excess += p[image].item() * (cost + math.log(p[image].item()))
        assert excess == pytest.approx(bit.worth(window), abs=1e-12)
        assert f"{abs(excess):.{len(expected) - 2}f}" == expected
        found = solution("rate_distortion", "worth")(p, window)
        assert float(found) == pytest.approx(excess, abs=1e-9)


def _marginal(bit, pixels):
    """Probability of some pixels, which do not depend on where they are."""
    return sum(math.prod(0.8 if x == g else 0.2 for x in pixels) / 2 for g in (0, 1))


@pytest.mark.equation("eq-window")
@pytest.mark.parametrize("window", [0, 1, 3, 5])
def test_a_decoder_with_a_window_is_a_product_of_probabilities_given_the_window(window):
    options = {"likelihood_options": {"window": window, "hidden": (12,)}, "hidden": (5,)}
    torch.manual_seed(0)
    model = vae(DataSpec((2, 3), 2), latent_size=2, likelihood="autoregressive", **options)
    px = model.double().generate(1).px
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=D)] * 6)  # (64, 6)
    log_p = px.log_prob(images[:, None])[:, 0]
    assert_close(log_p.logsumexp(0), torch.zeros((), dtype=D))
    one = px.teacher_forced_mean(images[:, None])[:, 0]  # p(x_i = 1 | those before, z)
    factors = torch.where(images == 1, one, 1 - one)
    torch.testing.assert_close(factors.log().sum(1), log_p, rtol=0, atol=1e-9)
    for i in range(6):
        seen = images[:, max(i - window, 0) : i]
        same = (seen[:, None] == seen[None]).all(dim=2)
        assert (one[:, None, i] - one[None, :, i])[same].abs().max() < 1e-12


def test_with_the_exact_latent_every_window_has_the_same_bound_and_so_has_no_latent_at_all():
    bit = SharedBit()
    assert bit.information() + bit.noise_entropy() == pytest.approx(bit.entropy(), abs=1e-12)
    assert bit.best_without_latent(7) == pytest.approx(bit.entropy(), abs=1e-12)


@pytest.mark.equation("eq-rate-distortion")
@pytest.mark.parametrize("num_samples", [1, 3])
def test_rate_and_distortion_add_up_to_the_negative_elbo(num_samples, tiny_data):
    torch.manual_seed(0)
    model = ladder_vae(tiny_data, latent_sizes=(3, 2), hidden=(8,)).double().eval()
    x = tiny_data.test.batch(slice(0, 7)).double()
    trace = model(x, num_samples)
    q, p = (
        torch.stack([getattr(level, n).log_prob(level.z) for level in trace.levels])
        for n in ("q", "p")
    )
    parts = [trace.log_px(x)[None], q, p]
    log_px, log_q, log_p = (part.unflatten(1, (7, num_samples)) for part in parts)
    rate, distortion = solution("rate_distortion", "rate_distortion")(log_px[0], log_q, log_p)
    assert_close(-elbo(trace, x), rate + distortion)
    for beta in (0.25, 4.0):
        assert_close(-Weighted(beta)(trace, x), distortion + beta * rate)


@seeds
@pytest.mark.equation("eq-rate-bounds")
def test_information_lies_between_both_bounds(seed):
    model = Discrete(seed)
    assert model.entropy - model.distortion <= model.information + 1e-12
    assert model.information <= model.rate + 1e-12
    assert model.rate + model.distortion >= model.entropy - 1e-12


def test_both_bounds_of_the_information_are_equalities_for_matching_parts():
    """The prior that is the aggregated posterior, and the decoder that is its inverse."""
    model = Discrete(0)
    model.pz = model.joint.sum(0)
    assert_close(model.rate, model.information)
    model.px_z = (model.joint / model.joint.sum(0)).T
    assert_close(model.entropy - model.distortion, model.information)


@seeds
@pytest.mark.equation("eq-preference")
def test_the_bound_lacks_what_the_fit_and_the_posterior_lack(seed):
    model = Discrete(seed)
    fit = (model.qx * (model.qx / model.px).log()).sum()
    exact = (model.pz[:, None] * model.px_z / model.px).T  # p(z | x)
    gap = model.mean((model.qz_x / exact).log())
    assert_close(-model.elbo, model.entropy + fit + gap)
    assert_close(model.rate + model.distortion, -model.elbo)


@pytest.mark.equation("eq-rate-beta")
@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_at_the_best_code_the_slope_of_the_distortion_is_minus_beta(beta):
    """x = N(0, 1), a code with squared error e at the rate -log(e) / 2, p(x | z) = N(z, s)."""
    s = 0.1

    def distortion(rate):
        return 0.5 * math.log(2 * math.pi * s) + torch.exp(-2 * rate) / (2 * s)

    best = torch.tensor(-0.5 * math.log(beta * s), dtype=D, requires_grad=True)  # e = beta s
    (slope,) = torch.autograd.grad(distortion(best), best)
    assert slope.item() == pytest.approx(-beta, abs=1e-12)
    others = torch.linspace(0, 4, 4001, dtype=D)
    cost = distortion(others) + beta * others
    best = best.detach()
    assert (cost >= distortion(best) + beta * best - 1e-12).all()


@pytest.mark.equation("eq-fano")
@pytest.mark.parametrize("num_classes", [2, 4, 10])
@seeds
def test_no_code_of_balanced_classes_tells_less_than_its_accuracy_needs(num_classes, seed):
    given = table(num_classes, 7, seed=seed) / num_classes  # q(c, z)
    accuracy = given.max(dim=0).values.sum().item()  # of the best classifier
    outer = given.sum(1, keepdim=True) * given.sum(0, keepdim=True)
    information = (given * (given / outer).log()).sum().item()
    assert least_information(accuracy, num_classes) <= information + 1e-12


def test_the_evaluation_gives_rate_and_distortion(make_model, tiny_data):
    found = evaluate(make_model(), tiny_data, num_samples=2)
    rate = sum(level.mean for level in found.information)
    assert -found.elbo.mean == pytest.approx(rate - found.reconstruction.mean, abs=1e-4)
