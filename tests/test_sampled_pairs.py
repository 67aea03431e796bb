"""The index code from a sample of the pairs of examples, and diagnoses in several chunks."""

import math

import pandas as pd
import pytest
import torch
from deep_models import LINEAR, REAL
from linear_gaussian import CHAINS
from test_diagnostics import data_of, exact
from test_spine_shapes import image_model

from hvae_course import recipes
from hvae_course.analysis import aggregate_split, diagnose, diagnostics
from hvae_course.data import DataSet, Split
from hvae_course.gaussians import diag_normal
from hvae_course.hierarchy import HierarchicalVAE, Level

CHAIN = CHAINS[3]
X = CHAIN.sample_x(30, seed=1)
kinds = pytest.mark.parametrize("kind", ["chain", "top-down"])


def split(model, x, **settings):
    """Both parts for the same draws, (2, L, N)."""
    torch.manual_seed(7)
    return torch.stack([torch.stack(part) for part in aggregate_split(model, x, **settings)])


@kinds
@pytest.mark.parametrize("max_rows", [None, 7])
def test_with_all_other_examples_the_sample_is_the_whole(kind, max_rows):
    model = exact(CHAIN, kind)
    whole, sampled = split(model, X), split(model, X, num_others=29, max_rows=max_rows)
    torch.testing.assert_close(sampled, whole, rtol=0, atol=1e-10)


def test_maps_are_scored_in_the_same_way():
    model, x = image_model("delta", "skip").eval(), torch.rand(6, 64).round()
    whole = split(model, x)
    for settings in ({"num_others": 5}, {"num_others": 5, "max_rows": 4}, {"max_rows": 4}):
        torch.testing.assert_close(split(model, x, **settings), whole, rtol=1e-4, atol=1e-3)


@kinds
def test_the_sampled_code_is_close_to_the_whole_and_not_below_it_in_expectation(kind):
    """Both parts still add up to the information; no draw tells more than log N."""
    model, few, many = exact(CHAIN, kind), [], []
    whole = split(model, X)
    for seed in range(60):
        for num_others, kept in ((3, few), (15, many)):
            with pytest.MonkeyPatch.context() as patch:
                choose = diagnostics._choose_others

                def seeded(*arguments, seed=seed, choose=choose):
                    torch.manual_seed(seed)
                    return choose(*arguments)

                patch.setattr(diagnostics, "_choose_others", seeded)
                kept.append(split(model, X, num_others=num_others))
    for kept in (few, many):
        torch.testing.assert_close(kept[0].sum(dim=0), whole.sum(dim=0), rtol=0, atol=1e-10)
        assert (kept[0][0].sum(dim=0) <= math.log(30) + 1e-12).all()
    excess = [
        torch.stack([part[0].sum(dim=0).mean() for part in kept]) - whole[0].sum(dim=0).mean()
        for kept in (few, many)
    ]
    error = [values.std() / 60**0.5 for values in excess]
    assert excess[0].mean() > 5 * error[0]  # the logarithm of an estimate is too small
    assert 0 < excess[1].mean() + 5 * error[1] and excess[1].mean() < 0.2 * excess[0].mean()


def test_the_table_has_the_standard_error_of_a_sampled_code():
    model, data = exact(CHAIN, "top-down"), data_of(CHAIN.sample_x(200))
    settings = {"num_samples": 2}
    whole, sampled = (diagnose(model, data, **settings, num_others=m) for m in (None, 60))
    assert set(sampled.columns) - set(whole.columns) == {"index_code_error"}
    assert list(sampled.columns)[-1] == "status"
    assert sampled["information"].equals(whole["information"])
    apart = (sampled["index_code"] - whole["index_code"]).abs()
    assert (apart < 5 * sampled["index_code_error"]).all()


@pytest.mark.parametrize("number", [0, 30])
def test_as_many_others_as_there_are(number):
    with pytest.raises(ValueError, match=f"1 to 29 other examples, got num_others={number}"):
        aggregate_split(exact(CHAIN, "chain"), X, num_others=number)
    with pytest.raises(ValueError, match=r"num_others=3 is a setting of the index code; leave"):
        diagnose(exact(CHAIN, "chain"), data_of(X), num_others=3, index_code=False)


@pytest.mark.parametrize("chunk", [1, 7, 19])
def test_units_of_chunks_are_those_of_the_whole(chunk):
    """Mean and variance are merged; brute force over all rows at once."""
    model, num_samples = exact(CHAIN, "top-down"), 3
    torch.manual_seed(1)
    level = model(X, num_samples).levels[0]
    whole = diagnostics._units(level, num_samples)
    rows = chunk * num_samples
    parts = [
        diagnostics._units(_rows_of(level, slice(start, start + rows)), num_samples)
        for start in range(0, len(level.z), rows)
    ]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert merged.count == 30 and merged.size == whole.size
    for name in ("ratio", "mean", "variance", "noise"):
        torch.testing.assert_close(getattr(merged, name), getattr(whole, name))


def _rows_of(level, rows):
    def cut(p):
        return diag_normal(p.mean[rows], p.base_dist.scale[rows].log())

    return Level(level.z[rows], cut(level.q), cut(level.p))


def test_a_diagnosis_within_less_memory_holds_fewer_rows(monkeypatch):
    model, seen, data = exact(CHAIN, "top-down"), [], data_of(X)
    whole = diagnose(model, data, num_samples=500, index_code=False)
    monkeypatch.setattr(diagnostics, "rows_in_memory", lambda *_, most: min(4, most))
    model.top_down.updates[0].register_forward_hook(lambda _, h, __: seen.append(len(h[1])))
    cut = diagnose(model, data, num_samples=500, index_code=False)
    assert max(seen) == 4 * 500 and sum(seen) == 30 * 500
    assert cut["information"].tolist() == pytest.approx(whole["information"].tolist(), abs=0.1)
    assert cut["active_units"].equals(whole["active_units"])


# Posteriors that score slowly


@pytest.fixture(scope="module")
def flow_model() -> HierarchicalVAE:
    torch.manual_seed(0)
    options = LINEAR | {"networks_options": {"stages": ((1, 2, 4),)}}
    return recipes.resnet_vae(REAL, iaf=True, latent_sizes=(2, 2), **options).double()


def data_of_images(n: int) -> DataSet:
    torch.manual_seed(1)
    part = Split(torch.randn(n, 16), None, None)
    return DataSet("noise", (4, 4), None, "none", part, part, part)


def test_with_a_flow_as_posterior_a_diagnosis_samples_the_pairs_unless_told_otherwise(
    flow_model, monkeypatch
):
    data, settings = data_of_images(30), {"num_samples": 2}
    usual = diagnose(flow_model, data, **settings)
    pd.testing.assert_frame_equal(usual, diagnose(flow_model, data, num_others=20, **settings))
    assert (usual["index_code_error"] > 0).all()
    with monkeypatch.context() as patch:
        patch.setattr(diagnostics, "_is_slow", lambda *_: False)
        whole = diagnose(flow_model, data, **settings)
    assert "index_code_error" not in whole
    told = diagnose(flow_model, data, num_others=29, **settings)
    pd.testing.assert_frame_equal(told.drop(columns="index_code_error"), whole)
    few = diagnose(flow_model, data, max_examples=5, **settings)
    assert (few["index_code"] <= math.log(5) + 1e-9).all()
    assert "index_code" not in diagnose(flow_model, data, index_code=False, **settings)


def test_with_gaussian_posteriors_all_pairs_are_scored():
    assert "index_code_error" not in diagnose(exact(CHAIN, "top-down"), data_of(X), num_samples=2)
