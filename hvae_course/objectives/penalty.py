"""What training pays beside the bound, for levels whose posterior says so.

The gradient of the bound reaches neither a codebook nor the choice of a code. What trains them is
a penalty that is not a log-density, so it is not part of a trace's information, and no bound that
is reported contains it: the ELBO of a trace stays a bound on log p(x). A posterior of any kind may
have one, as an attribute ``penalty`` of shape ``(B,)``.
"""

from torch import Tensor

from hvae_course.hierarchy.trace import Trace
from hvae_course.objectives.weighted import mean_over_draws


def penalty(trace: Trace) -> Tensor | None:
    r"""Sum of the penalties of all levels, which `hvae_course.training.step.step` subtracts.

    .. math:: \text{objective} = \text{bound} - \sum_l \text{penalty}(q_l)

    Args:
        trace: the model's trace, with K draws per example.

    Returns:
        ``(B,)``, averaged over draws; None if no level has one.
    """
    found = [getattr(level.q, "penalty", None) for level in trace.levels]
    found = [one for one in found if one is not None]
    return mean_over_draws(sum(found), trace) if found else None
