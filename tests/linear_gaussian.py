"""Exact chains, other posteriors and integrals that the tests of the equations share."""

import math

import numpy as np
import torch
from torch.distributions import Normal

from hvae_course.oracles import LinearGaussian, LinearGaussianLayer

D = torch.float64
CHAINS = {
    1: LinearGaussian((1.3,), (0.4,), size=2),
    2: LinearGaussian((1.0, 0.9), (0.25, 0.19), size=2),
    3: LinearGaussian((0.8, -1.1, 0.6), (0.3, 0.5, 0.2), size=2),
    5: LinearGaussian((1.0, 0.7, 0.9, -0.4, 1.2), (0.2, 0.3, 0.4, 0.5, 0.6), size=2),
}
TWO = LinearGaussian((1.0, 0.9), (0.25, 0.19))


def standard_error(values):
    return values.std() / len(values) ** 0.5


def agree(values, expected):
    """The mean lies within five standard errors: wrong in one of 1.7 million tests by chance."""
    return abs(values.mean() - expected) < 5 * standard_error(values)


def wrong_posterior(chain):
    """A bottom-up posterior that is not the true one, but not far from it."""
    return [
        LinearGaussianLayer(0.8 * head.slope, 1.5 * math.exp(2 * head.log_std), 0.1)
        for head in chain.posterior_chain()
    ]


def random_q(n, seed=0):
    """Parameters of n random linear-Gaussian posteriors over two levels."""
    mean, log_variance, gain, offset, log_residual = np.random.default_rng(seed).normal(
        size=(5, n)
    )
    return {
        "mean": torch.tensor(mean),
        "variance": torch.tensor(log_variance).exp(),
        "gain": torch.tensor(gain),
        "offset": torch.tensor(offset),
        "residual": torch.tensor(log_residual).exp(),
    }


def quadrature(q, f, *, joint):
    """E f(z_1, z_2) by Gauss-Hermite quadrature, under q or under the product of its marginals."""
    nodes, weights = (torch.tensor(a) for a in np.polynomial.hermite_e.hermegauss(24))
    weights = weights / weights.sum()
    z1 = q["mean"] + q["variance"].sqrt() * nodes[:, None, None]
    if joint:
        z2 = q["gain"] * z1 + q["offset"] + q["residual"].sqrt() * nodes[None, :, None]
    else:
        spread = (q["gain"] ** 2 * q["variance"] + q["residual"]).sqrt()
        z2 = q["gain"] * q["mean"] + q["offset"] + spread * nodes[None, :, None]
    return (f(z1, z2) * weights[:, None, None] * weights[None, :, None]).sum(dim=(0, 1))


def log_normal(value, mean, variance):
    return Normal(mean, torch.as_tensor(variance, dtype=D).sqrt()).log_prob(value)


def assert_exact(model, chain):
    """Every draw of a model with the exact posterior gives the evidence."""
    x = chain.sample_x(32)
    expected = chain.log_px(x).repeat_interleave(5)
    torch.testing.assert_close(model(x, 5).log_weight(x), expected, rtol=0, atol=1e-12)
