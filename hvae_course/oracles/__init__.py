"""Hierarchies whose log p(x) is known exactly, the yardstick of every test."""

from hvae_course.oracles.chain import LinearGaussian
from hvae_course.oracles.grid import Isometry, LinearGaussianGrid, isometric_kernel
from hvae_course.oracles.layers import LinearGaussianLayer, LinearGaussianPair
from hvae_course.oracles.one_factor import OneFactor
from hvae_course.oracles.one_vector import OneVector, dense_normal, linear_maps
from hvae_course.oracles.shared_bit import SharedBit
from hvae_course.oracles.shared_cause import Optimum, SharedCause, optimise_link
from hvae_course.oracles.shared_noise import SharedNoise
from hvae_course.oracles.two_level import TwoLevelTerms, two_level_terms

__all__ = [
    "Isometry",
    "LinearGaussian",
    "LinearGaussianGrid",
    "LinearGaussianLayer",
    "LinearGaussianPair",
    "OneFactor",
    "OneVector",
    "Optimum",
    "SharedBit",
    "SharedCause",
    "SharedNoise",
    "TwoLevelTerms",
    "dense_normal",
    "isometric_kernel",
    "linear_maps",
    "optimise_link",
    "two_level_terms",
]
