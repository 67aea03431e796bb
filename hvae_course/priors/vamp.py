r"""The VampPrior: a mixture of the model's own posteriors (:eq:`eq-vamp`).

.. math:: p(z_L) = \frac1U \sum_{i=1}^{U} q(z_L \mid u_i)

The prior that maximises the ELBO is the aggregated posterior, the average of q(z_L | x) over all
data (:eq:`eq-optimal-prior`). Averaging over U learned pseudo-inputs u_i instead keeps the cost
bounded, and its components move with the encoder.
"""

import torch
from torch import Tensor, nn

from hvae_course.gaussians import is_diag_normal
from hvae_course.priors.base import Encode, Prior, check_positive
from hvae_course.priors.mixture import DiagNormalMixture, mixture


def _check_real(x: Tensor) -> None:
    """Refuse what is no tensor of real numbers, such as a data set, an array or bytes."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(
            "pseudo-inputs are, or start from, a tensor (N, D) of real numbers as a model sees "
            f"them, such as data.train.batch(slice(0, 500)), got {got}"
        )


class VampPrior(Prior):
    """Variational mixture of posteriors, with equal weights.

    The encoder is passed to ``forward`` and must treat every row on its own: batch normalisation
    would make q(z_L | u_i) depend on the other pseudo-inputs.

    Args:
        pseudo_inputs: where the pseudo-inputs start, ``(U, D)``; see `from_data` and `at_random`.
            They are free real numbers, not held to the range of the data.

    Raises:
        ValueError: if there is no pseudo-input, or one holds missing or infinite values.
        TypeError: if they are not a tensor of real numbers.

    Source:
        Tomczak and Welling (2018), VAE with a VampPrior, arXiv:1705.07120.
    """

    def __init__(self, pseudo_inputs: Tensor) -> None:
        super().__init__()
        _check_real(pseudo_inputs)
        if pseudo_inputs.dim() < 2 or len(pseudo_inputs) == 0:
            raise ValueError(
                "the VampPrior needs pseudo-inputs (U, D) with U >= 1, got shape "
                f"{tuple(pseudo_inputs.shape)}"
            )
        if not (pseudo_inputs.is_meta or torch.isfinite(pseudo_inputs).all()):
            raise ValueError(
                "the pseudo-inputs of a VampPrior are complete rows of real numbers, and these "
                "hold NaN or infinite values; start at random"
            )
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.detach().clone())

    @classmethod
    def at_random(cls, num_components: int, num_features: int) -> "VampPrior":
        """Start from noise around mid-grey.

        Args:
            num_components: U.
            num_features: D.

        Returns:
            The prior.
        """
        check_positive(num_components=num_components, num_features=num_features)
        return cls(0.5 + 0.1 * torch.randn(num_components, num_features))

    @classmethod
    def from_data(cls, num_components: int, x: Tensor) -> "VampPrior":
        """Start from examples, drawn without replacement.

        Args:
            num_components: U.
            x: training examples ``(N, D)`` with N >= U.

        Returns:
            The prior.

        Raises:
            ValueError: if there are fewer examples than components.
            TypeError: if x is not a tensor of real numbers.
        """
        check_positive(num_components=num_components)
        _check_real(x)
        if len(x) < num_components:
            raise ValueError(
                f"{num_components} pseudo-inputs cannot start from {len(x)} examples; lower "
                "num_components, or start at random"
            )
        return cls(x[torch.randperm(len(x))[:num_components].to(x.device)])

    def forward(self, encode: Encode | None = None) -> DiagNormalMixture:
        """Give the mixture of the diagonal Gaussians that the encoder gives."""
        if encode is None:
            raise TypeError(
                "the VampPrior is made of the model's posteriors; pass q(z_L | x), as in "
                "prior(encode), or let HierarchicalVAE do it"
            )
        components = encode(self.pseudo_inputs)
        if not is_diag_normal(components):
            raise TypeError(
                "the VampPrior mixes diagonal Gaussians q(z_L | u), got "
                f"{type(components).__name__}"
            )
        return mixture(components.mean.new_zeros(len(self.pseudo_inputs)), components)
