"""Other right answers to the build of chapter 5."""

from itertools import accumulate

import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal


def features_by_accumulation(up, x):
    return tuple(accumulate(up, lambda d, network: network(d), initial=x))[1:]


def bounded(outputs):
    mean, raw = outputs.tensor_split(2, dim=-1)
    return [mean, torch.tanh(raw / 7) * 7]


def infer_as_a_list(head, d, h, noise):
    mean, log_std = bounded(head(torch.hstack([d, h])))
    return [torch.addcmul(mean, log_std.exp(), noise), mean, log_std]


def walk_by_recursion(priors, choose, top):
    def below(l, h, p):
        z, q = choose(l, h, p)
        h = torch.hstack([h, z])
        if l == 0:
            return [(z, q, p)], h
        levels, last = below(l - 1, h, bounded(priors[l - 1](h)))
        return [*levels, (z, q, p)], last

    return below(len(priors), top[0].new_zeros(len(top[0]), 0), top)


def generate_with_its_own_loop(priors, decoder, noise):
    h = noise[-1]
    for prior, e in zip(reversed(list(priors)), reversed(noise[:-1]), strict=True):
        mean, log_std = bounded(prior(h))
        h = torch.hstack([h, mean + log_std.exp() * e])
    return 1 / (1 + (-decoder(h)).exp())


class OtherNames(nn.Module):
    def __init__(self, blocks, rules, conditionals, pixels):
        super().__init__()
        self.everything = nn.ModuleList([*blocks, *rules, *conditionals, pixels])
        self.n = len(blocks)

    def forward(self, data, eps):
        n = self.n
        d = features_by_accumulation(self.everything[:n], data)
        log_w, h, p = 0, data.new_zeros(len(data), 0), (0 * eps[-1], 0 * eps[-1])
        for l in range(n - 1, -1, -1):
            z, mean, log_std = infer_as_a_list(self.everything[n + l], d[l], h, eps[l])
            log_w = log_w + Independent(Normal(p[0], p[1].exp()), 1).log_prob(z)
            log_w = log_w - Independent(Normal(mean, log_std.exp()), 1).log_prob(z)
            h = torch.hstack([h, z])
            if l > 0:
                p = bounded(self.everything[2 * n + l - 1](h))
        px = Independent(Bernoulli(logits=self.everything[-1](h)), 1)
        return px.log_prob(data) + log_w


OTHERS = {
    "features": [features_by_accumulation],
    "infer": [infer_as_a_list],
    "walk": [walk_by_recursion],
    "generate": [generate_with_its_own_loop],
    "Bidirectional": [OtherNames],
}
