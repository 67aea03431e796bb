"""Tables with columns of several kinds: one likelihood per block, in the order of the table."""

import itertools
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from recipe_kinds import PERCEPTRONS
from torch import Tensor, nn

from hvae_course import evaluate, fit, recipes
from hvae_course.cli import main
from hvae_course.config import Model
from hvae_course.data import DataSet, DataSpec, Split
from hvae_course.likelihoods import (
    Bernoulli,
    Block,
    Categorical,
    DiscretizedLogistic,
    Gaussian,
    Mixed,
    Poisson,
)
from hvae_course.nets import ReadTable
from hvae_course.recipes import build
from hvae_course.training import load_checkpoint

NAMES = ("age", "weight", "smoker", "visits", "town", "pain")
BLOCKS = [
    {"columns": [1, 0], "likelihood": "gaussian", "log_std_bound": 3.0},
    {"columns": [2], "likelihood": "bernoulli"},
    {"columns": [4], "likelihood": "categorical", "num_values": 5},
    {"columns": [3], "likelihood": "poisson"},
    {"columns": [5], "likelihood": "discretized_logistic", "num_values": 4},
]
DISCRETE = [
    {"columns": ["town"], "likelihood": "categorical", "num_values": 3},
    {"columns": ["smoker"], "likelihood": "bernoulli"},
]
ROWS = torch.tensor([[0.3, -1.2, 1.0, 7.0, 4.0, 0.0], [2.0, 0.0, 0.0, 0.0, 0.0, 3.0]])


def options(blocks: object = None) -> dict:
    return {
        "likelihood": "mixed",
        "likelihood_options": {"blocks": BLOCKS if blocks is None else blocks},
    }


def spec(**settings) -> DataSpec:
    return DataSpec(6, None, **settings)


def changed(number: int, **block) -> list[dict]:
    """The blocks with another one in place of one of them."""
    return [*BLOCKS[:number], BLOCKS[number] | block, *BLOCKS[number + 1 :]]


# The likelihood


def by_hand(raw: Tensor) -> tuple[Mixed, list[tuple[list[int], object, int]]]:
    """A mixed likelihood whose state is its outputs, and the distributions of its blocks."""
    parts = [
        ([1, 0], Gaussian(nn.Identity(), log_std_bound=3.0), 4, 1),
        ([2], Bernoulli(nn.Identity()), 1, 1),
        ([4], Categorical(nn.Identity(), 5), 5, 4),
        ([3], Poisson(nn.Identity()), 1, 1),
        ([5], DiscretizedLogistic(nn.Identity(), 4), 2, 3),
    ]
    mixed = Mixed(nn.Identity(), [Block(c, one, outputs) for c, one, outputs, _ in parts])
    pieces = raw.split([outputs for _, _, outputs, _ in parts], dim=1)
    blocks = [(c, one(p), s) for (c, one, _, s), p in zip(parts, pieces, strict=True)]
    return mixed, blocks


def test_the_log_probability_is_the_sum_over_blocks_each_on_its_own_columns():
    raw = torch.randn(2, 13, dtype=torch.float64)
    mixed, blocks = by_hand(raw)
    x = ROWS.double()
    expected = sum(px.log_prob(x[:, columns] / scale) for columns, px, scale in blocks)
    torch.testing.assert_close(mixed(raw).log_prob(x), expected)
    many = mixed(raw).sample((3,))
    expected = sum(px.log_prob(many[..., c] / scale) for c, px, scale in blocks)
    torch.testing.assert_close(mixed(raw).log_prob(many), expected)


