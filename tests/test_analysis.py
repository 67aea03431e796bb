"""What one does with a trained model: bounds, layers one at a time, smoothness of paths."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hvae_course import Trace
from hvae_course.analysis import (
    bits_per_dim,
    evaluate,
    infer,
    interpolate,
    latent_sizes,
    reconstruct,
    sample,
    smoothness,
    vary,
)
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.seeding import seed_all

SIZES = (4, 3, 2)  # Z_1, Z_2, Z_3


@pytest.fixture
def model(make_model) -> HierarchicalVAE:
    """Three levels, in training mode, with running statistics that have seen data."""
    model = make_model(latent_sizes=SIZES)
    for _ in range(20):
        model(torch.rand(30, 64))
    return model


@pytest.fixture
def x(tiny_data) -> Tensor:
    return tiny_data.test.batch(slice(0, 5))


# Evaluation


@pytest.mark.parametrize(("max_rows", "chunks"), [(10_000, [7]), (200, [3, 3, 1]), (1, [1] * 7)])
def test_the_bounds_are_those_of_all_draws_at_once(model, tiny_data, max_rows, chunks):
    result = evaluate(model, tiny_data, num_samples=7, batch_size=60, max_rows=max_rows, seed=3)
    x = tiny_data.test.batch(slice(None))
    seed_all(3)
    with torch.no_grad():
        traces = [model.eval()(x, k) for k in chunks]

    def draws(values: list[Tensor]) -> Tensor:
        """Put the chunks together, (N, S)."""
        return torch.cat([v.double().unflatten(0, (len(x), -1)) for v in values], dim=1)

    log_w = draws([trace.log_weight(x) for trace in traces])
    expected = {
        result.log_likelihood: log_w.logsumexp(1) - math.log(7),
        result.elbo: log_w.mean(1),
        result.reconstruction: draws([trace.log_px(x) for trace in traces]).mean(1),
    }
    for l in range(3):  # information[0] is that of z_1
        information = draws([trace.levels[l].information for trace in traces])
        expected[result.information[l]] = information.mean(1)
    assert len(result.information) == 3
    for estimate, values in expected.items():
        assert estimate.mean == pytest.approx(values.mean().item(), rel=1e-10)
        standard_error = values.std().item() / math.sqrt(60)
        assert estimate.standard_error == pytest.approx(standard_error, rel=1e-10)


@pytest.mark.parametrize("batch_size", [7, 60])
def test_chunks_and_batches_do_not_change_the_expectation(model, tiny_data, batch_size):
    small = evaluate(model, tiny_data, num_samples=20, max_rows=50, batch_size=batch_size)
    large = evaluate(model, tiny_data, num_samples=20, seed=1)
    for name in ("elbo", "log_likelihood", "reconstruction"):
        a, b = getattr(small, name), getattr(large, name)
        assert abs(a.mean - b.mean) < 5 * math.hypot(a.standard_error, b.standard_error)


def test_with_one_draw_the_importance_weighted_bound_is_the_elbo(model, tiny_data):
    result = evaluate(model, tiny_data, num_samples=1)
    assert result.log_likelihood == result.elbo


@pytest.mark.parametrize("num_samples", [2, 10])
def test_with_more_draws_the_importance_weighted_bound_is_larger(model, tiny_data, num_samples):
    result = evaluate(model, tiny_data, num_samples=num_samples)
    assert result.log_likelihood.mean > result.elbo.mean


def test_one_example_has_no_standard_error(model, tiny_data):
    one = replace(tiny_data.test, pixels=tiny_data.test.pixels[:1], labels=torch.zeros(1))
    result = evaluate(model, replace(tiny_data, test=one), num_samples=3)
    assert math.isfinite(result.elbo.mean) and math.isnan(result.elbo.standard_error)


def test_an_evaluation_follows_from_its_seed(model, tiny_data):
    first, second, other = (evaluate(model, tiny_data, num_samples=2, seed=s) for s in (1, 1, 2))
    assert first == second
    assert first.elbo != other.elbo


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_an_evaluation_states_all_that_its_numbers_depend_on(make_model, tiny_binary, split):
    model = make_model(data=tiny_binary)
    result = evaluate(model, tiny_binary, split=split, num_samples=4, seed=9)
    size = 120 if split == "train" else 60
    number = sum(p.numel() for p in model.parameters())
    assert str(result) == (
        f"ELBO {result.elbo}, IW-4 {result.log_likelihood} nats per example\n"
        f"digits, binarisation dynamic, split 120/60/60 in file order; {split} split, {size} "
        f"examples\nseed 9; {number:,} parameters; cpu"
    )
    assert str(result.elbo) == f"{result.elbo.mean:.2f} +- {result.elbo.standard_error:.2f}"


def test_the_table_of_an_evaluation_has_a_row_per_quantity(model, tiny_data):
    result = evaluate(model, tiny_data, num_samples=2)
    names = ["ELBO", "log p(x), IW-2", "reconstruction"]
    assert list(result.frame.index) == names + [f"information of z_{l}" for l in (1, 2, 3)]
    assert list(result.frame.columns) == ["nats per example", "standard error"]
    row = result.frame.loc["information of z_1"].tolist()
    assert row == [result.information[0].mean, result.information[0].standard_error]


@pytest.mark.parametrize("name", ["num_samples", "batch_size", "max_rows"])
def test_evaluation_settings_that_are_not_positive_are_refused(model, tiny_data, name):
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
        evaluate(model, tiny_data, **{name: 0})
    for wrong in (2.5, "10", True):
        with pytest.raises(TypeError, match=f"{name} must be a whole number, got {wrong!r}"):
            evaluate(model, tiny_data, **{name: wrong})


def test_evaluation_refuses_an_unknown_split_and_data_outside_the_support(
    make_model, tiny_data, tiny_binary
):
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        evaluate(make_model(), tiny_data, split="dev")
    model = make_model(data=tiny_binary)
    with pytest.raises(ValueError, match="num_values=2"):
        evaluate(model.train(), tiny_data)
    assert model.training  # restored after an error too


def test_bits_per_dim_are_negative_nats_over_dimensions_and_log_two():
    assert bits_per_dim(-100.0, 50) == pytest.approx(2 / math.log(2))


@pytest.mark.parametrize("number", [0, -1])
def test_bits_per_no_dimension_are_refused(number):
    with pytest.raises(ValueError, match=f"num_dimensions must be positive, got {number}"):
        bits_per_dim(-1.0, number)


# Layers

CALLS = {
    "evaluate": lambda model, x, data: evaluate(model, data, num_samples=2),
    "latent_sizes": lambda model, x, data: latent_sizes(model),
    "sample": lambda model, x, data: sample(model, 3),
    "vary": lambda model, x, data: vary(model, torch.zeros(2, 3), level=2),
    "infer": lambda model, x, data: infer(model, x),
    "reconstruct": lambda model, x, data: reconstruct(model, x, from_level=2),
    "interpolate": lambda model, x, data: interpolate(model, x[:2], level=2),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_analysis_evaluates_without_gradients_and_restores_the_mode(
    name, training, model, x, tiny_data
):
    model.train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = CALLS[name](model, x, tiny_data)
    assert all(module.training == training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    if isinstance(result, Trace):
        assert not result.px.mean.requires_grad


@pytest.mark.parametrize("name", ["evaluate", "latent_sizes", "sample", "vary"])
def test_what_has_a_seed_or_no_draw_leaves_the_random_numbers_alone(name, model, x, tiny_data):
    before = torch.get_rng_state()
    CALLS[name](model, x, tiny_data)
    assert torch.equal(torch.get_rng_state(), before)


def test_latent_sizes_are_listed_from_the_data_upward(model):
    assert latent_sizes(model) == [4, 3, 2]


@pytest.mark.parametrize("level", [-1, 0, 4])
def test_a_level_that_is_not_there_is_refused(model, x, level):
    match = rf"between 1 \(next to the data\) and 3, got {level}"
    for call in (
        lambda: reconstruct(model, x, from_level=level),
        lambda: vary(model, torch.zeros(2, 3), level=level),
        lambda: interpolate(model, x[:2], level=level),
    ):
        with pytest.raises(ValueError, match=match):
            call()


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_reconstruction_keeps_its_level_and_those_above(model, x, level):
    torch.manual_seed(1)
    posterior = infer(model, x)
    torch.manual_seed(1)
    trace = reconstruct(model, x, from_level=level)
    for l, (kept, own) in enumerate(zip(trace.levels, posterior.levels, strict=True), start=1):
        assert torch.equal(kept.z, own.z if l >= level else kept.p.mean)
    if level == 1:
        torch.testing.assert_close(trace.px.mean, posterior.px.mean)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_equal_values_of_a_varied_level_give_equal_images(model, level):
    value = torch.randn(1, SIZES[level - 1])
    values = torch.cat([value, value, value + 1])
    first, second, third = vary(model, values, level=level).px.mean
    torch.testing.assert_close(first, second)
    assert (third - first).abs().max() > 1e-3


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_varied_level_changes_nothing_above_it(model, x, level):
    values, above = torch.randn(4, SIZES[level - 1]), infer(model, x)
    for trace in (vary(model, values, level=level), vary(model, values, level=level, above=above)):
        assert torch.equal(trace.levels[level - 1].z, values)
        for upper in trace.levels[level:]:
            assert torch.equal(upper.z, upper.z[:1].expand_as(upper.z))
    for upper, given in zip(trace.levels[level:], above.levels[level:], strict=True):
        assert torch.equal(upper.z[0], given.z[0])


def test_the_common_noise_of_a_variation_follows_from_its_seed(model):
    first, second, other = (
        vary(model, torch.zeros(2, 2), level=3, seed=seed).levels[0].z for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("steps", [2, 5])
def test_an_interpolation_is_a_straight_line_between_posterior_means(model, x, level, steps):
    torch.manual_seed(1)
    posterior = infer(model, x[:2])
    start, end = posterior.levels[level - 1].q.mean
    torch.manual_seed(1)
    trace = interpolate(model, x[:2], level=level, steps=steps)
    share = torch.linspace(0, 1, steps)[:, None]
    torch.testing.assert_close(trace.levels[level - 1].z, (1 - share) * start + share * end)
    for upper, own in zip(trace.levels[level:], posterior.levels[level:], strict=True):
        assert torch.equal(upper.z, own.z[:1].expand(steps, -1))
    for lower in trace.levels[: level - 1]:
        assert torch.equal(lower.z, lower.p.mean)


@pytest.mark.parametrize(("examples", "steps"), [(1, 5), (3, 5), (2, 1)])
def test_an_interpolation_needs_two_examples_and_two_steps(model, x, examples, steps):
    with pytest.raises(ValueError, match=f"at least two steps, got {examples} and {steps}"):
        interpolate(model, x[:examples], level=1, steps=steps)


def test_samples_follow_from_their_seed(model):
    first, second, other = (sample(model, 4, seed=seed).levels[0].z for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


# Paths


@pytest.mark.parametrize("frames", [3, 4, 50])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_equal_steps_along_a_line_are_as_smooth_as_can_be(frames, scale):
    time = torch.arange(frames, dtype=torch.float64)[:, None]
    result = smoothness(scale * time * torch.randn(64, dtype=torch.float64))
    assert result.jump_ratio == pytest.approx(1)
    assert result.second_difference == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_smoothness_of_a_short_path_is_as_by_hand(scale):
    frames = scale * torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 3.0]], dtype=torch.float64)
    result = smoothness(frames)  # steps of length 1 and 3, at a right angle
    assert result.jump_ratio == pytest.approx(3 / 2)
    assert result.second_difference == pytest.approx((1 + 9) / 2**2)


def test_a_path_that_is_too_short_or_does_not_move_is_refused():
    for frames in (0, 1, 2):
        with pytest.raises(ValueError, match=f"at least three frames, got {frames}"):
            smoothness(torch.zeros(frames, 4))
    with pytest.raises(ValueError, match="all frames are equal"):
        smoothness(torch.ones(4, 3))
