r"""A top level that the data need, and one that they do not (chapter 1, :eq:`eq-shared`).

.. math:: z_2 \sim N(0, 1), \qquad z_{1,i} \mid z_2 \sim N(a z_2, s_1), \qquad
          x_i \mid z_1 \sim N(z_{1,i}, s_0), \qquad i = 1, \dots, D

With D = 1 the density of x does not tell a from s_1, so z_2 may be idle. With D > 1 the
coordinates of x vary together only through z_2. In an orthonormal basis whose first vector is
:math:`(1, \dots, 1) / \sqrt D`, the model is a two-level chain of slope :math:`\sqrt D a` along
that vector and, across it, D - 1 chains in which z_2 has no part. `two_level_terms` is exact for
each of them, so both objectives of chapter 1 are known without a sample, averaged over the data.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from hvae_course.oracles.two_level import TwoLevelTerms, two_level_terms

_START = {"b1": 0.8, "log_r1": math.log(0.2), "b2": 0.7, "log_r2": math.log(0.5), "b": 0.5}
"""Where every search begins; the slope and its variance have a start of their own."""


@dataclass(frozen=True, eq=False)
class SharedCause:
    """D coordinates of z_1 with one z_2 above them, each seen with noise of its own.

    Args:
        slope: a, from z_2 to every coordinate of z_1.
        variances: ``(s_0, s_1)``, of x given z_1 and of z_1 given z_2.
        size: D, number of coordinates.

    Raises:
        ValueError: if a variance is not positive or there is no coordinate.
        TypeError: if there are not two variances.
    """

    slope: Tensor | float
    variances: tuple[Tensor | float, Tensor | float]
    size: int = 8

    def __post_init__(self) -> None:
        if not isinstance(self.variances, tuple | list) or len(self.variances) != 2:
            raise TypeError(f"variances are two, (s_0, s_1), got {self.variances!r}")
        if self.size < 1 or not all((torch.as_tensor(s) > 0).all() for s in self.variances):
            raise ValueError(
                "expected positive variances (s_0, s_1) and at least one coordinate, got "
                f"variances {self.variances} and size {self.size}"
            )

    def moments(self) -> tuple[Tensor, Tensor]:
        """Variance of x along (1, ..., 1) and across it.

        Returns:
            Both, float64, of the broadcast shape of the parameters.
        """
        s0, s1 = (torch.as_tensor(s, dtype=torch.float64) for s in self.variances)
        slope = torch.as_tensor(self.slope, dtype=torch.float64)
        return self.size * slope**2 + s1 + s0, s1 + s0

    def log_likelihood(self, data: "SharedCause") -> Tensor:
        """Mean of log p(x) over data from another model of the same size.

        Args:
            data: the model that x comes from.

        Returns:
            Nats per example.

        Raises:
            ValueError: if the sizes differ.
        """
        if self.size != data.size:
            raise ValueError(
                f"this model has {self.size} coordinates and the data {data.size}; use one size"
            )
        terms = zip(self.moments(), data.moments(), (1, self.size - 1), strict=True)
        return sum(
            -0.5 * count * (torch.log(2 * math.pi * own) + seen / own)
            for own, seen, count in terms
        )


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where the search of `optimise_link` ended."""

    model: SharedCause
    """With the slope and the variance s_1 that were found."""
    terms: TwoLevelTerms
    """Both objectives there, averaged over the data."""


def _terms(theta: dict[str, Tensor], data: SharedCause) -> TwoLevelTerms:
    """Both objectives, averaged over the data; every term is quadratic in x."""
    along, across = (value.sqrt() for value in data.moments())
    s0, s1, nothing = data.variances[0], theta["log_s1"].exp(), torch.zeros_like(theta["b2"])
    common = two_level_terms(
        along,
        slopes=(1.0, data.size**0.5 * theta["slope"]),
        variances=(s0, s1),
        mean=theta["b1"] * along,
        variance=theta["log_r1"].exp(),
        gain=theta["b2"],
        offset=nothing,
        residual=theta["log_r2"].exp(),
    )
    rest = two_level_terms(
        across,
        slopes=(1.0, 0.0),
        variances=(s0, s1),
        mean=theta["b"] * across,
        variance=theta["log_r"].exp(),
        gain=nothing,
        offset=nothing,
        residual=nothing + 1,
    )
    names = [field.name for field in fields(TwoLevelTerms)]
    return TwoLevelTerms(
        **{n: getattr(common, n) + (data.size - 1) * getattr(rest, n) for n in names}
    )


def optimise_link(
    objective: str,
    data: SharedCause,
    *,
    slope: Tensor | float | None = None,
    start: float = 0.7,
    diagonal: bool = False,
) -> Optimum:
    r"""Maximise an objective over q, over s_1 and, unless it is given, over the slope.

    The posterior is q(z_1 | x) = N(B x, R), q(z_2 | z_1) = N(c' z_1, r_2), linear and Gaussian.
    By symmetry the best B and R act on (1, ..., 1) and on what is orthogonal to it by one number
    each. The variance s_0 of x given z_1 is the data's.

    Args:
        objective: ``"elbo"`` or ``"closed_form"``, a field of `TwoLevelTerms`.
        data: the model that x comes from.
        slope: hold the slope at these values instead of learning it, ``(N,)``.
        start: where a learned slope starts.
        diagonal: whether R is diagonal, as in a VAE; otherwise it is any covariance matrix.

    Returns:
        The optimum, found by L-BFGS in float64, the same in every run; with N entries if N slopes
        are given.

    Raises:
        ValueError: if the objective is unknown.
    """
    if objective not in ("elbo", "closed_form"):
        raise ValueError(f"expected 'elbo' or 'closed_form' as objective, got {objective!r}")
    if slope is not None and not isinstance(slope, Tensor):
        slope = torch.as_tensor(slope, dtype=torch.float64)
    like = torch.zeros(() if slope is None else slope.shape, dtype=torch.float64)
    free = {name: like + value for name, value in _START.items()}
    first = like + start if slope is None else slope.detach().to(like)
    free["log_s1"] = (1 - first**2).clamp_min(0.01).log()  # x keeps its variance, where it can
    if slope is None:
        free["slope"] = like + start
    if not diagonal:
        free["log_r"] = like + math.log(0.2)
    for value in free.values():
        value.requires_grad_()

    def terms() -> TwoLevelTerms:
        fixed = {} if slope is None else {"slope": slope}
        return _terms({"log_r": free["log_r1"]} | free | fixed, data)

    search = torch.optim.LBFGS(
        list(free.values()),
        max_iter=2_000,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        search.zero_grad()
        value = -getattr(terms(), objective).sum()
        value.backward()
        return value

    search.step(loss)
    with torch.no_grad():
        found = free | ({} if slope is None else {"slope": slope})
        variances = (data.variances[0], found["log_s1"].exp().detach())
        return Optimum(SharedCause(found["slope"].detach(), variances, data.size), terms())
