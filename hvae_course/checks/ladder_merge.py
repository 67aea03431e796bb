"""Checks of chapter 4: the merge of two Gaussians, and the posterior that it gives."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import (
    Answer,
    Mistake,
    as_sequence,
    as_tensor,
    checked,
    compare,
    copies,
)
from hvae_course.posteriors.precision import merge_parameters

_DRAWS = 100_000
_LOG_STDS = ("the mean", "the log standard deviation")

_Pair = tuple[Tensor, Tensor]


@checked
def merge(answer: Answer) -> str:
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
    inputs = torch.randn(4, 5, 3).unbind()
    compare(answer, merge_parameters, inputs, name=_LOG_STDS, mistakes=merge.mistakes)
    names = [f"{name} of the product of densities" for name in _LOG_STDS]
    compare(answer, _by_quadrature, inputs, name=names)
    arguments = ("mean_a", "log_std_a", "mean_b", "log_std_b")
    check_gradients(answer, merge_parameters, inputs, names=arguments)

    logs = torch.tensor([-60.0, 0.0, 60.0])
    log_std_a, log_std_b = torch.cartesian_prod(logs, logs).T
    inputs = (torch.full((9,), 0.5), log_std_a, torch.full((9,), 2.5), log_std_b)
    values = as_sequence(answer(*copies(inputs)), 2, name="the result")
    if not all(torch.isfinite(torch.as_tensor(value)).all() for value in values):
        raise Mistake(
            "right for moderate inputs, but log stds of -60 or 60 overflow float32; write the "
            "share as a sigmoid and the precision with logaddexp"
        )
    try:
        compare(answer, merge_parameters, inputs, name=_LOG_STDS)
    except Mistake as mistake:
        raise Mistake(
            f"right for moderate inputs; at log stds of -60 or 60 {mistake}; is there a clamp or "
            "a small constant?"
        ) from None
    leaves = [value.clone().requires_grad_() for value in inputs]
    total = sum(value.sum() for value in answer(*copies(leaves)))
    for name, slope in zip(arguments, torch.autograd.grad(total, leaves), strict=True):
        if not torch.isfinite(slope).all():
            raise Mistake(
                f"right values, but the gradient of {name} is not finite at log stds of -60 or "
                "60; an exp that overflows passes NaN back, also from the branch that a "
                "torch.where discards: write the share as torch.sigmoid and the precision with "
                "torch.logaddexp"
            )
    return (
        "agrees with the closed form and with the product of the densities in 15 cases, and stays "
        "right in 9 with log stds of up to 60 in magnitude"
    )


def _by_quadrature(mean_a: Tensor, log_std_a: Tensor, mean_b: Tensor, log_std_b: Tensor) -> _Pair:
    """Mean and log standard deviation of the product of two densities, on a fine grid."""
    z = torch.linspace(-60, 60, 60_001, dtype=torch.float64)[:, None, None]
    log_product = Normal(mean_a, log_std_a.exp()).log_prob(z)
    mass = (log_product + Normal(mean_b, log_std_b.exp()).log_prob(z)).softmax(dim=0)
    mean = (mass * z).sum(dim=0)
    return mean, (mass * (z - mean) ** 2).sum(dim=0).log() / 2


@merge.mistake("the log standard deviation comes first; return (mean, log_std)")
def _(mean_a, log_std_a, mean_b, log_std_b):
    a, b = (-2 * log_std_a).exp(), (-2 * log_std_b).exp()
    return -0.5 * (a + b).log(), (a * mean_a + b * mean_b) / (a + b)


def _textbook(share: float = -2, scale: float = -2) -> Answer:
    """The merge in its textbook form, with other powers of the stds in the two results."""

    def answer(mean_a: Tensor, log_std_a: Tensor, mean_b: Tensor, log_std_b: Tensor) -> _Pair:
        a, b = (share * log_std_a).exp(), (share * log_std_b).exp()
        log_std = ((scale * log_std_a).exp() + (scale * log_std_b).exp()).log() / scale
        return (a * mean_a + b * mean_b) / (a + b), log_std

    return answer


for _hint, _wrong in {
    "the shares are proportional to 1 / std; use the precisions 1 / std**2": _textbook(share=-1),
    "the shares are swapped; the mean with the smaller std counts more": _textbook(share=2),
    "this is the plain average of the two means; weight each by its precision": _textbook(share=0),
    "the variances are added; in a product of densities the precisions add": _textbook(scale=2),
    "1 / std is added; in a product of densities 1 / std**2 is added": _textbook(scale=-1),
    "overflow float32": _textbook(),
    "this mean is not normalised; divide by the sum of the precisions": (
        lambda m, s, n, t: (m / s.exp() ** 2 + n / t.exp() ** 2, merge_parameters(m, s, n, t)[1])
    ),
    "the means are multiplied by 1 / std and divided by precisions; use 1 / std**2": (
        lambda m, s, n, t: ((m / s.exp() + n / t.exp()) / ((-2 * s).exp() + (-2 * t).exp()), s)
    ),
    "this is the mean of the log stds; add the precisions": (
        lambda m, s, n, t: (merge_parameters(m, s, n, t)[0], (s + t) / 2)
    ),
}.items():
    merge.mistake(_hint)(_wrong)


@merge.mistake("an exp that overflows passes NaN back")
def _(mean_a, log_std_a, mean_b, log_std_b):
    right, log_std = merge_parameters(mean_a, log_std_a, mean_b, log_std_b)
    mean, _ = _textbook()(mean_a, log_std_a, mean_b, log_std_b)
    return torch.where(mean.isfinite(), mean, right.detach()), log_std


@merge.mistake("an exp that overflows passes NaN back")
def _(mean_a, log_std_a, mean_b, log_std_b):
    _, log_std = merge_parameters(mean_a, log_std_a, mean_b, log_std_b)
    share = 1 / (1 + torch.exp(2 * (log_std_a - log_std_b)))
    return torch.lerp(mean_b, mean_a, share), log_std


def _changed(result: Callable[[Tensor, Tensor], object], right: Answer) -> Answer:
    """A function of the two right values."""
    return lambda *inputs: result(*right(*inputs))


for _hint, _result in {
    "the second value is the standard deviation; return its logarithm": lambda m, s: (m, s.exp()),
    "the second value is the variance; return log std": lambda m, s: (m, (2 * s).exp()),
    "the second value is the log-variance; log std is half of it": lambda m, s: (m, 2 * s),
    "the second value is the log-precision; log std is -1/2 times that": lambda m, s: (m, -2 * s),
    "the sign of log std is wrong; a precision is 1 / std**2": lambda m, s: (m, -s),
    "should be 2 values": lambda m, s: m,
    "is there a clamp": lambda m, s: (m, s.clamp(-20, 20)),
    "no gradient passes through it": lambda m, s: (m.detach(), s.detach()),
    "the gradient with respect to log_std_a is not": lambda m, s: (m, s.detach()),
}.items():
    merge.mistake(_hint)(_changed(_result, merge_parameters))


@checked
def posterior_by_merging(answer: Answer) -> str:
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
        inputs = (x, sign * size, noise_std, prior_mean, prior_std)
        if sign < 0:
            values = as_sequence(answer(*copies(inputs)), 2, name="the result")
            if not torch.isfinite(torch.as_tensor(values[0])).all():
                raise Mistake(
                    "not finite for a negative slope; the message has the std noise_std / |slope|"
                )
        names = ("the posterior mean", "the posterior standard deviation")
        known = posterior_by_merging.mistakes
        compare(answer, _right_posterior, inputs, name=names, mistakes=known)
        arguments = ("x", "slope", "noise_std", "prior_mean", "prior_std")
        check_gradients(answer, _right_posterior, inputs, names=arguments)

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


def _posterior(
    slope_in_mean: float = -1,
    slope_in_std: float = -1,
    noise_power: float = 1,
    prior_power: float = 1,
) -> Answer:
    """The posterior by merging, with other powers of the slope and of the two stds."""

    def answer(
        x: Tensor, slope: Tensor, noise_std: Tensor, prior_mean: Tensor, prior_std: Tensor
    ) -> _Pair:
        log_std = noise_power * noise_std.log() + slope_in_std * slope.abs().log()
        message = x * slope**slope_in_mean, log_std
        mean, log_std = merge_parameters(*message, prior_mean, prior_power * prior_std.log())
        return mean, log_std.exp()

    return answer


_right_posterior = _posterior()


@posterior_by_merging.mistake("this is the message of x alone; merge it with the prior")
def _(x, slope, noise_std, prior_mean, prior_std):
    return x / slope, noise_std / slope.abs()


for _hint, _wrong in {
    "this is the prior; merge it with the message of x": lambda x, a, noise, *prior: prior,
    "the message has the std noise_std * slope; use noise_std / |slope|": _posterior(-1, 1),
    "the message has the mean x * slope; solve x = slope * z for z": _posterior(1, -1),
    "mean and std of the message are multiplied by the slope; divide by it": _posterior(1, 1),
    "the message has the std noise_std; for z it is noise_std / |slope|": _posterior(-1, 0),
    "the slope is not used; the message is a density of z, not of slope * z": _posterior(0, 0),
    "noise_std is treated as a variance; it is a standard deviation": _posterior(noise_power=0.5),
    "prior_std is treated as a variance; it is a standard deviation": _posterior(prior_power=0.5),
    "the shares are proportional to 1 / std; use the precisions 1 / std**2": (
        _posterior(slope_in_std=-0.5, noise_power=0.5, prior_power=0.5)
    ),
    "this is the posterior under the prior N(0, 1); use prior_mean and prior_std": (
        lambda x, a, noise, m, s: _right_posterior(x, a, noise, 0 * m, s**0)
    ),
    "the variances are added; in a merge the precisions add": (
        lambda x, a, noise, m, s: (
            _right_posterior(x, a, noise, m, s)[0],
            ((noise / a) ** 2 + s**2).sqrt(),
        )
    ),
    "no gradient reaches x": lambda x, *rest: _right_posterior(x.detach(), *rest),
}.items():
    posterior_by_merging.mistake(_hint)(_wrong)

for _hint, _result in {
    "the standard deviation comes first; return (mean, std)": lambda m, s: (s, m),
    "the second value is the variance; return the standard deviation": lambda m, s: (m, s**2),
    "the second value is the log std; return the standard deviation": lambda m, s: (m, s.log()),
    "the second value is the precision; return the standard deviation": lambda m, s: (m, s**-2),
}.items():
    posterior_by_merging.mistake(_hint)(_changed(_result, _right_posterior))


@posterior_by_merging.mistake("not finite for a negative slope")
def _(x, slope, noise_std, prior_mean, prior_std):
    log_std = (noise_std / slope).log()
    mean, log_std = merge_parameters(x / slope, log_std, prior_mean, prior_std.log())
    return mean, log_std.exp()
