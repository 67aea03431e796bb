r"""The importance-weighted bound (:eq:`eq-iwae`).

.. math:: \mathcal L_K(x) = \mathbb E \Bigl[ \log \frac1K \sum_{k=1}^{K}
          \frac{p(x, z^{(k)})}{q(z^{(k)} \mid x)} \Bigr] \le \log p(x),
          \qquad \mathcal L_1 \le \mathcal L_2 \le \dots \le \log p(x)
"""

import math

from torch import Tensor

from hvae_course.hierarchy.trace import Trace


def importance_weighted(trace: Trace, x: Tensor) -> Tensor:
    """Importance-weighted lower bound on log p(x), with the K draws of the trace.

    Args:
        trace: the model's trace of x; ``model(x, num_samples=K)`` sets K.
        x: data ``(B, D)``.

    Returns:
        ``(B,)``, nats per example; to be maximised. K = 1 is the ELBO.

    Source:
        Burda, Grosse and Salakhutdinov (2016), Importance Weighted Autoencoders, arXiv:1509.00519.
    """
    log_w = trace.log_weight(x).unflatten(0, (-1, trace.num_samples))  # (B K,) -> (B, K)
    return log_w.logsumexp(dim=1) - math.log(trace.num_samples)  # (B,)
