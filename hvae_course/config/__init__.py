"""Everything that can be chosen about an experiment: each option, its default, check and meaning.

Recipes, `hvae_course.training.loop.fit`, checkpoints, run folders, benchmarks and the command line
read these classes, and none of them repeats a default. A wrong value is refused where the object
is made. This package imports neither PyTorch nor anything else of the course.

>>> Training(epochs=60).learning_rate
0.001
>>> Training(learning_rate=-1.0)
Traceback (most recent call last):
ValueError: learning_rate must be positive, got -1.0
"""

from hvae_course.config.codes import CODES, Codebook, CodesName, Scalars
from hvae_course.config.data import (
    DATA_SETS,
    FILE_ENDING,
    Binarisation,
    Data,
    DataInfo,
    DataName,
    data_info,
)
from hvae_course.config.experiment import Experiment
from hvae_course.config.flows import Flow
from hvae_course.config.likelihoods import (
    AUTOREGRESSIVE_LIKELIHOODS,
    BINARY_LIKELIHOODS,
    COUNT_LIKELIHOODS,
    GREY_LIKELIHOODS,
    LIKELIHOODS,
    Blocks,
    BoundedDispersion,
    BoundedRate,
    BoundedScale,
    Components,
    Fixed,
    LikelihoodName,
    PixelConvolutions,
    Scale,
    Window,
    block_options,
)
from hvae_course.config.model import Model, State
from hvae_course.config.networks import (
    NETWORKS,
    Activation,
    Convolutional,
    NetworksName,
    Normalisation,
    Perceptrons,
    Widths,
)
from hvae_course.config.options import (
    Options,
    cut,
    differences,
    make_options,
    named_options,
    per_level,
    plain,
    take,
)
from hvae_course.config.priors import PRIORS, VHP, Mixture, Normal, PriorName, Standard, Vamp
from hvae_course.config.recipes import (
    DEEP_RECIPES,
    FLOW_RECIPES,
    PLAIN_RECIPES,
    VECTOR_RECIPES,
    Recipe,
)
from hvae_course.config.training import (
    IWAE_OF_ONE,
    Decay,
    Device,
    Machine,
    Objective,
    ObjectiveName,
    Optimiser,
    Precision,
    Training,
)

__all__ = [
    "AUTOREGRESSIVE_LIKELIHOODS",
    "Activation",
    "BINARY_LIKELIHOODS",
    "Binarisation",
    "Blocks",
    "BoundedDispersion",
    "BoundedRate",
    "BoundedScale",
    "CODES",
    "COUNT_LIKELIHOODS",
    "Codebook",
    "CodesName",
    "Components",
    "Convolutional",
    "DATA_SETS",
    "DEEP_RECIPES",
    "Data",
    "DataInfo",
    "DataName",
    "Decay",
    "Device",
    "Experiment",
    "FILE_ENDING",
    "FLOW_RECIPES",
    "Fixed",
    "Flow",
    "GREY_LIKELIHOODS",
    "IWAE_OF_ONE",
    "LIKELIHOODS",
    "LikelihoodName",
    "Machine",
    "Mixture",
    "Model",
    "NETWORKS",
    "NetworksName",
    "Normal",
    "Normalisation",
    "Objective",
    "ObjectiveName",
    "Optimiser",
    "Options",
    "PLAIN_RECIPES",
    "PRIORS",
    "Perceptrons",
    "PixelConvolutions",
    "Precision",
    "PriorName",
    "Recipe",
    "Scalars",
    "Scale",
    "Standard",
    "State",
    "Training",
    "VECTOR_RECIPES",
    "VHP",
    "Vamp",
    "Widths",
    "Window",
    "block_options",
    "cut",
    "data_info",
    "differences",
    "make_options",
    "named_options",
    "per_level",
    "plain",
    "take",
]
