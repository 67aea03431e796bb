"""Information per level, resolution and latent dimension."""

import pytest
import torch
from test_held import images_of
from test_spine_shapes import image_model

from hvae_course import evaluate
from hvae_course.analysis import information_by_level, information_by_resolution


def test_levels_ofimages_of_add_up_to_the_divergence_of_the_bound():
    torch.manual_seed(1)
    model, data = image_model("delta", "skip").eval(), images_of(torch.rand(30, 64).round())
    result = evaluate(model, data, num_samples=3)
    levels = information_by_level(model, result)
    assert levels["shape"].tolist() == [(2, 8, 8), (3, 4, 4)]
    assert levels["resolution"].tolist() == ["8x8", "4x4"]
    assert levels["units"].tolist() == [128, 48]
    nats = result.reconstruction.mean - result.elbo.mean
    assert levels["information"].sum() == pytest.approx(nats, rel=1e-5)
    assert (levels["per_unit"] * levels["units"]).sum() == pytest.approx(nats, rel=1e-5)
    assert levels["share"].sum() == pytest.approx(1)
    assert levels["unit_share"].tolist() == pytest.approx([128 / 176, 48 / 176])
    assert levels["information_error"].tolist() == [e.standard_error for e in result.information]


def test_resolutions_add_up_their_levels(make_model, tiny_data):
    model = make_model("ladder_vae", latent_sizes=(4, 3, 2))
    levels = information_by_level(model, evaluate(model, tiny_data, num_samples=2))
    assert levels["resolution"].tolist() == ["1x1"] * 3
    levels["resolution"] = ["4x4", "4x4", "1x1"]
    table = information_by_resolution(levels)
    assert table["resolution"].tolist() == ["4x4", "1x1"]
    assert table["levels"].tolist() == [2, 1] and table["units"].tolist() == [7, 2]
    assert table["information"][0] == pytest.approx(levels["information"][:2].sum())
    assert table["per_unit"][0] == pytest.approx(levels["information"][:2].sum() / 7)
    assert table["share"].tolist() == pytest.approx(
        [levels["share"][:2].sum(), levels["share"][2]]
    )


def test_an_evaluation_of_another_model_is_refused(make_model, tiny_data):
    result = evaluate(make_model(), tiny_data, num_samples=1)
    with pytest.raises(ValueError, match="is of 2 levels and the model has 3; give the"):
        information_by_level(make_model("ladder_vae", latent_sizes=(4, 3, 2)), result)
    with pytest.raises(TypeError, match=r"must be what evaluate\(model, data\) gives, got dict"):
        information_by_level(make_model(), {})
    with pytest.raises(ValueError, match="information_by_level; it has no column level, units"):
        table = information_by_level(make_model(), result)
        information_by_resolution(table.drop(columns=["level", "units"]))
