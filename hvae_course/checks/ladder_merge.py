"""Checks of chapter 4: the merge of two Gaussians, and the posterior that it gives."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import Mistake, as_sequence, as_tensor, checked, compare

_DRAWS = 100_000
_NAMES = ("mean_a", "log_std_a", "mean_b", "log_std_b")


def _product(mean_a: Tensor, std_a: Tensor, mean_b: Tensor, std_b: Tensor) -> tuple[Tensor, ...]:
    """Textbook form in double precision, where 1e52 does not overflow."""
    precision_a, precision_b = std_a.double() ** -2, std_b.double() ** -2
    precision = precision_a + precision_b
    mean = (precision_a * mean_a.double() + precision_b * mean_b.double()) / precision
    return mean, precision**-0.5


def _by_quadrature(
    mean_a: Tensor, std_a: Tensor, mean_b: Tensor, std_b: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the product of two densities, on a fine grid."""
    z = torch.linspace(-60, 60, 60_001, dtype=torch.float64)[:, None]
    log_product = Normal(mean_a.double(), std_a.double()).log_prob(z)
    log_product = log_product + Normal(mean_b.double(), std_b.double()).log_prob(z)
    mass = log_product.softmax(dim=0)
    mean = (mass * z).sum(dim=0)
    return mean, (mass * (z - mean) ** 2).sum(dim=0).sqrt()


