"""Other right answers to the exercises of chapter 3."""

import torch
from torch.distributions import Normal, kl_divergence


def a_list_in_float64(p_mean, p_std, shift, log_scale):
    std = (p_std.double().log() + log_scale.double()).exp()
    return [p_mean.double() + shift.double(), std]


def one_tensor_in_float32(p_mean, p_std, shift, log_scale):
    return torch.stack([shift.float() + p_mean.float(), p_std * torch.exp(log_scale)])


def from_the_variance(p_mean, p_std, shift, log_scale):
    variance = p_std**2 * torch.exp(2 * log_scale)
    return torch.add(p_mean, shift), variance.sqrt()


def expm1_in_float64(shift, log_scale, p_std):
    t = 2 * log_scale.double()
    return (torch.expm1(t) - t + shift.double().div(p_std).square()).sum(dim=1) / 2


def the_library_in_float32(shift, log_scale, p_std):
    shift, log_scale, p_std = shift.float(), log_scale.float(), p_std.float()
    q, p = Normal(shift, p_std * log_scale.exp()), Normal(torch.zeros_like(shift), p_std)
    return kl_divergence(q, p).sum(-1)


OTHERS = {
    "delta_posterior": [a_list_in_float64, one_tensor_in_float32, from_the_variance],
    "delta_kl": [expm1_in_float64, the_library_in_float32],
}
