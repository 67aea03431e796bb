"""The states of the walk down, and the walk without its likelihood."""

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.gaussians import diag_normal, standard_normal
from hvae_course.hierarchy import MarkovUpdate, SkipUpdate, TopDown, from_prior, hold

SIZES = (4, 3, 2)  # Z_1, Z_2, Z_3


class Conditional(nn.Module):
    """A prior whose mean is the sum of the state, so that the mean shows the state."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, h: Tensor) -> Distribution:
        mean = h.sum(dim=1, keepdim=True).expand(-1, self.size)
        return diag_normal(mean, torch.zeros_like(mean))


class Refuses(nn.Module):
    def forward(self, h: Tensor) -> Distribution:
        raise AssertionError("the walk does not need a likelihood")


@pytest.fixture
def top_down() -> TopDown:
    updates = [SkipUpdate() for _ in SIZES]
    return TopDown(updates, [Conditional(4), Conditional(3)], Refuses()).double()


@pytest.fixture
def prior() -> Distribution:
    return standard_normal(2, like=torch.zeros(1, dtype=torch.float64))


def test_a_skipping_state_holds_all_latents_the_highest_first():
    h, z = torch.randn(5, 2), torch.randn(5, 3)
    assert torch.equal(SkipUpdate()(h, z), torch.cat([h, z], dim=1))
    assert torch.equal(SkipUpdate()(torch.zeros(5, 0), z), z)
    assert torch.equal(MarkovUpdate()(h, z), z)


def test_the_walk_gives_levels_bottom_to_top_and_the_last_state_without_a_likelihood(
    top_down, prior
):
    levels, h = top_down.walk(prior, from_prior, 5)
    z1, z2, z3 = (level.z for level in levels)
    assert [level.z.shape for level in levels] == [(5, size) for size in SIZES]
    assert torch.equal(h, torch.cat([z3, z2, z1], dim=1))
    torch.testing.assert_close(levels[1].p.mean, z3.sum(1, keepdim=True).expand(-1, 3))
    expected = (z3.sum(1) + z2.sum(1))[:, None].expand(-1, 4)
    torch.testing.assert_close(levels[0].p.mean, expected)


def test_a_trace_is_a_walk_and_the_likelihood_of_its_last_state(top_down, prior):
    top_down.likelihood = Conditional(6)
    values = {l: torch.randn(5, size, dtype=torch.float64) for l, size in enumerate(SIZES, 1)}
    trace = top_down(prior, hold(values), 5, num_samples=5)
    levels, h = top_down.walk(prior, hold(values), 5)
    assert trace.num_samples == 5
    assert torch.equal(trace.px.mean, Conditional(6)(h).mean)
    for level, again in zip(trace.levels, levels, strict=True):
        assert level.z is again.z and torch.equal(level.p.mean, again.p.mean)


def test_the_walk_refuses_a_value_of_another_number_of_rows(top_down, prior):
    with pytest.raises(ValueError, match=r"p\(z_3\) has event shape \(2,\) and 5 rows"):
        top_down.walk(prior, hold({3: torch.zeros(4, 2, dtype=torch.float64)}), 5)


class Returns(nn.Module):
    """A conditional prior that returns what a function makes of the distribution."""

    def __init__(self, change) -> None:
        super().__init__()
        self.inner, self.change = Conditional(4), change

    def forward(self, h: Tensor) -> object:
        return self.change(self.inner(h))


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda p: [p, p.mean], "a list of DiagNormal, Tensor"),
        (lambda p: (p, p.mean, p.mean), "a tuple of DiagNormal, Tensor, Tensor"),
        (lambda p: (p.mean, p), "a tuple of Tensor, DiagNormal"),
        (lambda p: (), "a tuple of nothing"),
        (lambda p: p.mean, "Tensor"),
        (lambda p: None, "NoneType"),
    ],
    ids="list triple reversed empty tensor nothing".split(),
)
def test_what_is_no_conditional_prior_is_refused_where_the_walk_reads_it(
    change, got, top_down, prior
):
    top_down.conditionals[0] = Returns(change).double()
    message = f"prior of level 1 returns a distribution, or a tuple .*, got {got}$"
    with pytest.raises(TypeError, match=message):
        top_down.walk(prior, from_prior, 5)
