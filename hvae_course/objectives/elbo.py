r"""The evidence lower bound, from one joint draw (:eq:`eq-elbo`).

.. math:: \mathcal L(x) = \mathbb E_{q(z \mid x)} \bigl[ \log p(x, z) - \log q(z \mid x) \bigr]
          \le \log p(x)

No term is replaced by a closed form. In a bottom-up model the closed form of
KL(q(z_1 | x) || p(z_1 | z_2)) is *not* a term of this bound, because z_2 was drawn given the
z_1 that the closed form integrates out; chapter 1 derives what it computes instead.
"""

from torch import Tensor

from hvae_course.hierarchy.trace import Trace


def elbo(trace: Trace, x: Tensor) -> Tensor:
    """Unbiased one-draw estimate of the ELBO; a lower bound on log p(x) in expectation.

    Args:
        trace: the model's trace of x, with K draws per example.
        x: data ``(B, D)``.

    Returns:
        ``(B,)``, nats per example, averaged over the K draws; to be maximised.

    Source:
        Kingma and Welling (2014), Auto-Encoding Variational Bayes, arXiv:1312.6114.
    """
    return trace.log_weight(x).unflatten(0, (-1, trace.num_samples)).mean(dim=1)  # (B K,) -> (B,)
