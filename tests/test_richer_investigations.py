"""What the investigations of depth and layers measure, for levels richer than Gaussians."""

import math

import pytest
import torch

from hvae_course import analysis, evaluate, recipes
from hvae_course.hierarchy import centre_of, from_prior

MODELS = {
    "vq_vae": {"codes_options": {"num_codes": 8}},
    "rounded codes": {"codes": "scalars", "codes_options": {"values": (3, 3)}},
    "codes before": {"codes_options": {"num_codes": 8, "prior_hidden": (8,)}},
    "draw": {"latent_sizes": (3, 3, 3), "tied": True},
    "flow_ladder": {"prior": "flow"},
    "flow posterior": {"iaf": True},
    "downscaled_vae": {},
}
RECIPE = {"rounded codes": "vq_vae", "codes before": "vq_vae", "flow posterior": "flow_ladder"}
DISCRETE = {
    "vq_vae": (1, 2),
    "rounded codes": (1, 2),
    "codes before": (1, 2),
    "downscaled_vae": (2,),
}
"""Levels that are discrete, of the models that have some."""


@pytest.fixture(params=MODELS)
def kind(request):
    return request.param


@pytest.fixture
def model(kind, make_model):
    settings = {"latent_sizes": (2, 2)} if kind == "rounded codes" else {}
    return make_model(RECIPE.get(kind, kind), **settings | MODELS[kind])


def test_depth_is_measured_by_bounds_information_and_units(kind, model, tiny_data):
    found = evaluate(model, tiny_data, split="validation", num_samples=3)
    levels = analysis.information_by_level(model, found)
    shapes = analysis.latent_shapes(model)
    assert levels["units"].tolist() == [math.prod(shape) for shape in shapes]
    total = sum(level.mean for level in found.information)
    assert levels["information"].sum() == pytest.approx(total)
    assert analysis.information_by_resolution(levels)["information"].sum() == pytest.approx(total)
    assert found.elbo.mean == pytest.approx(found.reconstruction.mean - total, abs=1e-3)
    table = analysis.diagnose(model, tiny_data, max_examples=20, num_samples=3)
    assert len(table) == model.num_levels
    if kind not in DISCRETE:
        assert analysis.latent_sizes(model) == [size for (size,) in shapes]
    else:
        with pytest.raises(ValueError, match="use latent_shapes"):
            analysis.latent_sizes(model)


def test_what_the_upper_levels_fix_and_explain_is_measured(model, tiny_data):
    x = tiny_data.test.batch(slice(0, 6))
    assert len(analysis.progressive(model, tiny_data)) == model.num_levels + 1
    assert analysis.ood_score(model, x, k=0).abs().max() == 0
    assert analysis.bound_above(model, x, k=1).isfinite().all()
    assert 0 <= analysis.linear_probe(model, tiny_data).accuracy <= 1
    for level in range(1, model.num_levels + 1):
        torch.manual_seed(0)
        shown = analysis.reconstruct(model, x, from_level=level, below=from_prior)
        assert shown.px.mean.isfinite().all() and shown.px.mean.shape == x.shape
    assert analysis.sample(model, 3).px.mean.shape == (3, x.shape[1])


def test_every_level_has_a_code_to_probe(model, tiny_data):
    levels = analysis.infer(model, tiny_data.test.batch(slice(0, 6))).levels
    shapes = [tuple(centre_of(level.q).shape[1:]) for level in levels]
    assert shapes == analysis.latent_shapes(model)


def test_the_lowest_level_is_varied_with_those_above_held(model, tiny_data):
    trace = analysis.infer(model, tiny_data.test.batch(slice(0, 6)))
    varied = analysis.vary(model, trace.levels[0].z, level=1, above=trace)
    torch.testing.assert_close(varied.levels[0].z, trace.levels[0].z)
    for found, held in zip(varied.levels[1:], trace.levels[1:], strict=True):
        torch.testing.assert_close(found.z, held.z[:1].expand_as(found.z))


def test_a_line_is_drawn_in_continuous_levels_and_refused_in_discrete_ones(kind, model, tiny_data):
    x = tiny_data.test.batch(slice(0, 2))
    for level in range(1, model.num_levels + 1):
        if level in DISCRETE.get(kind, ()):
            message = rf"z_{level} is discrete, and a straight line .* leaves them"
            with pytest.raises(TypeError, match=message):
                analysis.interpolate(model, x, level=level)
        else:
            path = analysis.interpolate(model, x, level=level, steps=4)
            assert path.px.mean.shape == (4, x.shape[1])
            z = path.levels[level - 1].z
            torch.testing.assert_close(z[1] - z[0], z[3] - z[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vq_vae", "codes before"])
def test_codes_below_are_drawn_where_there_is_no_mean(name, make_model, tiny_data):
    model = make_model("vq_vae", **MODELS[name])
    x = tiny_data.test.batch(slice(0, 2))
    with pytest.raises(TypeError, match=r"no mean in closed form; take draws.*below=from_prior"):
        analysis.reconstruct(model, x, from_level=2)
    trace = analysis.infer(model, x)
    with pytest.raises(TypeError, match="common noise .* got .*Codes; hold this level"):
        analysis.vary(model, trace.levels[1].z, level=2)
    with pytest.raises(TypeError, match=r"temperature scales .* is a .*Codes; .*temperature=1"):
        analysis.sample(model, 2, temperature=0.5)


@pytest.mark.parametrize("moment", ["mean", "variance", "stddev"])
def test_moments_of_a_flow_are_refused_with_what_stands_for_them(moment, make_model, tiny_data):
    model = make_model("flow_ladder", iaf=True)
    level = analysis.infer(model, tiny_data.test.batch(slice(0, 2))).levels[0]
    for flow in (level.q, level.p):
        with pytest.raises(NotImplementedError, match="no mean and no variance.*centre_of"):
            getattr(flow, moment)


def test_a_model_of_steps_counts_its_steps_as_levels(tiny_data):
    model = recipes.draw(tiny_data, steps=5, latent_sizes=(2,), hidden=(8,))
    assert analysis.latent_sizes(model) == [2] * 5
