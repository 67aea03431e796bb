"""LSTM cells, the networks of DRAW: one module per purpose, for all steps or for each."""

import math
from collections.abc import Callable

from torch import nn

from hvae_course.config import Model
from hvae_course.data import DataSpec
from hvae_course.draw import ConstantPrior, DrawStart, DrawUpdate, ReadCanvas
from hvae_course.gaussians import GaussianHead
from hvae_course.hierarchy import TopDown
from hvae_course.likelihoods import Likelihood
from hvae_course.posteriors.recurrent import ReadAll, RecurrentStep
from hvae_course.priors import StandardNormal
from hvae_course.recipes.networks import MLPs
from hvae_course.windows import ReadWindow, WriteWindow


class LSTMs(MLPs):
    """Cells for the steps of encoder and decoder, which share one canvas.

    Args:
        model: sizes and kinds.
        spec: shape and values of the data.

    Raises:
        ValueError: if x is no vector of plain numbers, or a window is to move over something
            other than an image.
    """

    def __init__(self, model: Model, spec: DataSpec) -> None:
        super().__init__(model, spec)
        if self.reader() is not None:
            raise ValueError(
                "the encoder of draw compares x with its mean, and rows with counts, categories "
                "or missing values have no such difference; choose another recipe"
            )
        self.canvas_size = 0
        self._likelihood = super().likelihood()  # asks the decoder for a canvas
        (self.units,), (self.encoder_units,) = model.hidden, model.inference_hidden or model.hidden
        if model.attention is not None:
            self._check_image()

    def per_step(self, make: Callable[[int], nn.Module]) -> list[nn.Module]:
        """One module per level, bottom to top; the same one each time if the steps are tied."""
        if self.model.tied:
            return [make(0)] * self.model.num_levels
        return [make(l) for l in self.levels]

    def step(self, l: int) -> RecurrentStep:
        """A step of the encoder, to ``q(z_l | x, z_>l)``."""
        if self.model.attention is None:
            read, num_read = ReadAll(), 2 * self.spec.num_features
        else:
            read = ReadWindow(self.units, self.image, self.model.attention)
            num_read = 2 * self.model.attention**2
        return RecurrentStep(
            read,
            nn.LSTMCell(num_read + self.units, self.encoder_units),
            GaussianHead(self.encoder_units, self.model.latent_sizes[l]),
            size=self.encoder_units,
        )

    def update(self, l: int) -> nn.Module:  # noqa: D102
        if self.model.attention is None:
            write: nn.Module = nn.Linear(self.units, self.canvas_size)
        else:
            write = WriteWindow(self.units, self.image, self.model.attention)
        return DrawUpdate(nn.LSTMCell(self.model.latent_sizes[l], self.units), write)

    def prior(self, l: int) -> nn.Module:  # noqa: D102
        return ConstantPrior(StandardNormal(*self.latent_shape(l)))

    def decoder(self, num_outputs: int) -> nn.Module:  # noqa: D102
        self.canvas_size = num_outputs
        return ReadCanvas()

    def likelihood(self) -> Likelihood:
        """The likelihood, one module for the decoder and for the encoder that compares."""
        return self._likelihood

    def initial(self) -> nn.Module:  # noqa: D102
        return DrawStart(self.units, self.canvas_size)

    def top_down(self) -> TopDown:  # noqa: D102
        return TopDown(
            updates=self.per_step(self.update),
            conditionals=[self.prior(l) for l in self.levels[:-1]],
            likelihood=self.likelihood(),
            initial=self.initial(),
        )

    @property
    def image(self) -> tuple[int, int]:
        """Height and width."""
        return self.spec.shape[-2:]

    def _check_image(self) -> None:
        shape = self.spec.shape
        if len(shape) < 2 or not math.prod(self.image) == self.spec.num_features:
            raise ValueError(
                f"a window moves over a grey image (H, W), got data of the shape {shape}; leave "
                "attention out, or give the data their shape"
            )
        if self.canvas_size != self.spec.num_features:
            raise ValueError(
                f"a window writes one number per pixel, and the likelihood has "
                f"{self.canvas_size // self.spec.num_features}; leave attention out, or choose "
                "'bernoulli' for binary pixels, 'isotropic_gaussian' for real ones"
            )
