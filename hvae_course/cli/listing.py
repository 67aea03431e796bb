"""Lists of everything that can be chosen, one line each."""

import inspect
import re
from collections.abc import Mapping

from hvae_course.cli.settings import OBJECTIVES, short_name
from hvae_course.data import NAMES
from hvae_course.objectives import FreeBits, WarmUp
from hvae_course.pretrained import PRETRAINED
from hvae_course.recipes import LIKELIHOODS, PRIORS, RECIPES

DATA_SETS = {
    "digits": "8x8 handwritten digits, 17 grey values, from scikit-learn",
    "mnist": "28x28 handwritten digits, binarised dynamically, through torchvision",
    "fashion_mnist": "28x28 pieces of clothing, binarised dynamically, through torchvision",
    "pendulum": "16x16 images of a pendulum, real values, generated",
    "nested_shapes": "16x16 shapes with factors on three levels, 16 grey values, generated",
}
"""One line about each data set.

:meta hide-value:
"""


def _first_line(documented: object) -> str:
    line = (inspect.getdoc(documented) or "").split("\n")[0].rstrip(".")
    return re.sub(r" \(:eq:`[^`]*`\)", "", line)  # equations have their numbers in the book alone


def sections() -> Mapping[str, Mapping[str, str]]:
    """Collect everything that an option of ``hvae train`` can name.

    Returns:
        For each kind, its names with one line about each.
    """
    return {
        "recipes": {short_name(name): _first_line(recipe) for name, recipe in RECIPES.items()},
        "data sets (--data)": {name: DATA_SETS.get(name, "") for name in NAMES},
        "priors (--prior)": {name: _first_line(prior) for name, prior in PRIORS.items()},
        "likelihoods (--likelihood)": {n: _first_line(kind) for n, kind in LIKELIHOODS.items()},
        "objectives (--objective)": {
            **{name: _first_line(objective) for name, objective in OBJECTIVES.items()},
            "--warm-up": _first_line(inspect.getmodule(WarmUp)),
            "--free-bits": _first_line(inspect.getmodule(FreeBits)),
        },
        "trained models": {
            name: f"{short_name(entry.recipe)} on {entry.data}, levels "
            + " ".join(map(str, entry.architecture["latent_sizes"]))
            for name, entry in PRETRAINED.items()
        },
    }


def list_command(*, command: str) -> int:
    """Print everything that can be chosen.

    Args:
        command: not used.

    Returns:
        Exit status.
    """
    width = max(len(name) for entries in sections().values() for name in entries)
    blocks = [
        "\n".join([title, *(f"  {name:<{width}}  {line}" for name, line in entries.items())])
        for title, entries in sections().items()
    ]
    print("\n\n".join(blocks))
    return 0