def _flat(answer: Callable[..., object], *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The two values of an answer to copies of the inputs; they need not be finite."""
    values = as_sequence(answer(*(i.clone() for i in inputs)), 2, name="the result")
    shape = inputs[0].shape
    pair = []
    for value, name in zip(values, ("the mean", "the log standard deviation"), strict=True):
        if isinstance(value, Tensor) and value.shape == shape:
            pair.append(value.detach().cpu().double())
        else:
            pair.append(as_tensor(value, shape, name=name))
    return pair[0], pair[1]


def _check_moderate_merge(answer: Callable[..., object]) -> None:
    mean_a, log_a, mean_b, log_b = torch.randn(4, 5, 3).unbind()
    std_a, std_b = log_a.exp(), log_b.exp()
    var_a, var_b = std_a**2, std_b**2
    inputs = (mean_a, log_a, mean_b, log_b)
    values = as_sequence(answer(*(i.clone() for i in inputs)), 2, name="the result")
    mean, std = _product(mean_a, std_a, mean_b, std_b)
    compare(
        values[0],
        mean,
        name="the mean",
        mistakes=[
            (std.log(), "the log standard deviation comes first; return (mean, log_std)"),
            (
                (mean_a / std_a + mean_b / std_b) / (1 / std_a + 1 / std_b),
                "the shares are proportional to 1 / std; use the precisions 1 / std**2",
            ),
            (
                (mean_a / var_b + mean_b / var_a) / (1 / var_a + 1 / var_b),
                "the shares are swapped; the mean with the smaller std counts more",
            ),
            (
                (mean_a + mean_b) / 2,
                "this is the plain average of the two means; weight each by its precision",
            ),
            (
                mean_a / var_a + mean_b / var_b,
                "this mean is not normalised; divide by the sum of the precisions",
            ),
            (
                (mean_a / log_a.exp() + mean_b / log_b.exp()) * std**2,
                "the means are multiplied by 1 / std and divided by precisions; use 1 / std**2",
            ),
            (
                (mean_a * (-log_a).exp() + mean_b * (-log_b).exp())
                / ((-log_a).exp() + (-log_b).exp()),
                "log_std is read as a log-variance; the precision is exp(-2 log_std)",
            ),
        ],
    )
    compare(
        values[1],
        std.log(),
        name="the log standard deviation",
        mistakes=[
            (std, "the second value is the standard deviation; return its logarithm"),
            (std**2, "the second value is the variance; return log std"),
            (2 * std.log(), "the second value is the log-variance; log std is half of it"),
            (-2 * std.log(), "the second value is the log-precision; log std is -1/2 times that"),
            (-std.log(), "the sign of log std is wrong; a precision is 1 / std**2"),
            (
                0.5 * (var_a + var_b).log(),
                "the variances are added; in a product of densities the precisions add",
            ),
            (
                -(1 / std_a + 1 / std_b).log(),
                "1 / std is added; in a product of densities the precisions 1 / std**2 add",
            ),
            ((log_a + log_b) / 2, "this is the mean of the log stds; add the precisions"),
        ],
    )
    for value, brute, name in zip(
        (as_tensor(values[0], mean.shape, name="mean"), as_tensor(values[1], mean.shape, name="")),
        _by_quadrature(*(i.flatten() for i in (mean_a, std_a, mean_b, std_b))),
        ("the mean", "the log standard deviation"),
        strict=True,
    ):
        brute = brute if name == "the mean" else brute.log()
        compare(value.flatten(), brute, name=f"{name} of the product of densities")

    def reference(mean_a: Tensor, log_a: Tensor, mean_b: Tensor, log_b: Tensor) -> list[Tensor]:
        mean, std = _product(mean_a, log_a.double().exp(), mean_b, log_b.double().exp())
        return [mean, std.log()]

    check_gradients(answer, reference, inputs, names=_NAMES)


def _check_extreme_merge(answer: Callable[..., object]) -> int:
    logs = torch.tensor([-60.0, 0.0, 60.0])
    log_a, log_b = (side.flatten() for side in torch.meshgrid(logs, logs, indexing="ij"))
    inputs = (torch.full((9,), 0.5), log_a, torch.full((9,), 2.5), log_b)
    mean, log_std = _flat(answer, *inputs)
    if not (torch.isfinite(mean).all() and torch.isfinite(log_std).all()):
        raise Mistake(
            "right for moderate inputs, but log stds of -60 or 60 overflow float32; write the "
            "share as a sigmoid and the precision with logaddexp"
        )
    exact_mean, exact_std = _product(
        inputs[0], log_a.double().exp(), inputs[2], log_b.double().exp()
    )
    try:
        compare(mean, exact_mean, name="the mean")
        compare(log_std, exact_std.log(), name="the log standard deviation")
    except Mistake as mistake:
        raise Mistake(
            f"right for moderate inputs; at log stds of -60 or 60 {mistake}; is there a clamp or "
            "a small constant?"
        ) from None
    leaves = [value.clone().requires_grad_() for value in inputs]
    total = sum(value.sum() for value in answer(*(leaf.clone() for leaf in leaves)))
    for name, slope in zip(_NAMES, torch.autograd.grad(total, leaves), strict=True):
        if not torch.isfinite(slope).all():
            raise Mistake(
                f"right values, but the gradient of {name} is not finite at log stds of -60 or "
                "60; the branch that torch.where discards still passes NaN back"
            )
    return len(log_a)


@checked
def merge(answer: Callable[..., object]) -> str:
    r"""The normalised product of two Gaussians (:eq:`eq-ladder-merge`).

    Write ``merge(mean_a, log_std_a, mean_b, log_std_b) -> (mean, log_std)``. All arguments and
    both results have the same shape, such as ``(B, Z)``, in float32; log_std is the logarithm of
    the standard deviation. Precisions add, and each mean is weighted by its precision. Values must
    be right and finite for log standard deviations between -60 and 60 (:eq:`eq-merge-stable`).

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    _check_moderate_merge(answer)
    number = _check_extreme_merge(answer)
    return (
        "agrees with the closed form and with the product of the densities in 15 cases, and stays "
        f"right in {number} with log stds of up to 60 in magnitude"
    )


@checked
def posterior_by_merging(answer: Callable[..., object]) -> str:
    r"""The exact posterior of a linear-Gaussian link, as a merge (:eq:`eq-merge-exact`).

    Write ``posterior_by_merging(x, slope, noise_std, prior_mean, prior_std) -> (mean, std)`` of
    p(z | x), where z has the prior N(prior_mean, prior_std^2) and x = slope z plus Gaussian noise
    with the standard deviation noise_std. All arguments and both results have the shape ``(B,)``.
    The slope is not zero and may be negative. Read as a function of z, p(x | z) is the message
    N(x / slope, (noise_std / slope)^2) of :eq:`eq-message`; merge it with the prior.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for sign in (1.0, -1.0):
        x, prior_mean = torch.randn(2, 8)
        size, noise_std, prior_std = 0.5 + 1.5 * torch.rand(3, 8)
        _check_posterior(answer, (x, sign * size, noise_std, prior_mean, prior_std))

    slope, noise_std, prior_mean, prior_std = -0.7, 0.6, 0.4, 1.3
    z = prior_mean + prior_std * torch.randn(_DRAWS)
    x = slope * z + noise_std * torch.randn(_DRAWS)
    rest = [torch.full_like(x, value) for value in (slope, noise_std, prior_mean, prior_std)]
    values = as_sequence(answer(x.clone(), *rest), 2, name="the result")
    mean, std = (as_tensor(v, x.shape, name="mean and std") for v in values)
    surprise = (z.double() - mean) / std  # N(0, 1) and independent of x if p(z | x) is exact
    for moment, expected in ((surprise, 0.0), (surprise**2, 1.0), (surprise * x, 0.0)):
        error = moment.std() / _DRAWS**0.5
        if (moment.mean() - expected).abs() > 5 * error:
            raise Mistake("draws of z are not spread about your mean with your std")
    return f"agrees with Bayes' rule in 16 cases, and with {_DRAWS:,} draws of z and x"


def _check_posterior(answer: Callable[..., object], inputs: tuple[Tensor, ...]) -> None:
    """Compare with Bayes' rule, and with what the usual mistakes give."""
    x, a, noise, prior_mean, prior_std = inputs
    values = as_sequence(answer(*(i.clone() for i in inputs)), 2, name="the result")
    size = noise / a.abs()
    mean, std = _product(x / a, size, prior_mean, prior_std)
    one, zero = torch.ones_like(a), torch.zeros_like(a)
    wrong = [
        ((x / a, size), "this is the message of x alone; merge it with the prior"),
        ((prior_mean, prior_std), "this is the prior; merge it with the message of x"),
        (
            _product(x / a, noise * a.abs(), prior_mean, prior_std),
            "the message has the std noise_std * slope; use noise_std / |slope|",
        ),
        (
            _product(x * a, size, prior_mean, prior_std),
            "the message has the mean x * slope; solve x = slope * z for z",
        ),
        (
            _product(x * a, noise * a.abs(), prior_mean, prior_std),
            "mean and std of the message are multiplied by the slope; divide by it",
        ),
        (
            _product(x / a, noise, prior_mean, prior_std),
            "the message has the std noise_std; on the scale of z it is noise_std / |slope|",
        ),
        (
            _product(x, noise, prior_mean, prior_std),
            "the slope is not used; the message is a density of z, not of slope * z",
        ),
        (
            _product(x / a, noise.sqrt() / a.abs(), prior_mean, prior_std),
            "noise_std is treated as a variance; it is a standard deviation",
        ),
        (
            _product(x / a, size, prior_mean, prior_std.sqrt()),
            "prior_std is treated as a variance; it is a standard deviation",
        ),
        (
            _product(x / a, size, zero, one),
            "this is the posterior under the prior N(0, 1); use prior_mean and prior_std",
        ),
        (
            _product(x / a, size**0.5, prior_mean, prior_std**0.5),
            "the shares are proportional to 1 / std; use the precisions 1 / std**2",
        ),
    ]
    got = values[0]
    if isinstance(got, Tensor) and not torch.isfinite(got).all() and (a < 0).all():
        raise Mistake(
            "not finite for a negative slope; the message has the std noise_std / |slope|"
        )
    names = ("the posterior mean", "the posterior standard deviation")
    compare(
        got,
        mean,
        name=names[0],
        mistakes=[
            *((m, hint) for (m, _), hint in wrong),
            (std, "the standard deviation comes first; return (mean, std)"),
        ],
    )
    compare(
        values[1],
        std,
        name=names[1],
        mistakes=[
            (std**2, "the second value is the variance; return the standard deviation"),
            (std.log(), "the second value is the log std; return the standard deviation"),
            (std**-2, "the second value is the precision; return the standard deviation"),
            (
                (size.double() ** 2 + prior_std.double() ** 2).sqrt(),
                "the variances are added; in a merge the precisions add",
            ),
            *((deviation, hint) for (_, deviation), hint in wrong),
        ],
    )
    check_gradients(
        answer,
        lambda x, a, noise, *prior: _product(x / a, noise / a.abs(), *prior),
        inputs,
        names=("x", "slope", "noise_std", "prior_mean", "prior_std"),
    )
