"""Models whose weights come with the course, each with the recipe that trained them."""

from hvae_course.pretrained.models import PRETRAINED, Pretrained, build_untrained, load, train

__all__ = ["PRETRAINED", "Pretrained", "build_untrained", "load", "train"]