def test_mean_and_draws_are_in_the_order_and_the_numbers_of_the_table(assert_mean):
    raw = torch.randn(2, 13, dtype=torch.float64)
    mixed, blocks = by_hand(raw)
    px = mixed(raw)
    for columns, block, scale in blocks:
        torch.testing.assert_close(px.mean[:, columns], block.mean * scale)
    drawn = px.sample((20_000,))
    assert_mean(drawn, px.mean)
    whole = drawn[..., 2:]
    assert torch.equal(whole, whole.round())
    assert drawn[..., 4].unique().tolist() == [0, 1, 2, 3, 4]
    assert drawn[..., 5].max() <= 3 and drawn[..., 2].max() <= 1
    mixed.check(drawn.flatten(0, 1))


def test_probabilities_of_all_rows_of_discrete_columns_sum_to_one():
    model = recipes.vae(DataSpec(2, None, feature_names=("town", "smoker")), **options(DISCRETE))
    rows = torch.tensor([*itertools.product(range(3), range(2))], dtype=torch.float32)
    px = model.top_down.likelihood(torch.randn(1, 16))
    torch.testing.assert_close(px.log_prob(rows[:, None]).exp().sum(), torch.tensor(1.0))
    assert model.top_down.likelihood.measure == "probability"


def test_one_real_column_makes_the_measure_a_density():
    assert recipes.vae(spec(), **options()).top_down.likelihood.measure == "density"


