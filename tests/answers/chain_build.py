"""Other right answers to the build of chapter 1."""

import math

import torch
from torch import nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal


def log_normal(z, mean, log_std):
    error = (z - mean) / log_std.exp()
    return (-0.5 * error**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def split(outputs):
    size = outputs.shape[1] // 2
    return outputs[:, :size], 7 * torch.tanh(outputs[:, size:] / 7)


def a_full_covariance(outputs):
    mean, log_std = split(outputs)
    return MultivariateNormal(mean, scale_tril=torch.diag_embed(log_std.exp()))


def noise_first(n, size, p1, px):
    dtype = next(p1.parameters()).dtype
    z2, below = torch.randn(n, size, dtype=dtype), next(px.parameters()).shape[1]
    noise = torch.randn(n, below, dtype=dtype)
    mean, log_std = split(p1(z2))
    z1 = torch.addcmul(mean, log_std.exp(), noise)
    return [z1, z2, 1 / (1 + (-px(z1)).exp())]


def with_bernoulli(x, z1, z2, p1, px):
    mean, log_std = split(p1(z2))
    value = Bernoulli(logits=px(z1)).log_prob(x).sum(dim=1)
    value -= 0.5 * (z2**2 + math.log(2 * math.pi)).sum(1)
    return value + Normal(mean, log_std.exp()).log_prob(z1).sum(1)


def by_hand_with_log_sigmoid(x, z1, z2, p1, px):
    logits = px(z1)
    pixels = x * logits.sigmoid().log() + (1 - x) * (-logits).sigmoid().log()
    prior = log_normal(z2, torch.zeros_like(z2), torch.zeros_like(z2))
    return prior + log_normal(z1, *split(p1(z2))) + pixels.sum(-1)


def noise_of_the_upper_level_first(x, q1, q2):
    m1, s1 = split(q1(x))
    later = torch.randn(len(x), next(iter(q2.parameters())).shape[1]).to(x)
    z1 = m1 + s1.exp() * torch.randn_like(m1)
    m2, s2 = split(q2(z1))
    z2 = m2 + s2.exp() * later
    return z1, z2, log_normal(z2, m2, s2) + log_normal(z1, m1, s1)


def one_draw_at_a_time(log_weight, x, num_samples):
    top = torch.stack([log_weight(x) for _ in range(num_samples)])
    return torch.logsumexp(top, 0) - torch.tensor(float(num_samples)).log()


def the_whole_batch_repeated(log_weight, x, num_samples):
    log_w = log_weight(x.repeat(num_samples, 1)).reshape(num_samples, len(x))
    largest = log_w.max(0).values
    return largest + (log_w - largest).exp().mean(0).log()


def one_row_at_a_time(log_weight, x, num_samples):
    rows = [log_weight(row.expand(num_samples, -1)) for row in x]
    return torch.stack([torch.logsumexp(row, 0) for row in rows]) - math.log(num_samples)


class OtherModel(nn.Module):
    """Networks in a dictionary, noise drawn first, a bound that loops over draws."""

    def __init__(self, up, top, middle, decoder):
        super().__init__()
        self.parts = nn.ModuleDict({"a": up, "b": top, "c": middle, "d": decoder})

    def log_weight(self, x):
        m1, s1 = split(self.parts["a"](x))
        z1 = m1 + s1.exp() * torch.randn_like(m1)
        m2, s2 = split(self.parts["b"](z1))
        z2 = m2 + s2.exp() * torch.randn_like(m2)
        zero = torch.zeros_like(z2)
        information = log_normal(z2, m2, s2) - log_normal(z2, zero, zero)
        information += log_normal(z1, m1, s1) - log_normal(z1, *split(self.parts["c"](z2)))
        return Bernoulli(logits=self.parts["d"](z1)).log_prob(x).sum(-1) - information

    def forward(self, x, num_samples=1):
        return one_draw_at_a_time(self.log_weight, x, num_samples)


class RowByRow(OtherModel):
    """Every network is given one row at a time."""

    def log_weight(self, x):
        rows = x.split(1) if len(x) < 100 else [x]
        return torch.cat([super(RowByRow, self).log_weight(row) for row in rows])


OTHERS = {
    "gaussian": [a_full_covariance],
    "generate": [noise_first],
    "log_joint": [with_bernoulli, by_hand_with_log_sigmoid],
    "infer": [noise_of_the_upper_level_first],
    "importance_bound": [one_draw_at_a_time, the_whole_batch_repeated, one_row_at_a_time],
    "TwoLevelVAE": [OtherModel, RowByRow],
}
