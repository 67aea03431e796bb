"""How the latents are inferred, and by which networks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hvae_course.config.codes import CODES, CodesName
from hvae_course.config.flows import Flow
from hvae_course.config.likelihoods import LIKELIHOODS, LikelihoodName
from hvae_course.config.networks import NETWORKS, Activation, NetworksName, Normalisation, Widths
from hvae_course.config.options import Options, make_options
from hvae_course.config.priors import PRIORS, PriorName
from hvae_course.config.recipes import (
    DEEP_RECIPES,
    FLOW_RECIPES,
    PLAIN_RECIPES,
    VECTOR_RECIPES,
    Recipe,
)
from hvae_course.config.refusals import (
    check_convolutional,
    check_discrete,
    check_flows,
    check_steps,
    check_widths,
)

State = Literal["markov", "skip"]


class _UsualSizes(tuple):
    """Latent sizes that follow from the recipe, because none were given."""


@dataclass(frozen=True, kw_only=True)
class Model(Options):
    """How the latents are inferred, and by which networks."""

    recipe: Recipe = "bottom_up"
    """How the latents are inferred; the name of the function in recipes will do as well."""
    latent_sizes: tuple[int, ...] = _UsualSizes((16, 8))
    """Latent dimensions Z_1, ..., Z_L, bottom to top; with convolutional networks the channels of
    each latent map, and with vq the dimensions of each code. Those of biva are an odd number, two
    for each level below the top, by default (16, 16, 8); those of draw are one per step, by
    default eight times 16. Those of downscaled are three, of which the second is the number of
    colours, by default (16, 1, 8)."""
    networks: NetworksName | None = None
    """What the networks are made of; None for convolutional with the recipes that need it, mlp
    otherwise."""
    networks_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of convolutional networks, such as channels=64."""
    hidden: Widths = (256,)
    """Widths of the hidden layers of every network, or one sequence per level, bottom to top.
    Those of level l apply to its posterior and to the generative network that reads z_l. With draw
    one number, the units of an LSTM."""
    inference_hidden: Widths | None = None
    """Widths in the inference networks; None for those of the generative networks."""
    normalisation: Normalisation | None = None
    """Normalisation in every network; None for none with vdvae, biva, resnet, draw, vq and
    downscaled, layer with bidirectional and flow_ladder, batch otherwise."""
    generative_normalisation: Normalisation | None = None
    """Normalisation in the generative networks; None for the same as in the others."""
    activation: Activation | None = None
    """Activation function; None for gelu with bidirectional, flow_ladder, vdvae, biva, resnet,
    vq and downscaled, tanh with draw, silu otherwise."""
    dropout: float = 0.0
    """Probability of dropping a hidden unit in training."""
    state: State = "markov"
    """What a generative network sees, z_l alone (markov), or all latents above it too (skip)."""
    likelihood: LikelihoodName | None = None
    """Likelihood p(x | z); None for Bernoulli on binary pixels, categorical up to 32 grey values,
    discretised logistic above, negative binomial for counts, isotropic Gaussian for real
    values."""
    likelihood_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the likelihood, such as std=0.1 for the isotropic Gaussian; those of mixed are
    blocks=[{"columns": [0, 1], "likelihood": "gaussian"}, ...], see
    `hvae_course.config.likelihoods.Blocks`."""
    prior: PriorName | None = None
    """Prior over the top level; None for normal with vdvae and resnet, standard otherwise, which
    with vq stands for the uniform prior over codes."""
    prior_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the prior, such as num_components=500."""
    reads_state: bool = True
    """Whether the delta of a level depends on the levels above, or on x alone (delta only)."""
    merge_top: bool = False
    """Whether the top level is merged with N(0, I) as well (ladder only)."""
    iaf: bool = False
    """Whether an inverse autoregressive flow follows every level's posterior (resnet, and
    bidirectional and flow_ladder with perceptrons)."""
    flow_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the flows of bidirectional and flow_ladder, such as num_steps=1, see
    `hvae_course.config.flows.Flow`."""
    tied: bool = True
    """Whether all steps share their weights (draw only)."""
    attention: int | None = None
    """N, for windows of N x N filters through which each step reads and writes an image; None for
    the whole image (draw only)."""
    codes: CodesName = "codebook"
    """What the codes of a level are (vq only)."""
    codes_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the codes, such as num_codes=512 (vq only)."""
    conditional: bool = False
    """Whether the model is of x given its label."""
    positive = ("latent_sizes", "hidden", "inference_hidden", "attention")
    shares = ("dropout",)

    def __post_init__(self) -> None:
        if isinstance(self.recipe, str):
            name = str.__str__(self.recipe).removesuffix("_vae")  # also of a constant of one's own
            object.__setattr__(self, "recipe", name)
        usual = isinstance(self.latent_sizes, _UsualSizes)
        super().__post_init__()
        if usual:
            known = {"biva": (16, 16, 8), "draw": (16,) * 8, "downscaled": (16, 1, 8)}
            sizes = known.get(self.recipe, (16, 8))
            if self.recipe == "vq":
                scalars = self.codes == "scalars"
                sizes = (len(self.make_codes_options().values) if scalars else 16,) * 2
            object.__setattr__(self, "latent_sizes", _UsualSizes(sizes))
        bidirectional, plain_maps = self.recipe in FLOW_RECIPES, self.recipe in PLAIN_RECIPES
        deep, draws = self.recipe in DEEP_RECIPES, self.recipe == "draw"
        bare = plain_maps or draws
        self._choose_usual(
            normalisation="none" if bare else "layer" if bidirectional else "batch",
            activation="tanh" if draws else "gelu" if bidirectional or plain_maps else "silu",
            prior="normal" if self.recipe in ("vdvae", "resnet") else "standard",
            networks="convolutional" if deep else "mlp",
        )
        if deep and self.networks == "mlp":
            raise ValueError(
                f"the recipe {self.recipe} is one of convolutional networks, got networks='mlp'; "
                "leave networks out"
            )
        if self.recipe in VECTOR_RECIPES and self.networks == "convolutional":
            raise ValueError(
                f"the recipe {self.recipe} is one of multilayer perceptrons, because its flows "
                "are over vectors, got networks='convolutional'; leave networks out"
            )
        self.make_networks_options()
        if self.networks == "convolutional":
            check_convolutional(self)
        if draws:
            check_steps(self)
        if not self.latent_sizes:
            raise ValueError("latent_sizes needs one size per level, got none; give (16,) for one")
        for name in ("hidden", "inference_hidden"):
            check_widths(self, getattr(self, name) or (), name)
        for name, recipe, usual in (
            ("reads_state", "delta", True),
            ("merge_top", "ladder", False),
            ("tied", "draw", True),
            ("attention", "draw", None),
            ("codes", "vq", "codebook"),
            ("codes_options", "vq", {}),
        ):
            if getattr(self, name) != usual and self.recipe != recipe:
                raise ValueError(
                    f"{name} is an option of the recipe {recipe}, got it with {self.recipe}"
                )
        check_flows(self)
        if self.prior == "vamp" and self.conditional:
            raise ValueError(
                "the pseudo-inputs of the prior 'vamp' have no labels, so a conditional model "
                "cannot read them; choose 'standard' or 'normal', or 'mixture' or 'vhp' with "
                "perceptrons"
            )
        if self.prior == "vamp" and self.normalisation == "batch":
            raise ValueError(
                "with batch normalisation q(z_L | u) depends on the other pseudo-inputs; choose "
                "normalisation='layer' or 'none' for the prior 'vamp'"
            )
        if self.prior == "vamp" and self.iaf:
            raise ValueError(
                "the prior 'vamp' mixes diagonal Gaussians q(z_L | u), and with iaf=True the "
                "posterior of the top level is a flow; leave iaf out, or choose 'standard' or "
                "'normal'"
            )
        if self.recipe in ("vq", "downscaled"):
            check_discrete(self)
        self.make_prior_options()
        if self.likelihood is not None:
            self.make_likelihood_options(self.likelihood)

    @property
    def num_levels(self) -> int:
        """L."""
        return len(self.latent_sizes)

    def make_networks_options(self) -> Any:  # noqa: ANN401
        """Options of the networks, with defaults.

        Returns:
            An object of the class in `hvae_course.config.networks.NETWORKS`.
        """
        return make_options(NETWORKS, self.networks, self.networks_options, of="networks")

    def widths(self, l: int, *, generative: bool) -> tuple[int, ...]:
        """Widths of the hidden layers of one network.

        Args:
            l: level, counted from 0 next to the data.
            generative: True for the generative model, False for inference.

        Returns:
            The widths, from input to output.
        """
        own = generative or self.inference_hidden is None
        widths = self.hidden if own else self.inference_hidden
        return widths[l] if widths and isinstance(widths[0], tuple) else widths

    def make_flow_options(self) -> Any:  # noqa: ANN401
        """Options of the flows of the levels, with defaults.

        Returns:
            A `hvae_course.config.flows.Flow` object.
        """
        return make_options({self.recipe: Flow}, self.recipe, self.flow_options, of="flow")

    def make_codes_options(self) -> Any:  # noqa: ANN401
        """Options of the codes, with defaults.

        Returns:
            An object of the class in `hvae_course.config.codes.CODES`.
        """
        return make_options(CODES, self.codes, self.codes_options, of="codes")

    def make_prior_options(self) -> Any:  # noqa: ANN401
        """Options of the prior, with defaults.

        Returns:
            An object of the class in `hvae_course.config.priors.PRIORS`.
        """
        return make_options(PRIORS, self.prior, self.prior_options, of="prior")

    def make_likelihood_options(self, name: str) -> Any:  # noqa: ANN401
        """Options of the likelihood, with defaults.

        Args:
            name: a key of `hvae_course.config.likelihoods.LIKELIHOODS`, for a likelihood that the
                data determine.

        Returns:
            An object of the class in `hvae_course.config.likelihoods.LIKELIHOODS`.
        """
        return make_options(LIKELIHOODS, name, self.likelihood_options, of="likelihood")
