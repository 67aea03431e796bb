"""Groups of levels that read one state, as it was above the first of them.

The priors of a group see none of its latents, so that under p these are independent given the
latents above; the two latents of a level of biva are such a group. The state that updates change
goes on from level to level, and both walk down together as a `GroupState`.
"""

from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.hierarchy import with_label
from hvae_course.posteriors import PosteriorRule


class GroupState:
    """The state of the walk and the earlier one that a group of levels reads.

    Args:
        now: the state that updates change, ``(B, C, H, W)``.
        start: the state above the first level of the group, which priors and posteriors read.
    """

    def __init__(self, now: Tensor, start: Tensor) -> None:
        self.now, self.start = now, start

    def __add__(self, feature: Tensor) -> "GroupState":
        return GroupState(self.now + feature, self.start)

    def with_label(self, y: Tensor) -> "GroupState":
        """Join both states with one-hot labels ``(B, C)``."""
        return GroupState(with_label(self.now, y), with_label(self.start, y))


class GroupUpdate(nn.Module):
    """An update of the state alone, at whose end a new group of levels may begin.

    Args:
        update: module ``(h, z) -> h``.
        ends: whether the level is the last of its group.
    """

    def __init__(self, update: nn.Module, *, ends: bool) -> None:
        super().__init__()
        self.update, self.ends = update, ends

    def forward(self, h: GroupState | Tensor, z: Tensor) -> GroupState:
        """Change the state; the first state of the walk is a tensor."""
        h = GroupState(h, h) if isinstance(h, Tensor) else h
        now = self.update(h.now, z)
        return GroupState(now, now if self.ends else h.start)


class ReadsStart(nn.Module):
    """A conditional prior, or a network of the likelihood, that reads one part of a group's state.

    Args:
        part: the module.
        name: ``"start"`` or ``"now"``.
    """

    def __init__(self, part: nn.Module, name: str = "start") -> None:
        super().__init__()
        self.part, self.name = part, name

    def forward(self, h: GroupState) -> Any:  # noqa: ANN401
        """Apply the module."""
        return self.part(getattr(h, self.name))


class ReadsStartRule(PosteriorRule):
    """A rule of the posterior that reads the state above its group of levels.

    Args:
        rule: the rule.
    """

    def __init__(self, rule: PosteriorRule) -> None:
        super().__init__()
        self.rule, self.reads_prior = rule, rule.reads_prior

    def forward(self, d: Tensor, h: GroupState | Tensor, p: Distribution | None) -> Distribution:
        """Give ``q(z_l | x, z_>l)``."""
        return self.rule(d, h.start if isinstance(h, GroupState) else h, p)
