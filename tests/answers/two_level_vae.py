"""Other right answers to the exercises of chapter 1."""

import math

import torch
from torch.distributions import Independent, Normal, kl_divergence


def the_library(q_mean, q_std, p_mean, p_std):
    q, p = (Independent(Normal(*pair), 1) for pair in ((q_mean, q_std), (p_mean, p_std)))
    return kl_divergence(q, p)


def logarithms_in_float64(q_mean, q_std, p_mean, p_std):
    q_mean, q_std, p_mean, p_std = (v.double() for v in (q_mean, q_std, p_mean, p_std))
    total = (p_std.log() - q_std.log()).sum(dim=1) - 0.5 * q_mean.shape[1]
    return total + ((q_std**2 + (q_mean - p_mean) ** 2) / (2 * p_std**2)).sum(dim=1)


def in_place(q_mean, q_std, p_mean, p_std):
    q_mean -= p_mean
    q_mean /= p_std
    t = (q_std / p_std).log() * 2
    return (torch.expm1(t) - t + q_mean**2).sum(-1).div(2)


def other_order_in_float64(x, q1, q2, p1, px):
    x = x.double()
    below = q1(x)
    z1 = below.rsample()
    above = q2(z1)
    z2 = above.rsample()
    value = px(z1).log_prob(x) - below.log_prob(z1)
    value = value + p1(z2).log_prob(z1) - above.log_prob(z2)
    return value - 0.5 * (z2**2 + math.log(2 * math.pi)).sum(-1)


def own_reparametrisation(x, q1, q2, p1, px):
    a = q1(x)
    z1 = a.mean + a.stddev * torch.randn_like(a.mean)
    b = q2(z1)
    z2 = b.mean + b.stddev * torch.randn_like(b.mean)
    n = Independent(Normal(0 * z2, 1 + 0 * z2), 1)
    information = a.log_prob(z1) - p1(z2).log_prob(z1) + b.log_prob(z2) - n.log_prob(z2)
    return px(z1).log_prob(x) - information


def draws_in_float32(x, q1, q2, p1, px):
    z1 = q1(x.float()).rsample().float()
    z2 = q2(z1).rsample()
    log_p = px(z1).log_prob(x) + p1(z2).log_prob(z1) + Normal(0.0, 1.0).log_prob(z2).sum(-1)
    return log_p - q1(x).log_prob(z1) - q2(z1).log_prob(z2)


def largest_taken_out(log_weights):
    top = log_weights.detach().max(dim=1, keepdim=True).values
    return (log_weights - top).exp().mean(1).log() + top.squeeze(1)


OTHERS = {
    "gaussian_kl": [the_library, logarithms_in_float64, in_place],
    "joint_elbo": [other_order_in_float64, own_reparametrisation, draws_in_float32],
    "importance_weighted": [largest_taken_out],
}
