"""Other right answers to the exercises of chapter 9."""

import itertools
import math

import torch


def rate_as_the_rest(log_px, log_q, log_p):
    log_w = log_px + log_p.sum(0) - log_q.sum(0)
    distortion = -log_px.mean(-1)
    return [-log_w.mean(-1) - distortion, distortion]


def by_counting_ones(num_pixels, agreement):
    entropy = given = 0.0
    for ones in range(num_pixels + 1):
        count = math.comb(num_pixels, ones)
        one = agreement**ones * (1 - agreement) ** (num_pixels - ones)
        zero = agreement ** (num_pixels - ones) * (1 - agreement) ** ones
        mean = (one + zero) / 2
        entropy -= count * mean * math.log(mean)
        given -= count * (one * math.log(one) + zero * math.log(zero)) / 2
    return entropy, entropy - given


def mean_log_ratio(p, window):
    size, p = p.dim(), p.double()
    total = torch.zeros((), dtype=torch.double)
    for image in itertools.product((0, 1), repeat=size):
        cost = torch.zeros((), dtype=torch.double)
        for i in range(size):
            before = range(max(i - window, 0), i)
            fixed = [slice(None)] * size
            for j in before:
                fixed[j] = image[j]
            seen = p[tuple(fixed)].sum()
            fixed[i] = image[i]
            cost = cost - torch.log(p[tuple(fixed)].sum() / seen)
        total = total + p[image] * (cost + torch.log(p[image]))
    return total


def output_by_output(v, weight, bias, window):
    columns = []
    for i in range(len(bias)):
        first = max(i - window, 0)
        columns.append(v[:, first:i] @ weight[i, first:i] + bias[i])
    return torch.stack(columns, dim=1)


def band_of_triangles(v, weight, bias, window):
    below = torch.tril(torch.ones_like(weight), -1)
    return torch.nn.functional.linear(v, weight * (below - torch.tril(below, -window - 1)), bias)


def one_weight_at_a_time(rate, distortion, beta):
    chosen = [int(torch.argmax(-distortion - b * rate)) for b in beta.tolist()]
    return torch.stack([rate[chosen], distortion[chosen]])


OTHERS = {
    "rate_distortion": [rate_as_the_rest],
    "entropy_information": [by_counting_ones],
    "worth": [mean_log_ratio],
    "masked_linear": [output_by_output, band_of_triangles],
    "best_for_beta": [one_weight_at_a_time],
}
