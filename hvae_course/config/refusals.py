"""Which options a recipe refuses."""

from dataclasses import fields
from typing import TYPE_CHECKING

from hvae_course.config.likelihoods import AUTOREGRESSIVE_LIKELIHOODS
from hvae_course.config.networks import Widths
from hvae_course.config.recipes import FLOW_RECIPES

if TYPE_CHECKING:
    from hvae_course.config.model import Model


def check_flows(model: "Model") -> None:
    """Refuse flows where the recipe has none."""
    flows = model.recipe in FLOW_RECIPES and model.networks == "mlp"
    if model.iaf and not (flows or model.recipe == "resnet"):
        raise ValueError(
            "iaf is an option of the recipe resnet, and of bidirectional and flow_ladder with "
            f"perceptrons, got it with {model.recipe} and networks={model.networks!r}"
        )
    if model.flow_options and not (model.recipe == "flow_ladder" or flows and model.iaf):
        raise ValueError(
            "flow_options are those of the recipe flow_ladder, and of bidirectional with "
            f"iaf=True, got them with {model.recipe}; the options of the prior 'flow' are "
            "prior_options"
        )
    if model.make_flow_options().transform != "affine" and model.recipe != "flow_ladder":
        raise ValueError(
            "splines are for priors alone, because a posterior scores its own draws; choose "
            "transform='affine', or the recipe flow_ladder"
        )


def check_widths(model: "Model", widths: Widths, name: str) -> None:
    """Require one sequence of widths for all levels, or exactly one per level."""
    if widths and isinstance(widths[0], tuple) and len(widths) != model.num_levels:
        raise ValueError(
            f"{name} is one sequence of widths, or one for each of {model.num_levels} levels, "
            f"got {len(widths)} sequences"
        )


def check_convolutional(model: "Model") -> None:
    """Refuse options of perceptrons."""
    usual = {entry.name: entry.default for entry in fields(model)}
    for name in ("hidden", "inference_hidden", "dropout", "state"):
        if getattr(model, name) != usual[name]:
            raise ValueError(
                f"{name} is an option of multilayer perceptrons, got it with convolutional "
                "networks; their sizes are in networks_options"
            )
    if model.activation == "glu":
        raise ValueError(
            "the activation 'glu' doubles layers and is not built into convolutional "
            "networks; choose 'gelu' or 'silu'"
        )
    if model.recipe in ("bottom_up", "biva"):
        check_one_feature(model)
    stages = model.make_networks_options().stages
    levels = sum(stage[1] for stage in stages or ())
    if stages and levels != model.num_levels:
        raise ValueError(
            f"the stages have {levels} levels and latent_sizes {model.num_levels}; give one "
            "latent size per level, from the data upward"
        )
    if model.recipe == "biva":
        check_pairs(model)


def check_one_feature(model: "Model") -> None:
    """Refuse to say which feature a level reads where there is one."""
    if model.make_networks_options().shared_features is not None:
        raise ValueError(
            f"{model.recipe} reads one bottom-up feature, so levels have none to share; leave "
            "shared_features out"
        )


def check_pairs(model: "Model") -> None:
    """Require two latents per level below the top."""
    if model.num_levels % 2 == 0:
        raise ValueError(
            "biva has two latents for each level below the top and one at the top, so an odd "
            f"number of latent sizes, got {model.latent_sizes}; give those of the levels in "
            "pairs, such as (16, 16, 8)"
        )
    options = model.make_networks_options()
    numbers = [stage[1] for stage in options.stages or ()]
    if any(number % 2 for number in numbers[:-1]):
        raise ValueError(
            "the two latents of a level of biva have one resolution, so every stage but the "
            f"highest has an even number of them, got {numbers}"
        )
    if options.group != 1:
        raise ValueError("the two latents of a level of biva are a group already; leave group out")


def check_steps(model: "Model") -> None:
    """Refuse what the LSTM cells of draw do not have, and tied steps of different sizes."""
    for name, usual in (
        ("networks", "mlp"),
        ("normalisation", "none"),
        ("generative_normalisation", None),
        ("activation", "tanh"),
        ("dropout", 0.0),
        ("state", "markov"),
        ("conditional", False),
    ):
        if (value := getattr(model, name)) != usual:
            raise ValueError(
                f"draw is a model of x alone, made of plain LSTM cells, got {name}={value!r}; "
                f"leave {name} out"
            )
    if model.likelihood in AUTOREGRESSIVE_LIKELIHOODS:
        raise ValueError(
            "the encoder of draw compares x with the mean of p(x | z), which the likelihood "
            f"{model.likelihood!r} does not have; choose 'bernoulli'"
        )
    for name in ("hidden", "inference_hidden"):
        widths = getattr(model, name)
        if widths is not None and not (len(widths) == 1 and isinstance(widths[0], int)):
            raise ValueError(
                f"each LSTM of draw has one layer of units for all steps, got {name}="
                f"{widths}; give one number, such as (256,)"
            )
    if model.attention == 1:
        raise ValueError("a window has at least 2 x 2 filters, got attention=1; give 2 or more")
    if model.tied and len({*model.latent_sizes}) > 1:
        raise ValueError(
            f"tied steps have latents of one size, got latent_sizes={model.latent_sizes}; give "
            "the same size for every step, or tied=False"
        )


def check_discrete(model: "Model") -> None:
    """Refuse what levels of codes, or of a downscaled image, cannot be."""
    if model.recipe == "downscaled":
        if model.num_levels != 3:
            raise ValueError(
                "downscaled has three levels, the downscaled image between two latents, got "
                f"latent_sizes {model.latent_sizes}; give three, such as (16, 1, 8)"
            )
        return
    if model.prior != "standard":
        raise ValueError(
            f"the priors of vq are over codes, got prior={model.prior!r}; leave it out, and "
            "fit them with hvae_course.training.fit_prior"
        )
    codes = model.make_codes_options()
    if model.codes == "scalars" and set(model.latent_sizes) != {len(codes.values)}:
        raise ValueError(
            f"codes of {len(codes.values)} values are latents of {len(codes.values)} "
            f"dimensions, got latent_sizes {model.latent_sizes}; leave them out for two levels"
        )
