"""Other right answers to the build of chapter 3."""

import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence


def split(outputs):
    size = outputs.shape[1] // 2
    return outputs[:, :size], torch.tanh(outputs[:, size:] / 7) * 7


def standard_deviations_multiplied(outputs, prior):
    shift, log_scale = split(outputs)
    return [shift + prior[0], (prior[1].exp() * log_scale.exp()).log()]


def the_library(outputs, prior):
    mean, log_std = standard_deviations_multiplied(outputs, prior)
    return kl_divergence(
        Independent(Normal(mean, log_std.exp()), 1),
        Independent(Normal(prior[0], prior[1].exp()), 1),
    )


def kl_near_zero(outputs, prior):
    shift, log_scale = split(outputs)
    return (shift**2 * torch.exp(-2 * prior[1]) + torch.expm1(2 * log_scale) - 2 * log_scale).sum(
        dim=-1
    ) / 2


def one_dimension_at_a_time(outputs, prior):
    size = prior[0].shape[1]
    means = [prior[0][:, i] + outputs[:, i] for i in range(size)]
    log_stds = [prior[1][:, i] + 7 * (outputs[:, size + i] / 7).tanh() for i in range(size)]
    return torch.stack(means, dim=1), torch.stack(log_stds, dim=1)


def walk_by_recursion(deltas, priors, features, noise, p=None, above=None):
    top = noise[-1]
    p = (torch.zeros_like(top), torch.zeros_like(top)) if p is None else p
    read = features[-1] if above is None else torch.cat((features[-1], above), 1)
    q = standard_deviations_multiplied(deltas[-1](read), p)
    z = torch.addcmul(q[0], q[1].exp(), top)
    if len(deltas) == 1:
        return [[z, q, p]]
    below = split(priors[-1](z))
    rest = walk_by_recursion(
        list(deltas)[:-1], list(priors)[:-1], features[:-1], noise[:-1], below, z
    )
    return [*rest, [z, q, p]]


def independent_distributions(x, logits, levels):
    log_px = Independent(Bernoulli(logits=logits), 1).log_prob(x)
    ratios, divergences = torch.zeros_like(log_px), torch.zeros_like(log_px)
    for z, *pair in levels:
        q, p = (Independent(Normal(mean, log_std.exp()), 1) for mean, log_std in pair)
        ratios += p.log_prob(z) - q.log_prob(z)
        divergences += kl_divergence(q, p)
    return torch.stack([log_px + ratios, log_px - divergences])


def formulas_in_place(x, logits, levels):
    log_weight = (x * logits - nn.functional.softplus(logits)).sum(dim=1)
    elbo = log_weight.clone()
    for z, (m, s), (n, t) in levels:
        log_weight -= (((z - n) / t.exp()) ** 2 / 2 + t - ((z - m) / s.exp()) ** 2 / 2 - s).sum(1)
        elbo -= (t - s + ((2 * s).exp() + (m - n) ** 2) / (2 * t).exp() / 2 - 0.5).sum(dim=1)
    return log_weight, elbo


class OtherModel(nn.Module):
    """Networks in one dictionary, and the walk by recursion."""

    def __init__(self, up, deltas, priors, decoder):
        super().__init__()
        lists = {"up": up, "deltas": deltas, "priors": priors, "decoder": [decoder]}
        self.parts = nn.ModuleDict({name: nn.ModuleList(part) for name, part in lists.items()})

    def forward(self, x, noise):
        features = []
        for network in self.parts["up"]:
            features.append(network(features[-1] if features else x))
        levels = walk_by_recursion(self.parts["deltas"], self.parts["priors"], features, noise)
        return independent_distributions(x, self.parts["decoder"][0](levels[0][0]), levels)[0]


OTHERS = {
    "delta": [standard_deviations_multiplied, one_dimension_at_a_time],
    "kl": [the_library, kl_near_zero],
    "walk_down": [walk_by_recursion],
    "bounds": [independent_distributions, formulas_in_place],
    "DeltaVAE": [OtherModel],
}