@pytest.mark.parametrize("num_values", [2, 3, 50, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_category_is_scored_as_itself(num_values, dtype):
    mixed = Mixed(nn.Identity(), [Block([0], Categorical(nn.Identity(), num_values), num_values)])
    raw = torch.randn(num_values, num_values, dtype=dtype)
    x = torch.arange(num_values, dtype=dtype)[:, None]
    mixed.check(x)
    expected = raw.log_softmax(1).diagonal()
    torch.testing.assert_close(mixed(raw).log_prob(x), expected)


# What networks read


def test_networks_read_categories_one_hot_counts_as_logarithms_and_amounts_scaled():
    model = recipes.vae(spec(), **options())
    expected = [
        [0.3, -1.2, 1.0, math.log(8.0), 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
        [2.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0],
    ]
    torch.testing.assert_close(model.bottom_up.read(ROWS), torch.tensor(expected))


def test_real_columns_alone_are_read_as_they_are():
    blocks = [
        {"columns": [0, 1, 2, 3], "likelihood": "gaussian"},
        {"columns": [4, 5], "likelihood": "isotropic_gaussian", "std": 0.5},
    ]
    assert recipes.vae(spec(), **options(blocks)).bottom_up.read is None


@pytest.mark.parametrize("hidden", [(), (8,)], ids=str)
@pytest.mark.parametrize("recipe", PERCEPTRONS)
def test_what_is_read_has_the_width_that_networks_expect(recipe, hidden, make_model):
    model = make_model(recipe, spec(missing=True), hidden=hidden, **options())
    assert model.bottom_up.read.num_outputs == model.bottom_up.read(ROWS).shape[1] == 16
    assert torch.isfinite(model(ROWS).log_weight(ROWS)).all()


def test_reading_complete_real_numbers_changes_nothing():
    x = torch.randn(3, 4)
    assert torch.equal(ReadTable(4)(x), x)


# Models


@pytest.mark.parametrize("missing", [False, True])
def test_a_model_of_a_table_learns_and_is_read_again_from_its_checkpoint(
    missing, make_accelerator, tmp_path
):
    generator = torch.Generator().manual_seed(0)
    level = torch.rand(600, 1, generator=generator)
    x = torch.cat(
        [level, -level, (level > 0.5).float(), (40 * level).round(), (4 * level).round()]
        + [(3 * level).round()],
        dim=1,
    )
    if missing:
        x = x.masked_fill(torch.rand(x.shape, generator=generator) < 0.2, torch.nan)
    parts = [Split(part, None, None) for part in x.split(200)]
    named = {"missing": missing, "feature_names": NAMES}
    data = DataSet("patients", (6,), None, "none", *parts, **named)
    model = recipes.ladder_vae(data, latent_sizes=(3, 2), hidden=(32,), **options())
    before = evaluate(model, data, num_samples=2).elbo.mean
    settings = {"epochs": 6, "learning_rate": 0.01, "progress": False}
    path = tmp_path / "table.pt"
    fit(model, data, accelerator=make_accelerator(), checkpoint=path, **settings)
    after = evaluate(model, data, num_samples=2).elbo.mean
    assert after > before + 1
    checkpoint = load_checkpoint(path)
    again = build(checkpoint.config)
    again.load_state_dict(checkpoint.weights)
    assert again.config == model.config and str(again) == str(model)
    assert evaluate(again, data, num_samples=2).elbo.mean == after
    again.top_down.likelihood.check(again.eval().generate(50).px.sample())


@pytest.mark.usefixtures("make_accelerator")
def test_a_table_with_holes_is_trained_evaluated_and_sampled_from_the_command_line(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(90, 6, generator=generator).round()
    x[::3, 1] = torch.nan
    names = {"kind": "real", "missing": True, "feature_names": NAMES}
    np.savez("patients.npz", x=x.numpy(), **names)
    words = "train ladder --data patients.npz --likelihood mixed --hidden 8 --epochs 1 --quiet"
    words += " --batch-size 30 --validation-samples 2 --device cpu --out run"
    assert main([*words.split(), "--likelihood-options", "blocks=" + json.dumps(BLOCKS)]) == 0
    assert main("evaluate run --num-samples 2 --device cpu".split()) == 0
    assert "log-density: ELBO" in capsys.readouterr().out
    assert main("sample run --count 4 --pixels drawn --out rows.csv".split()) == 0
    drawn = pd.read_csv("rows.csv")
    assert tuple(drawn.columns) == NAMES and not drawn.isna().any().any()
    assert set(drawn["smoker"]) <= {0, 1} and set(drawn["town"]) <= {0, 1, 2, 3, 4}


def test_columns_may_be_named(make_model):
    names = ["weight", "age"]
    model = make_model(data=spec(feature_names=NAMES), **options(changed(0, columns=names)))
    numbered = make_model(data=spec(feature_names=NAMES), **options())
    torch.manual_seed(3)
    expected = numbered(ROWS).log_weight(ROWS)
    torch.manual_seed(3)
    assert torch.equal(model(ROWS).log_weight(ROWS), expected)
    assert json.loads(json.dumps(model.config)) == model.config
    assert str(build(model.config)) == str(model)


# What is refused


@pytest.mark.parametrize(
    ("blocks", "match"),
    [
        ([], r"blocks must be a list that says which columns have .*, got \[\]"),
        (
            changed(3, columns=[]),
            r"block 4: columns must be a list of column numbers .*, got \[\]",
        ),
        (changed(3, columns=3), "block 4: columns must be a list .*, got 3"),
        (changed(3, columns=[-1]), r"block 4: columns must be .*, got \[-1\]"),
        (changed(3, columns=[True]), "block 4: columns must be"),
        (changed(3, columns=[3.5]), r"block 4: columns must be .*, got \[3.5\]"),
        (changed(3, columns=[3, 3]), "block 4: column 3 is in block 4 already; name every column"),
        (changed(3, columns=[3, 2]), "block 4: column 2 is in block 2 already"),
        (changed(3, likelihood="gamma"), r"block 4 \(columns 3\): unknown likelihood 'gamma'; ch"),
        (changed(3, likelihood="mixed"), r"block 4 \(columns 3\): unknown likelihood 'mixed'"),
        ([{"columns": [0]}], r"block 1 \(columns 0\): unknown likelihood None; choose one of"),
        (changed(2, num_values=None), r"block 3 \(columns 4\): .* needs num_values, .*, got None"),
        (changed(2, num_values=1), "block 3 .*needs num_values, the number V >= 2 of .*, got 1"),
        (changed(2, num_values=4.0), "block 3 .*needs num_values, .* whole number, got 4.0"),
        (changed(1, num_values=2), r"block 2 .*the likelihood 'bernoulli' takes no num_values"),
        (changed(0, std=1.0), r"block 1 \(columns 1, 0\): .*unknown option 'std'; it has log_std"),
        (changed(0, log_std_bound=-1.0), "block 1 .*log_std_bound must be positive, got -1.0"),
        ([3], r"blocks must be a list .*, such as .*, got \[3\]"),
        ("gaussian", "blocks must be a list .*, got 'gaussian'"),
    ],
)
def test_a_wrong_block_is_named_before_any_data_are_read(blocks, match):
    with pytest.raises(ValueError, match="likelihood_options of the likelihood 'mixed': " + match):
        Model(**options(blocks))


def test_a_table_without_blocks_is_refused():
    with pytest.raises(
        ValueError, match="blocks must be a list that says which columns have which"
    ):
        Model(likelihood="mixed")


@pytest.mark.parametrize(
    ("blocks", "names", "match"),
    [
        (
            changed(3, columns=[6]),
            (),
            "block 4: no column 6; the table has 6 columns, numbered fro",
        ),
        (changed(3, columns=["visits"]), (), "block 4: no column 'visits'; the table has 6 colu"),
        (
            changed(3, columns=["vists"]),
            NAMES,
            "block 4: no column 'vists'; .* named age, weight, smoker, visits, town, pain",
        ),
        (changed(3, columns=[3, "age"]), NAMES, "block 4: column 'age' is in a block already"),
        (BLOCKS[:-2], (), "'mixed' has no block for column 3, 5; name every column of the table"),
        (BLOCKS[:-2], NAMES, re.escape("no block for column 3 (visits), 5 (pain); name every")),
    ],
)
def test_a_block_that_does_not_fit_the_table_is_refused(blocks, names, match):
    with pytest.raises(ValueError, match=match):
        recipes.vae(spec(feature_names=names), **options(blocks))


def test_images_are_no_tables():
    with pytest.raises(ValueError, match="'mixed' scores tables, and the data are images of 17"):
        recipes.vae(DataSpec(6, 17), **options())


@pytest.mark.parametrize(
    ("column", "value", "match"),
    [
        (
            2,
            0.5,
            r"column 2 \(smoker\), in block 2, .* from 0 to 1 for Bernoulli, got 0.5; number",
        ),
        (
            4,
            5.0,
            r"column 4 \(town\), in block 3, must hold whole numbers from 0 to 4 for Cat.* 5;",
        ),
        (
            4,
            0.25,
            r"column 4 \(town\), in block 3, .* for Categorical, got 0.25; number categories",
        ),
        (
            4,
            -1.0,
            r"column 4 \(town\), in block 3, .* for Categorical, got -1; .*standardise noth",
        ),
        (3, 2.5, r"column 3 \(visits\), in block 4, .* from 0 to 16,777,216 for Poisson, got 2.5"),
        (5, 4.0, r"column 5 \(pain\), in block 5, .* 0 to 3 for DiscretizedLogistic, got 4;"),
        (0, torch.nan, "the data hold NaN; remove them, or say that they are missing values"),
        (0, torch.inf, "the data hold infinite values"),
    ],
)
def test_values_off_the_support_of_a_block_are_refused_with_its_columns(column, value, match):
    likelihood = recipes.vae(spec(feature_names=NAMES), **options()).top_down.likelihood
    likelihood.check(ROWS)
    x = ROWS.clone()
    x[1, column] = value
    with pytest.raises(ValueError, match=match):
        likelihood.check(x)


@pytest.mark.parametrize("columns", [[], [1], [0, 0], [0, 2]], ids=str)
def test_a_likelihood_by_hand_needs_every_column_once(columns):
    with pytest.raises(ValueError, match="every column of a table must be in exactly one block"):
        Mixed(nn.Identity(), [Block(columns, Bernoulli(nn.Identity()), len(columns))])
