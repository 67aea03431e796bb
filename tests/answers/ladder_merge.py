"""Other right answers to the exercises of chapter 4."""

import torch


def softmax_and_a_list(mean_a, log_std_a, mean_b, log_std_b):
    log_precision = -2 * torch.stack([log_std_a, log_std_b])
    mean = (log_precision.softmax(0) * torch.stack([mean_a, mean_b])).sum(0)
    return [mean, -log_precision.logsumexp(0) / 2]


def update_of_a_kalman_filter(x, slope, noise_std, prior_mean, prior_std):
    gain = slope * prior_std**2 / (slope**2 * prior_std**2 + noise_std**2)
    mean = prior_mean + gain * (x - slope * prior_mean)
    return mean, prior_std * (1 - gain * slope).sqrt()


OTHERS = {
    "merge": [softmax_and_a_list],
    "posterior_by_merging": [update_of_a_kalman_filter],
}
