"""The hierarchical VAE: one assembly of four parts, whatever the model is called."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.hierarchy.bottom_up import BottomUp
from hvae_course.hierarchy.choices import from_prior
from hvae_course.hierarchy.states import with_label
from hvae_course.hierarchy.top_down import TopDown
from hvae_course.hierarchy.trace import Choose, Trace


class HierarchicalVAE(nn.Module):
    r"""A variational autoencoder with any number of latent levels.

    The posterior decides which model this is: bottom-up inference, a ladder and the others share
    the rest. `hvae_course.recipes` assembles the named models.

    A model with ``num_classes`` is *conditional*: it is a model of x given its label y, and every
    part but the prior over the top level reads y.

    .. math:: p(x, z \mid y) = p(z_L) \prod_{l<L} p(z_l \mid z_{>l}, y)\, p(x \mid z, y), \qquad
              q(z \mid x, y)

    Under the prior :math:`z_L` is independent of y, so it can hold only what varies within every
    class, such as the style of writing (Kingma et al. 2014, model M2, arXiv:1406.5298).

    Args:
        prior: module that returns p(z_L) with an empty batch shape; it is given q(z_L | x) as a
            function of x, for priors that are made of it.
        bottom_up: deterministic features of the data.
        posterior: module from the features to a choice for the top-down path.
        top_down: the generative network.
        config: what a recipe needs to build this model again; saved with every checkpoint.
        num_features: D, to which data are held; None if they need not be rows ``(B, D)``.
        num_classes: C, the number of labels of a conditional model; None for a model of x alone.

    Raises:
        ValueError: if posterior and top-down path differ in their number of levels, there is no
            class, or the posterior reads a label that the model does not have.
    """

    def __init__(
        self,
        prior: nn.Module,
        bottom_up: BottomUp,
        *,
        posterior: nn.Module,
        top_down: TopDown,
        config: Mapping[str, Any] | None = None,
        num_features: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if posterior.num_levels != top_down.num_levels:
            raise ValueError(
                f"the posterior has {posterior.num_levels} levels and the top-down path has "
                f"{top_down.num_levels}; give each latent one posterior and one prior"
            )
        if num_classes is not None and num_classes < 1:
            raise ValueError(
                f"a conditional model needs at least one class, got num_classes={num_classes}; "
                "give None for a model without labels"
            )
        if num_classes is None and posterior.reads_label:
            raise ValueError(
                f"the posterior {type(posterior).__name__} reads a label and the model has none; "
                "give num_classes, or a posterior with reads_label=False"
            )
        self.prior = prior
        self.bottom_up = bottom_up
        self.posterior = posterior
        self.top_down = top_down
        self.config = dict(config or {})
        self.num_features, self.num_classes = num_features, num_classes

    @property
    def num_levels(self) -> int:
        """L, the number of latent levels."""
        return self.top_down.num_levels

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.top_down.no_state.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights, which data must have."""
        return next((p.dtype for p in self.parameters()), self.top_down.no_state.dtype)

    def forward(
        self,
        x: Tensor,
        num_samples: int = 1,
        *,
        features: Sequence[Tensor] | None = None,
        y: Tensor | None = None,
    ) -> Trace:
        """Infer the latents of x and walk down with them.

        Args:
            x: data ``(B, D)``.
            num_samples: K, draws of the latents per example.
            features: ``features(x, y)`` if it has been computed already, as in an evaluation that
                draws many times for the same x.
            y: labels ``(B,)``, int64 from 0 to C - 1, of a conditional model; None otherwise.

        Returns:
            A trace of ``B K`` rows; the draws of one example lie next to each other.

        Raises:
            TypeError: if x is not a tensor of the model's type, or K is not a whole number.
            ValueError: if x is not a batch of vectors on the model's device, K is not positive, or
                labels are missing, wrong, or not wanted.
        """
        self._check(x, num_samples)
        label = self.one_hot(y, len(x))
        features = self._features(x, label) if features is None else features
        if num_samples > 1:  # else it would copy
            features = [d.repeat_interleave(num_samples, dim=0) for d in features]
            label = None if label is None else label.repeat_interleave(num_samples, dim=0)
        choose = self.posterior(features)  # Choose: (l, h, p_l) -> (q_l, z_l)
        n = len(x) * num_samples
        return self.top_down(self.top_prior(), choose, n, label, num_samples=num_samples)

    def features(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute what the posterior reads of x, and of y in a conditional model.

        Args:
            x: data ``(B, D)``.
            y: labels ``(B,)`` of a conditional model; None otherwise.

        Returns:
            ``(d_1, d_2, ...)``; for a posterior that reads the label, also y, one-hot ``(B, C)``.
        """
        self._check(x)
        return self._features(x, self.one_hot(y, len(x)))

    def one_hot(self, y: Tensor | None, n: int) -> Tensor | None:
        """Check labels and write each as a vector, as the parts of a conditional model read it.

        Args:
            y: labels ``(n,)``, int64 from 0 to C - 1; None for a model of x alone.
            n: number of rows.

        Returns:
            ``(n, C)``, 1 at the label and 0 elsewhere; None for a model of x alone. Where a check
            of the range would wait for the device, a label outside it gives a row of NaN.

        Raises:
            ValueError: if labels are missing, wrong, or not wanted.
        """
        if self.num_classes is None:
            if y is not None:
                raise ValueError(
                    "this model is of x alone and takes no labels, got y; leave it out, or build "
                    "a model of x given its label with conditional=True"
                )
            return None
        wanted = f"int64 labels from 0 to {self.num_classes - 1}, one for each of {n} rows"
        if y is None:
            raise ValueError(
                f"this model is of x given its label, and got no labels; pass y=, {wanted}, such "
                "as split.labels"
            )
        if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.shape != (n,):
            tensor = isinstance(y, Tensor)
            given = f"the shape {tuple(y.shape)} and {y.dtype}" if tensor else type(y).__name__
            vectors = tensor and y.shape == (n, self.num_classes)
            raise ValueError(
                f"y must be a tensor of {wanted}, got {given}; "
                + ("use y.argmax(dim=1)" if vectors else "use torch.as_tensor(y).long()")
            )
        if y.device != self.device:
            raise ValueError(
                f"y is on {y.device} and the model on {self.device}; move it with "
                "y.to(model.device)"
            )
        if y.device.type == "cpu" and n > 0 and not torch.compiler.is_compiling():
            low, high = y.min().item(), y.max().item()
            if low < 0 or high >= self.num_classes:
                raise ValueError(f"y must be {wanted}, got labels from {low} to {high}")
        classes = torch.arange(self.num_classes, device=y.device)
        outside = (y < 0) | (y >= self.num_classes)
        hot = (y[:, None] == classes).to(self.dtype)
        return hot.masked_fill(outside[:, None], math.nan)

    def encode_top(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        """Infer the top level alone.

        Args:
            x: data ``(B, D)``.
            y: labels ``(B,)`` of a conditional model; None otherwise.

        Returns:
            q(z_L | x), or q(z_L | x, y), batch shape ``(B,)``.

        Raises:
            TypeError: if the posterior has no such distribution in closed form.
        """
        h = with_label(self.top_down.initial_state(len(x)), self.one_hot(y, len(x)))
        return self.posterior.top(self.features(x, y), h)

    def top_prior(self) -> Distribution:
        """Give the prior over the top level.

        Returns:
            p(z_L), with an empty batch shape, which does not depend on a label.
        """
        return self.prior(self.encode_top)

    @torch.no_grad()
    def generate(self, n: int, choose: Choose = from_prior, y: Tensor | None = None) -> Trace:
        """Walk down without data: ancestral samples, or whatever ``choose`` holds fixed.

        The model stays in its mode: in training mode dropout is active, and batch normalisation
        takes its statistics from the samples and keeps them. `hvae_course.analysis.layers.sample`
        switches to evaluation mode first.

        Args:
            n: number of rows.
            choose: how each latent is picked; see `hvae_course.hierarchy.choices`.
            y: labels ``(n,)`` of a conditional model; None otherwise.

        Returns:
            A trace without gradients; ``trace.px.sample()`` gives data.
        """
        return self.top_down(self.top_prior(), choose, n, self.one_hot(y, n))

    def _features(self, x: Tensor, label: Tensor | None) -> tuple[Tensor, ...]:
        features = self.bottom_up(x) if label is None else self.bottom_up(x, label)
        return (*features, label) if self.posterior.reads_label else features

    def _check(self, x: Tensor, num_samples: int = 1) -> None:
        """Check what does not wait for the device."""
        if not isinstance(x, Tensor):
            raise TypeError(
                f"x must be a tensor (B, D), got {type(x).__name__}; convert an array with "
                "torch.as_tensor, or take a batch of a data set with split.batch(slice(0, 100))"
            )
        if not isinstance(num_samples, Integral):
            raise TypeError(
                f"num_samples must be a whole number, got {type(num_samples).__name__}; labels "
                "go by name, model(x, y=labels)"
            )
        if x.dim() < 2 or len(x) == 0 or num_samples < 1:
            raise ValueError(
                f"expected a batch (B, D) with B >= 1 and num_samples >= 1, got x of shape "
                f"{tuple(x.shape)} and num_samples={num_samples}; add a batch axis with x[None]"
            )
        size = self.num_features
        if size is not None and x.shape[1:] != (size,):
            hint = "give the data that it was built for"
            if math.prod(x.shape[1:]) == size:
                hint = "use x.flatten(1)"
            elif x.numel() == size:
                hint = "use x.reshape(1, -1) for one example"
            raise ValueError(
                f"this model takes batches of shape (B, {size}), got x of shape "
                f"{tuple(x.shape)}; {hint}"
            )
        whole, has_weights = not x.is_floating_point(), next(self.parameters(), None) is not None
        if whole or (has_weights and x.dtype != self.dtype):
            scaled = ", and divide grey values by the largest, as split.batch does"
            raise TypeError(
                f"x is {x.dtype} and the model {self.dtype}; convert it with x.to(model.dtype)"
                + (scaled if whole else "")
            )
        if x.device != self.device:
            raise ValueError(
                f"x is on {x.device} and the model on {self.device}; move it with "
                "x.to(model.device)"
            )


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; on exit every part has the mode it had before.

    Args:
        model: the model.

    Yields:
        None: nothing.
    """
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode
