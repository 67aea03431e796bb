"""Other right answers to the build of chapter 4."""

import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal


def messages_in_two_passes(up, heads, x):
    features = [x]
    for block in up:
        features.append(block(features[-1]))
    found = []
    for d, head in zip(features[1:], heads, strict=True):
        outputs = head(d)
        size = outputs.shape[1] // 2
        found.append([outputs[:, :size], torch.tanh(outputs[:, size:] / 7) * 7])
    return tuple(found)


def infer_with_precisions(message, prior, noise):
    mean, log_std = message
    if prior is not None:
        a, b = (-2 * log_std).exp(), (-2 * prior[1]).exp()
        mean = (a * mean + b * prior[0]) / (a + b)
        log_std = -0.5 * (a + b).log()
    return torch.addcmul(mean, log_std.exp(), noise), mean, log_std


def infer_as_a_list_with_a_gain(message, prior, noise):
    if prior is None:
        return [message[0] + message[1].exp() * noise, *message]
    variance, other = (2 * message[1]).exp(), (2 * prior[1]).exp()
    gain = other / (other + variance)
    mean = prior[0] + gain * (message[0] - prior[0])
    std = (gain * variance).sqrt()
    return [mean + std * noise, mean, std.log()]


def walk_by_recursion(priors, messages, noise):
    if len(messages) == 1:
        z, mean, log_std = infer_with_precisions(messages[0], None, noise[0])
        return [(z, (mean, log_std), (torch.zeros_like(z), torch.zeros_like(z)))]
    above = walk_by_recursion(priors[1:], messages[1:], noise[1:])
    mean, raw = priors[0](above[0][0]).chunk(2, dim=-1)
    p = (mean, 7 * (raw / 7).tanh())
    z, *q = infer_with_precisions(messages[0], p, noise[0])
    return [(z, q, p), *above]


def weight_with_distributions(x, logits, levels):
    log_w = Independent(Bernoulli(logits=logits), 1).log_prob(x)
    for z, (mean, log_std), (p_mean, p_log_std) in levels:
        log_w += Normal(p_mean, p_log_std.exp()).log_prob(z).sum(-1)
        log_w -= Normal(mean, log_std.exp()).log_prob(z).sum(-1)
    return log_w


def weight_without_the_constants(x, logits, levels):
    log_w = (x * logits - nn.functional.softplus(logits)).sum(dim=1)
    for z, q, p in levels:
        squares = ((z - q[0]) / q[1].exp()) ** 2 - ((z - p[0]) / p[1].exp()) ** 2
        log_w = log_w + (squares / 2 + q[1] - p[1]).sum(dim=1)
    return log_w


def weight_number_by_number(x, logits, levels):
    log_w = []
    for i in range(len(x)):
        total = Bernoulli(logits=logits[i]).log_prob(x[i]).sum()
        for z, q, p in levels:
            for g, sign in ((p, 1), (q, -1)):
                for value, mean, log_std in zip(z[i], g[0][i], g[1][i], strict=True):
                    total = total + sign * Normal(mean, log_std.exp()).log_prob(value)
        log_w.append(total)
    return torch.stack(log_w)


class LadderWithOtherNames(nn.Module):
    def __init__(self, blocks, message_heads, conditionals, pixels):
        super().__init__()
        self.pixels = pixels
        self.levels = nn.ModuleList([*blocks, *message_heads, *conditionals])
        self.num_levels = len(blocks)

    def forward(self, data, eps):
        n = self.num_levels
        found = messages_in_two_passes(self.levels[:n], self.levels[n : 2 * n], data)
        levels = walk_by_recursion(self.levels[2 * n :], found, eps)
        return weight_with_distributions(data, self.pixels(levels[0][0]), levels)


OTHERS = {
    "messages": [messages_in_two_passes],
    "infer": [infer_with_precisions, infer_as_a_list_with_a_gain],
    "walk_down": [walk_by_recursion],
    "log_weight": [
        weight_number_by_number,
        weight_with_distributions,
        weight_without_the_constants,
    ],
    "Ladder": [LadderWithOtherNames],
}
