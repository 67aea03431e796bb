"""KL balancing: its factors, what has their gradient, and where it ends."""

import math

import pandas as pd
import pytest
import torch
from known_terms import nats, trace_of
from steps import interrupted_after, same, weights

from hvae_course import config
from hvae_course.gaussians import diag_normal
from hvae_course.hierarchy import Level, Trace
from hvae_course.objectives import FreeBits, KLBalancing, WarmUp, Weighted, elbo, make_objective
from hvae_course.objectives.balancing import balance

D = torch.float64
GIVEN = (-10.0, -20.0), (1.0, 3.0), (0.25, 0.75), (-4.0, -6.0)
SIZES = (4.0, 1.0, 2.0)


def given() -> tuple[torch.Tensor, ...]:
    """Reconstruction and the information of three levels, for two examples."""
    return tuple(nats(*values) for values in GIVEN)


def by_hand(means=(2.0, 0.5, 5.0), sizes=SIZES, epsilon=0.01) -> torch.Tensor:
    share = torch.tensor([(m + epsilon) / size for m, size in zip(means, sizes, strict=True)])
    return (share / share.mean()).to(D)


def test_the_factors_are_information_by_size_with_the_mean_one():
    factors = balance(*trace_of(*given()), SIZES)
    torch.testing.assert_close(factors, by_hand())
    torch.testing.assert_close(factors.mean(), torch.tensor(1.0, dtype=D))
    assert not factors.requires_grad
    per_dimension = (factors[0] / factors[1]).item()
    assert per_dimension == pytest.approx((2.01 / 4) / (0.51 / 1))


def test_they_are_those_of_nvae_where_every_term_is_positive():
    """NVAE multiplies by the total KL before it divides by the mean, which changes nothing."""
    information = torch.rand(5, 3, dtype=D)  # five examples, three levels
    alpha = torch.tensor([16.0, 4.0, 1.0], dtype=D)
    k = information.abs().mean(dim=0) + 0.01
    nvae = k / alpha * k.sum()
    nvae = nvae / nvae.mean()
    trace = trace_of(torch.zeros(5, dtype=D), *information.unbind(dim=1))
    torch.testing.assert_close(balance(*trace, alpha.tolist()), nvae)


def test_noise_around_zero_gives_an_idle_level_no_weight():
    """The mean of the magnitudes of one-draw terms would be far from the mean of the terms."""
    torch.manual_seed(0)
    noise = torch.randn(4_000, dtype=D)
    terms = torch.zeros_like(noise), noise, torch.ones_like(noise)
    factors = balance(*trace_of(*terms), (1.0, 1.0))
    most = 5 / math.sqrt(4_000)  # five standard errors
    assert factors[0] / factors[1] < (most + 0.01) / 1.01 < 0.1
    assert noise.abs().mean() > 0.7  # what NVAE's formula would take


def test_the_gradient_of_each_term_is_its_weight_and_no_more():
    objective = KLBalancing(WarmUp(4), sizes=SIZES).for_epoch(2)  # beta = 0.5
    terms = given()
    trace, x = trace_of(*terms)
    value = objective(trace, x)
    pulls = torch.autograd.grad(value.mean(), terms)
    torch.testing.assert_close(pulls[0], torch.full((2,), 0.5, dtype=D))
    for pull, factor in zip(pulls[1:], by_hand(), strict=True):
        torch.testing.assert_close(pull, -0.5 * factor.expand(2) / 2)
    information = torch.tensor(GIVEN[1:], dtype=D)
    expected = torch.tensor(GIVEN[0], dtype=D) - 0.5 * by_hand() @ information
    torch.testing.assert_close(value.detach(), expected)


def test_equal_information_per_dimension_changes_nothing():
    terms = nats(-10.0), nats(1.99), nats(0.99), nats(3.99)
    balanced = KLBalancing(WarmUp(4), sizes=(2.0, 1.0, 4.0)).for_epoch(1)
    torch.testing.assert_close(balanced(*trace_of(*terms)), Weighted(0.25)(*trace_of(*terms)))


def test_the_size_of_a_level_is_its_number_of_latent_dimensions():
    def level(*shape: int) -> Level:
        zeros = torch.zeros(3, *shape)
        p, q = diag_normal(zeros, zeros), diag_normal(zeros + 1, zeros)
        return Level(zeros + 1, q, p)  # log q - log p = 1/2 per dimension

    levels = (level(2, 4, 4), level(3, 2, 2), level(5))
    x = torch.zeros(3, 1)
    trace = Trace(levels, diag_normal(x, x))
    balanced = KLBalancing(WarmUp(4), epsilon=1e-9).for_epoch(1)
    torch.testing.assert_close(balanced(trace, x), Weighted(0.25)(trace, x))
    other = KLBalancing(WarmUp(4), sizes=(1, 1, 1), epsilon=1e-9).for_epoch(1)(trace, x)
    assert not torch.allclose(other, Weighted(0.25)(trace, x))


