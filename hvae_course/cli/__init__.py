"""The command line: train, evaluate, sample and diagnose a model, and list all choices.

``hvae train ladder --data mnist --levels 32 16 8`` trains a model and writes a folder,
``hvae evaluate runs/ladder-mnist-32_16_8-0`` reads it. Without the installed script, use
``python -m hvae_course train ...``. Every option is a field of a settings class, with its default.
"""

from hvae_course.cli.program import main

__all__ = ["main"]
