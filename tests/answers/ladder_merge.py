"""Chapter 4: the merge of two Gaussians, and the posterior that it gives."""

_HEAD = """
import math
import torch
"""

STUBS = {
    "merge": """
def merge(mean_a, log_std_a, mean_b, log_std_b):
    raise NotImplementedError
""",
    "posterior_by_merging": """
def posterior_by_merging(x, slope, noise_std, prior_mean, prior_std):
    raise NotImplementedError
""",
}

SOLUTIONS = {
    "merge": _HEAD
    + """
def merge(mean_a, log_std_a, mean_b, log_std_b):
    share = torch.sigmoid(2 * (log_std_b - log_std_a))
    mean = share * mean_a + torch.sigmoid(2 * (log_std_a - log_std_b)) * mean_b
    return mean, -0.5 * torch.logaddexp(-2 * log_std_a, -2 * log_std_b)
""",
    "posterior_by_merging": _HEAD
    + """
def posterior_by_merging(x, slope, noise_std, prior_mean, prior_std):
    message, prior = (slope / noise_std) ** 2, prior_std**-2
    mean = (message * x / slope + prior * prior_mean) / (message + prior)
    return mean, (message + prior) ** -0.5
""",
}

OTHERS = {
    "merge": _HEAD
    + '''
def merge(mean_a, log_std_a, mean_b, log_std_b):
    """With a softmax over the log-precisions, and a list for a result."""
    log_precision = -2 * torch.stack([log_std_a, log_std_b])
    mean = (log_precision.softmax(0) * torch.stack([mean_a, mean_b])).sum(0)
    return [mean, -log_precision.logsumexp(0) / 2]
''',
    "posterior_by_merging": _HEAD
    + '''
def posterior_by_merging(x, slope, noise_std, prior_mean, prior_std):
    """As the update of a Kalman filter."""
    gain = slope * prior_std**2 / (slope**2 * prior_std**2 + noise_std**2)
    mean = prior_mean + gain * (x - slope * prior_mean)
    return mean, prior_std * (1 - gain * slope).sqrt()
''',
}


def _merge(body: str) -> str:
    return (
        _HEAD
        + f"""
def merge(mean_a, log_std_a, mean_b, log_std_b):
    log_precision_a, log_precision_b = -2 * log_std_a, -2 * log_std_b
    share = torch.sigmoid(log_precision_a - log_precision_b)
    mean = share * mean_a + torch.sigmoid(log_precision_b - log_precision_a) * mean_b
    log_std = -0.5 * torch.logaddexp(log_precision_a, log_precision_b)
    a, b = log_precision_a.exp(), log_precision_b.exp()
{body}
    return mean, log_std
"""
    )


def _posterior(body: str) -> str:
    return (
        _HEAD
        + f"""
def posterior_by_merging(x, slope, noise_std, prior_mean, prior_std):
    message_mean, message_std = x / slope, noise_std / slope.abs()
{body}
    a, b = message_std**-2, prior_std**-2
    return (a * message_mean + b * prior_mean) / (a + b), (a + b) ** -0.5
"""
    )


