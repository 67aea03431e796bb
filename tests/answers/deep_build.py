"""Other right answers to the build of chapter 8."""

import math

import torch
from torch import nn
from torch.distributions import Independent, Normal

from hvae_course.hierarchy import TopDown
from hvae_course.posteriors import PosteriorRule


def normal(outputs, size):
    log_std = torch.tanh(outputs[:, size : 2 * size] / 7) * 7
    return Independent(Normal(outputs[:, :size], log_std.exp()), outputs.dim() - 1)


class ResidualInTwoSteps(nn.Module):
    def __init__(self, g, number):
        super().__init__()
        self.g, factor = g, number**-0.5
        *_, last = (layer for layer in g if isinstance(layer, nn.Conv2d))
        last.weight.data.mul_(factor)
        last.bias = nn.Parameter(last.bias.detach() * factor)

    def forward(self, state):
        change = self.g(state)
        return change + state


class EnlargeByRepeating(nn.Module):
    def __init__(self, channels, size):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, *size))

    def forward(self, h):
        rows, columns = (a // b for a, b in zip(self.bias.shape[2:], h.shape[2:], strict=True))
        h = h.repeat_interleave(rows, dim=2).repeat_interleave(columns, dim=3)
        return self.bias + h


class PriorThatSplits(nn.Module):
    def __init__(self, network, size):
        super().__init__()
        self.network, self.size = network, size

    def forward(self, h):
        outputs = self.network(h)
        rest = outputs.shape[1] - 2 * self.size
        both, feature = outputs.split([2 * self.size, rest], dim=1)
        return normal(both, self.size), feature


class PosteriorWithOtherNames(PosteriorRule):
    def __init__(self, q_net):
        super().__init__()
        self.q_net = q_net

    def forward(self, feature, state, prior):
        outputs = self.q_net(torch.concatenate((feature, state), 1))
        return normal(outputs, outputs.shape[1] // 2)


class UpdateInPlace(nn.Module):
    def __init__(self, convolution, residual):
        super().__init__()
        self.steps = nn.Sequential(convolution, residual)

    def forward(self, state, z):
        entered = self.steps[0](z)
        entered += state
        return self.steps[1](entered)


class DeepVAETermByTerm(nn.Module):
    def __init__(self, blocks, q_rules, priors, updates, first, pixels):
        super().__init__()
        self.everything = nn.ModuleList([*blocks, *q_rules])
        self.depth, self.levels = len(blocks), len(q_rules)
        self.walk = TopDown(updates, priors, pixels, initial=first)

    def forward(self, data, eps):
        blocks, q_rules = self.everything[: self.depth], self.everything[self.depth :]
        d = [data]
        for block in blocks:
            d.append(block(d[-1]))

        def choose(l, h, p):
            (*_, own) = (f for f in d[1:] if f.shape[-1] == h.shape[-1])
            q = q_rules[l](own, h, p)
            return Independent(Normal(q.mean, q.stddev), 3), torch.addcmul(
                q.mean, q.stddev, eps[l]
            )

        zeros = torch.zeros_like(eps[-1][0])
        trace = self.walk(Independent(Normal(zeros, zeros + 1), 3), choose, data.shape[0])
        log_w = trace.px.log_prob(data)
        for level in trace.levels:
            constant = math.log(2 * math.pi) / 2  # cancels in the difference
            for g, sign in ((level.p, 1), (level.q, -1)):
                terms = -((level.z - g.mean) ** 2) / (2 * g.variance) - g.stddev.log() - constant
                log_w = log_w + sign * terms.sum(dim=(1, 2, 3))
        return log_w


OTHERS = {
    "Residual": [ResidualInTwoSteps],
    "Enlarge": [EnlargeByRepeating],
    "Prior": [PriorThatSplits],
    "Posterior": [PosteriorWithOtherNames],
    "Update": [UpdateInPlace],
    "DeepVAE": [DeepVAETermByTerm],
}