@pytest.mark.parametrize(
    "warm_up", [WarmUp(3), WarmUp((1, 3, 2), Weighted(2.0)), WarmUp(3, FreeBits(0.4))], ids=str
)
def test_it_ends_with_the_warm_up_and_is_never_validated(warm_up):
    objective = KLBalancing(warm_up, sizes=SIZES)
    assert objective.duration == 3
    for epoch in (3, 4, 100):
        assert objective.for_epoch(epoch) == warm_up.for_epoch(epoch)
    assert torch.equal(objective(*trace_of(*given())), warm_up(*trace_of(*given())))
    during = objective.for_epoch(2)(*trace_of(*given()))
    assert not torch.allclose(during, warm_up.for_epoch(2)(*trace_of(*given())))


def test_after_the_warm_up_it_is_the_elbo():
    trace, x = trace_of(*given())
    torch.testing.assert_close(KLBalancing(WarmUp(3)).for_epoch(3)(trace, x), elbo(trace, x))


def test_floors_are_compared_with_the_information_itself():
    free = KLBalancing(WarmUp(2, FreeBits((3.0, 0.0, 0.0))), sizes=SIZES).for_epoch(1)
    counted = torch.tensor([[3.0, 3.0], [0.25, 0.75], [0.0, 0.0]], dtype=D)  # z_3 is negative
    expected = torch.tensor(GIVEN[0], dtype=D) - 0.5 * by_hand() @ counted
    torch.testing.assert_close(free(*trace_of(*given())), expected)


# In training


def test_the_history_holds_raw_information_and_validates_the_elbo(train, make_model):
    model = make_model(latent_sizes=(4, 3, 2), normalisation="none")
    settings = {"learning_rate": 1e-30, "batch_size": 120, "epochs": 1}
    history = train(model, objective=KLBalancing(WarmUp(4)), **settings)
    information = [history.last("information", level=l) for l in (1, 2, 3)]
    kl = 0.25 * by_hand([abs(i) for i in information], (4, 3, 2)) @ torch.tensor(information).to(D)
    expected = history.last("reconstruction") - kl.item()
    assert history.last("objective") == pytest.approx(expected, abs=1e-3)
    for quantity in ("elbo", "objective"):
        raw = sum(history.last("information", "validation", l) for l in (1, 2, 3))
        expected = history.last("reconstruction", "validation") - raw
        assert history.last(quantity, "validation") == pytest.approx(expected, abs=1e-3)


def test_a_resumed_run_is_the_one_that_was_not_interrupted(train, make_model, tmp_path):
    settings = {"objective": KLBalancing(WarmUp(3)), "epochs": 4}
    history = train(whole := make_model(), **settings)
    settings["checkpoint"] = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train(make_model(), after_epoch=interrupted_after(1), **settings)
    resumed = train(again := make_model(), **settings)
    assert same(weights(whole), weights(again))
    pd.testing.assert_frame_equal(history.frame, resumed.frame, check_exact=True)


def test_it_is_made_from_its_configuration():
    made = make_objective(config.Objective(warm_up=3, free_bits=0.5, kl_balancing=True))
    assert made == KLBalancing(WarmUp(3, FreeBits(0.5)))
    assert make_objective(config.Objective(warm_up=3)) == WarmUp(3)


def test_as_tensors_for_a_compiled_step_it_is_the_same():
    balanced = KLBalancing(WarmUp(4), sizes=SIZES).for_epoch(1)
    as_tensors = balanced.on(torch.device("cpu"))
    assert isinstance(as_tensors.objective.weights, torch.Tensor)
    values = [o(*trace_of(*given())) for o in (balanced, as_tensors)]
    torch.testing.assert_close(*values)


# What is refused


@pytest.mark.parametrize("settings", [{"sizes": (1.0, 0.0)}, {"epsilon": 0.0}], ids=str)
def test_sizes_and_epsilon_are_positive(settings):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{name} must be positive, got"):
        KLBalancing(WarmUp(3), **settings)
    with pytest.raises(ValueError, match=f"{name} must be zero or more at every level, got"):
        KLBalancing(WarmUp(3), **{name: -1.0 if name == "epsilon" else (-1.0, 1.0)})


@pytest.mark.parametrize("wrong", [Weighted(), elbo, 3], ids=["weighted", "elbo", "number"])
def test_without_a_warm_up_there_is_nothing_to_balance(wrong):
    with pytest.raises(TypeError, match=r"acts during a warm-up, such as WarmUp\(20\), got"):
        KLBalancing(wrong)
    with pytest.raises(ValueError, match="kl_balancing acts until .* there is no warm-up; give"):
        config.Objective(kl_balancing=True)


def test_sizes_for_another_number_of_levels_are_refused():
    with pytest.raises(ValueError, match=r"KLBalancing.sizes has 2 values for 3 levels"):
        KLBalancing(WarmUp(3), sizes=(1, 2)).for_epoch(1)(*trace_of(*given()))
