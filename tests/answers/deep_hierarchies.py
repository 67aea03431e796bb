"""Other right answers to the exercises of chapter 8."""

import itertools

import torch
from torch import nn
from torch.distributions import Independent, Normal


def scale_in_a_module_list(bodies):
    for body in bodies:
        last = [layer for layer in body if isinstance(layer, nn.Conv2d)][-1]
        last.weight = nn.Parameter(last.weight.detach() / len(bodies) ** 0.5)
        last.bias.data /= len(bodies) ** 0.5
    return nn.ModuleList(bodies)


def factors_of_runs(norms, clip, threshold, most):
    scaled = torch.where(norms > clip, clip / norms, torch.ones_like(norms))
    finite = norms.isfinite()
    long_before = [
        sum(1 for _ in itertools.takewhile(lambda n: n > threshold, reversed(before)))
        for before in (norms[:t][finite[:t]].tolist() for t in range(len(norms)))
    ]
    taken = (norms <= threshold) | (torch.tensor(long_before) >= most)
    return [float(f) if on else 0 for f, on in zip(scaled, taken & finite, strict=True)]


def kl_in_closed_form(m, s, shift_m, shift_s):
    size = m[0].numel()
    m, s, shift_m, shift_s = (part.reshape(-1, size) for part in (m, s, shift_m, shift_s))
    mean, other = (torch.tanh(part / 5) * 5 for part in (m + shift_m, m))
    std, scale = (torch.exp(torch.tanh(part / 5) * 5) + 0.01 for part in (s + shift_s, s))
    terms = scale.log() - std.log() + (std**2 + (mean - other) ** 2) / (2 * scale**2) - 0.5
    return terms.sum(-1)


def pixel_from_the_other_tail(x, logits, means, log_scales, num_values):
    steps, at = num_values - 1, x[:, None, :]
    grey = (at * steps).round()
    scale = torch.exp(log_scales)
    upper = ((grey + 0.5) / steps - means) / scale
    lower = ((grey - 0.5) / steps - means) / scale
    inside = -nn.functional.softplus(-upper) - nn.functional.softplus(lower)
    inside = inside + torch.log1p(-torch.exp(-1 / (steps * scale)))
    each = inside.where(grey > 0, nn.functional.logsigmoid(upper))
    each = each.where(grey < steps, nn.functional.logsigmoid(-lower))
    return torch.logsumexp(each.sum(-1) + logits - logits.logsumexp(0), -1)


def hold_with_noise_of_its_own(l, h, p, posterior, k, num_levels):
    if num_levels - l <= k:
        q, z = posterior(l, h, p)
        return [q, z]
    mean, std = p.mean, p.stddev
    return [Independent(Normal(mean, std), 1), mean + std * torch.randn_like(mean)]


OTHERS = {
    "scale_bodies": [scale_in_a_module_list],
    "step_factors": [factors_of_runs],
    "squashed_kl": [kl_in_closed_form],
    "pixel_log_prob": [pixel_from_the_other_tail],
    "held_top": [hold_with_noise_of_its_own],
}
IN_PLACE = {"scale_bodies"}
"""Answers that change the model they are given, which a copy in another precision would hide."""
