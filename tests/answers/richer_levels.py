"""Other right answers to the exercises of chapter 10 on flows and tied steps."""

import math

import torch
from torch.distributions import Independent, Normal


def entry_by_entry(z, maps):
    shift, log_scale = maps(z)
    each = Independent(Normal(shift, log_scale.exp()), 1)  # a Gaussian given the entries before
    return each.log_prob(z)


def by_hand(z, maps):
    shift = maps(z)[0]
    scale = torch.exp(maps(z)[1])
    squares = torch.sum(((z - shift) / scale) ** 2, -1)
    size = z.shape[-1]
    return -0.5 * squares - 0.5 * size * math.log(2 * math.pi) - torch.log(scale).sum(-1)


def draw_from_noise(noise, mean, log_std, maps):
    before = torch.addcmul(mean, log_std.exp(), noise)
    shift, log_scale = maps(before)
    z = (before - shift) / log_scale.exp()
    # N(z; 0, I) and N(noise; 0, I) have the same constant
    volume = log_scale.sum(-1) - log_std.sum(-1)
    return [z, volume + (z.square() - noise.square()).sum(-1) / 2]


def draw_by_distributions(noise, mean, log_std, maps):
    before = mean + log_std.exp() * noise
    shift, log_scale = maps(before)
    z = (before - shift) * (-log_scale).exp()
    log_q = Independent(Normal(mean, log_std.exp()), 1).log_prob(before) + log_scale.sum(1)
    prior = Independent(Normal(torch.zeros_like(z), torch.ones_like(z)), 1)
    return z, log_q - prior.log_prob(z)


def from_the_difference(x, mean, variance, signs):
    steps = signs.shape[0]
    fit = Normal(steps * mean, torch.ones_like(x)).log_prob(x)
    kl = torch.distributions.kl_divergence(Normal(mean, variance.sqrt()), Normal(0.0, 1.0))
    extra = signs.outer(signs).sum() - steps  # covariances of the steps
    bound = fit - steps * variance / 2 - steps * kl
    return torch.stack([bound, bound - extra * variance / 2])


def one_sign_at_a_time(x, mean, variance, signs):
    spread = sum(signs.tolist()) ** 2 * variance
    bound = reported = -0.5 * math.log(2 * math.pi) - (x - len(signs) * mean) ** 2 / 2
    for _ in signs:
        kl = -0.5 * torch.log(variance) + (variance + mean**2) / 2 - 0.5
        bound, reported = bound - kl - variance / 2, reported - kl
    return bound, reported - spread / 2


def loops_over_filters(center, stride, std, num_filters, size):
    pixels = torch.arange(1, size + 1).to(center)
    rows = []
    for i in range(1, num_filters + 1):
        middle = center + (i - (num_filters + 1) / 2) * stride
        weights = torch.exp(-((pixels - middle[:, None]) ** 2) / (2 * std[:, None] ** 2))
        rows.append(weights / (weights.sum(dim=1, keepdim=True) + 1e-8))
    return torch.stack(rows, dim=1)


def zero_based_by_hand(center, stride, std, num_filters, size):
    i, a = torch.arange(num_filters), torch.arange(size)
    centres = center[:, None] + (i - (num_filters - 1) / 2) * stride[:, None] - 1
    logits = -0.5 * ((a - centres[..., None]) / std[:, None, None]) ** 2
    return (logits - logits.logsumexp(dim=-1, keepdim=True)).exp()


OTHERS = {
    "flow_log_prob": [entry_by_entry, by_hand],
    "iaf_step": [draw_from_noise, draw_by_distributions],
    "toy_bounds": [from_the_difference, one_sign_at_a_time],
    "filterbank": [loops_over_filters, zero_based_by_hand],
}
