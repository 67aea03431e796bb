r"""Posteriors whose parameters are sums, chapter 8.

.. math:: q(z_l \mid x, z_{>l}) = N\bigl(\mu(d_l) + \mu'(h),\;
          e^{2 (\xi(d_l) + \xi'(h))}\bigr)

One network reads the bottom-up feature, another the state from above, and their outputs are added:
means and raw log-scales, not precisions as in a ladder, and without reference to the prior. A flow
may follow, whose context is a third sum.
"""

from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.flows import InverseAutoregressive
from hvae_course.gaussians import split_normal
from hvae_course.posteriors.base import PosteriorRule


class Additive(PosteriorRule):
    r"""``q(z_l | x, z_>l)`` from the sum of what two networks say, with or without a flow.

    Args:
        up: module from d_l to mean and raw log-scale, ``(B, 2 Z_l, ...)``; with a flow, also to a
            context, ``(B, 2 Z_l + C, ...)``.
        down: the same from h.
        flow: module ``(z_0, context) -> (a, b)`` for
            `hvae_course.flows.InverseAutoregressive`; None for a diagonal Gaussian.
        context: C, 0 without a flow.

    Raises:
        ValueError: if there is a flow without a context, or a context without a flow.

    Source:
        Kingma et al. (2016), Improved variational inference with inverse autoregressive flow,
        arXiv:1606.04934.
    """

    def __init__(
        self, up: nn.Module, down: nn.Module, *, flow: nn.Module | None = None, context: int = 0
    ) -> None:
        super().__init__()
        if (flow is None) != (context == 0):
            raise ValueError(
                f"a flow reads a context, and nothing else does, got flow={flow} and "
                f"context={context}; give both or neither"
            )
        self.up, self.down, self.flow, self.context = up, down, flow, context

    def forward(self, d: Tensor, h: Tensor, p: Distribution | None) -> Distribution:
        """Give ``q(z_l | x, z_>l)``; the prior is not used."""
        outputs = self.up(d) + self.down(h)
        if self.flow is None:
            return split_normal(outputs)
        size = outputs.shape[1] - self.context
        context = outputs[:, size:]
        return InverseAutoregressive(
            split_normal(outputs[:, :size]), lambda z0: self.flow(z0, context)
        )