WRONG = {
    "merge": [
        (
            _merge(
                "    a, b = (-log_std_a).exp(), (-log_std_b).exp()\n"
                "    mean, log_std = (a * mean_a + b * mean_b) / (a + b), -(a + b).log()"
            ),
            "the shares are proportional to 1 / std",
        ),
        (_merge("    mean = (b * mean_a + a * mean_b) / (a + b)"), "the shares are swapped"),
        (_merge("    mean = (mean_a + mean_b) / 2"), "the plain average of the two means"),
        (
            _merge("    log_std = 0.5 * (1 / a + 1 / b).log()"),
            "the variances are added",
        ),
        (_merge("    mean = a * mean_a + b * mean_b"), "not normalised"),
        (
            _merge(
                "    mean = (a * mean_a + b * mean_b) / (a + b)\n"
                "    log_std = -0.5 * (a + b).log()"
            ),
            "overflow float32",
        ),
        (_merge("    log_std = log_std.exp()"), "the second value is the standard deviation"),
        (_merge("    log_std = 2 * log_std"), "the second value is the log-variance"),
        (_merge("    log_std = (2 * log_std).exp()"), "the second value is the variance"),
        (_merge("    log_std = -2 * log_std"), "the second value is the log-precision"),
        (_merge("    mean, log_std = log_std, mean"), "comes first"),
        (_merge("    log_std = (log_std_a + log_std_b) / 2"), "the mean of the log stds"),
        (_merge("    log_std = log_std.clamp(-20, 20)"), "is there a clamp"),
        (
            _merge("    log_std = -((-log_std_a).exp() + (-log_std_b).exp()).log()"),
            "1 / std is added",
        ),
        (
            _merge(
                "    a, b = (-log_std_a).exp(), (-log_std_b).exp()\n"
                "    mean = (a * mean_a + b * mean_b) / (a**2 + b**2)"
            ),
            "multiplied by 1 / std and divided by precisions",
        ),
        (_merge("    return mean"), "should be 2 values"),
        (_merge("    return mean.detach(), log_std.detach()"), "no gradient passes through it"),
        (_merge("    log_std = log_std.detach()"), "with respect to log_std_a is not"),
        (
            _merge(
                "    near = torch.where(log_std_a < log_std_b, mean_a, mean_b)\n"
                "    near = torch.where(log_std_a == log_std_b, (mean_a + mean_b) / 2, near)\n"
                "    mean = (a * mean_a + b * mean_b) / (a + b)\n"
                "    mean = torch.where(mean.isfinite(), mean, near)"
            ),
            "that torch.where discards still passes NaN back",
        ),
    ],
    "posterior_by_merging": [
        (_posterior("    message_std = noise_std * slope.abs()"), "the std noise_std * slope;"),
        (_posterior("    message_mean = x * slope"), "the message has the mean x * slope"),
        (
            _posterior("    message_mean, message_std = x * slope, noise_std * slope"),
            "mean and std of the message are multiplied by the slope",
        ),
        (_posterior("    message_mean, message_std = x, noise_std"), "the slope is not used"),
        (
            _posterior("    message_std = noise_std"),
            "the message has the std noise_std; on the scale",
        ),
        (
            _posterior("    message_std = noise_std.sqrt() / slope.abs()"),
            "noise_std is treated as a variance",
        ),
        (
            _posterior("    prior_std = prior_std.sqrt()"),
            "prior_std is treated as a variance",
        ),
        (_posterior("    return message_mean, message_std"), "the message of x alone"),
        (_posterior("    return prior_mean, prior_std"), "this is the prior"),
        (
            _posterior("    prior_mean, prior_std = 0 * prior_mean, prior_std**0"),
            "under the prior N(0, 1)",
        ),
        (
            _posterior("    message_std, prior_std = message_std**0.5, prior_std**0.5"),
            "the shares are proportional to 1 / std",
        ),
        (
            _posterior("    message_std = (noise_std / slope).log().exp()"),
            "not finite for a negative slope",
        ),
        (
            _posterior(
                "    a, b = message_std**-2, prior_std**-2\n"
                "    return (a * message_mean + b * prior_mean) / (a + b), 1 / (a + b)"
            ),
            "the second value is the variance",
        ),
        (
            _posterior(
                "    a, b = message_std**-2, prior_std**-2\n"
                "    mean = (a * message_mean + b * prior_mean) / (a + b)\n"
                "    return mean, (1 / a + 1 / b).sqrt()"
            ),
            "the variances are added",
        ),
        (
            _posterior(
                "    a, b = message_std**-2, prior_std**-2\n"
                "    mean = (a * message_mean + b * prior_mean) / (a + b)\n"
                "    return (a + b) ** -0.5, mean"
            ),
            "the standard deviation comes first",
        ),
        (
            _posterior(
                "    a, b = message_std**-2, prior_std**-2\n"
                "    mean = (a * message_mean + b * prior_mean) / (a + b)\n"
                "    return mean, -0.5 * (a + b).log()"
            ),
            "the second value is the log std",
        ),
        (_posterior("    message_mean = message_mean.detach()"), "no gradient reaches x"),
    ],
}

OTHERS = {name: {"another way": source} for name, source in OTHERS.items()}
