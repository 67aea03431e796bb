"""Checks of chapter 4: the merge of two Gaussians, and the posterior that it gives."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from hvae_course.checks.gradients import judge_gradients
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
    weight = log_product.softmax(dim=0)
    mean = (weight * z).sum(dim=0)
    return mean, (weight * (z - mean) ** 2).sum(dim=0).sqrt()


def _flat(answer: Callable[..., object], *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The two values of an answer, for copies of the inputs; not finite is allowed."""
    values = as_sequence(answer(*(i.clone() for i in inputs)), 2, name="your answer")
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
    values = as_sequence(answer(*(i.clone() for i in inputs)), 2, name="your answer")
    mean, std = _product(mean_a, std_a, mean_b, std_b)
    compare(
        values[0],
        mean,
        name="the mean",
        mistakes=[
            (std.log(), "the log standard deviation comes first; asked is (mean, log_std)"),
            (
                (mean_a / std_a + mean_b / std_b) / (1 / std_a + 1 / std_b),
                "the weights are 1 / std; a precision is 1 / std**2",
            ),
            (
                (mean_a / var_b + mean_b / var_a) / (1 / var_a + 1 / var_b),
                "the weights are swapped; the mean with the smaller std counts more",
            ),
            (
                (mean_a + mean_b) / 2,
                "this is the mean of the two means; each counts by its precision",
            ),
            (
                mean_a / var_a + mean_b / var_b,
                "this mean is not normalised; divide by the sum of the precisions",
            ),
            (
                (mean_a / log_a.exp() + mean_b / log_b.exp()) * std**2,
                "precisions in the denominator, 1 / std in front of the means; use 1 / std**2",
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
            (std, "the second value is the standard deviation; its logarithm is asked"),
            (std**2, "the second value is the variance; log std is asked"),
            (2 * std.log(), "the second value is the log-variance; log std is half of it"),
            (
                -2 * std.log(),
                "the second value is the logarithm of the precision; log std = -1/2 of it",
            ),
            (-std.log(), "the sign of log std is wrong; a precision is 1 / std**2"),
            (
                0.5 * (var_a + var_b).log(),
                "the variances are added; in a product the precisions add",
            ),
            (
                -(1 / std_a + 1 / std_b).log(),
                "1 / std is added; precisions, 1 / std**2, add in a product",
            ),
            ((log_a + log_b) / 2, "this is the mean of the log stds; the precisions add"),
        ],
    )
    for value, brute, name in zip(
        (as_tensor(values[0], mean.shape, name="mean"), as_tensor(values[1], mean.shape, name="")),
        _by_quadrature(*(i.flatten() for i in (mean_a, std_a, mean_b, std_b))),
        ("the mean", "the log standard deviation"),
        strict=True,
    ):
        brute = brute if name == "the mean" else brute.log()
        compare(value.flatten(), brute, name=f"{name}, against the product of the densities,")

    def reference(mean_a: Tensor, log_a: Tensor, mean_b: Tensor, log_b: Tensor) -> list[Tensor]:
        mean, std = _product(mean_a, log_a.double().exp(), mean_b, log_b.double().exp())
        return [mean, std.log()]

    judge_gradients(answer, reference, inputs, names=_NAMES)


def _check_extreme_merge(answer: Callable[..., object]) -> int:
    logs = torch.tensor([-60.0, 0.0, 60.0])
    log_a, log_b = (side.flatten() for side in torch.meshgrid(logs, logs, indexing="ij"))
    inputs = (torch.full((9,), 0.5), log_a, torch.full((9,), 2.5), log_b)
    mean, log_std = _flat(answer, *inputs)
    if not (torch.isfinite(mean).all() and torch.isfinite(log_std).all()):
        raise Mistake(
            "right for moderate inputs, but log stds of -60 or 60 overflow float32; write the "
            "weight as a sigmoid and the precision with logaddexp"
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
                "60; what torch.where leaves out still passes NaN back"
            )
    return len(log_a)


@checked
def merge(answer: Callable[..., object]) -> str:
    r"""Exercise: the normalised product of two Gaussians (:eq:`eq-ladder-merge`).

    Asked is ``merge(mean_a, log_std_a, mean_b, log_std_b) -> (mean, log_std)``. All arguments and
    both results have the same shape, such as ``(B, Z)``, in float32; log_std is the logarithm of
    the standard deviation. Precisions add, and each mean counts by its precision. Log standard
    deviations between -60 and 60 must give finite, right values (:eq:`eq-merge-stable`).

    Args:
        answer: the student's ``merge``.

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
    r"""Exercise: the exact posterior of a linear-Gaussian link, as a merge (:eq:`eq-merge-exact`).

    Asked is ``posterior_by_merging(x, w, s, prior_mean, prior_std) -> (mean, std)`` of p(z | x),
    where z has the prior N(prior_mean, prior_std^2) and x = w z plus Gaussian noise with the
    standard deviation s. All arguments and both results have the shape ``(B,)``. The weight w is
    not zero and may be negative. Read as a function of z, what x says is the message
    N(x / w, (s / w)^2) of :eq:`eq-message`; merge it with the prior.

    Args:
        answer: the student's ``posterior_by_merging``.

    Returns:
        What was verified.
    """
    for sign in (1.0, -1.0):
        x, prior_mean = torch.randn(2, 8)
        w, s, prior_std = 0.5 + 1.5 * torch.rand(3, 8)
        w = sign * w
        _judge_posterior(answer, (x, w, s, prior_mean, prior_std))

    w, s, prior_mean, prior_std = -0.7, 0.6, 0.4, 1.3
    z = prior_mean + prior_std * torch.randn(_DRAWS)
    x = w * z + s * torch.randn(_DRAWS)
    rest = [torch.full_like(x, value) for value in (w, s, prior_mean, prior_std)]
    values = as_sequence(answer(x.clone(), *rest), 2, name="your answer")
    mean, std = (as_tensor(v, x.shape, name="mean and std") for v in values)
    surprise = (z.double() - mean) / std  # N(0, 1) and independent of x if p(z | x) is exact
    for moment, expected in ((surprise, 0.0), (surprise**2, 1.0), (surprise * x, 0.0)):
        error = moment.std() / _DRAWS**0.5
        if (moment.mean() - expected).abs() > 5 * error:
            raise Mistake("draws of z do not spread about your mean as your std says")
    return f"agrees with Bayes' rule in 16 cases, and with {_DRAWS:,} draws of z and x"


def _judge_posterior(answer: Callable[..., object], inputs: tuple[Tensor, ...]) -> None:
    """Compare with Bayes' rule, and with what the usual mistakes give."""
    x, w, s, prior_mean, prior_std = inputs
    values = as_sequence(answer(*(i.clone() for i in inputs)), 2, name="your answer")
    size = s / w.abs()
    mean, std = _product(x / w, size, prior_mean, prior_std)
    one, zero = torch.ones_like(s), torch.zeros_like(s)
    wrong = [
        ((x / w, size), "this is the message of x alone; merge it with the prior"),
        ((prior_mean, prior_std), "this is the prior; x does not enter"),
        (
            _product(x / w, s * w.abs(), prior_mean, prior_std),
            "the message has the std s * w; x = w z divides by w, so it is s / |w|",
        ),
        (
            _product(x * w, size, prior_mean, prior_std),
            "the message has the mean x * w; solve x = w z for z",
        ),
        (
            _product(x * w, s * w.abs(), prior_mean, prior_std),
            "the message is N(x w, (s w)^2); solving x = w z for z divides by w",
        ),
        (
            _product(x / w, s, prior_mean, prior_std),
            "the message has the std s; seen from z the noise is divided by w, too",
        ),
        (
            _product(x, s, prior_mean, prior_std),
            "the weight w does not enter; the message is about z, not about w z",
        ),
        (
            _product(x / w, s.sqrt() / w.abs(), prior_mean, prior_std),
            "s is treated as a variance; it is the standard deviation of the noise",
        ),
        (
            _product(x / w, size, prior_mean, prior_std.sqrt()),
            "prior_std is treated as a variance; it is a standard deviation",
        ),
        (
            _product(x / w, size, zero, one),
            "this is the posterior under the prior N(0, 1); use prior_mean and prior_std",
        ),
        (
            _product(x / w, size**0.5, prior_mean, prior_std**0.5),
            "the weights are 1 / std; a precision is 1 / std**2",
        ),
    ]
    got = values[0]
    if isinstance(got, Tensor) and not torch.isfinite(got).all() and (w < 0).all():
        raise Mistake("not finite for a negative w; the std of the message is s / |w|")
    names = ("the posterior mean", "the posterior standard deviation")
    compare(
        got,
        mean,
        name=names[0],
        mistakes=[
            *((m, hint) for (m, _), hint in wrong),
            (std, "the standard deviation comes first; asked is (mean, std)"),
        ],
    )
    compare(
        values[1],
        std,
        name=names[1],
        mistakes=[
            (std**2, "the second value is the variance; the standard deviation is asked"),
            (std.log(), "the second value is the log std; the standard deviation is asked"),
            (std**-2, "the second value is the precision; the standard deviation is asked"),
            (
                (size.double() ** 2 + prior_std.double() ** 2).sqrt(),
                "the variances are added; in a merge the precisions add",
            ),
            *((deviation, hint) for (_, deviation), hint in wrong),
        ],
    )
    judge_gradients(
        answer,
        lambda x, w, s, *prior: _product(x / w, s / w.abs(), *prior),
        inputs,
        names=("x", "w", "s", "prior_mean", "prior_std"),
    )
