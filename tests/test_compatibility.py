"""Data that a model was not built for are refused, wherever in a split they are."""

from dataclasses import replace

import pytest

from hvae_course import evaluate
from hvae_course.compatibility import DensityOfDiscreteValues, check_data
from hvae_course.config import Model
from hvae_course.data import DataSpec, load
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.recipes import build


@pytest.fixture
def spoilt(tiny_binary):
    """Binary data with one grey pixel, in the last example of the named split."""

    def spoil(name):
        split = getattr(tiny_binary, name)
        pixels = (split.pixels > 8).float()
        pixels[-1, 5] = 0.5
        grey = replace(split, pixels=pixels, redraw=False, max_value=None)
        return replace(tiny_binary, **{name: grey})

    return spoil


@pytest.mark.parametrize("name", ["train", "validation"])
def test_training_looks_at_every_example_that_it_will_use(name, spoilt, make_model, train):
    data = spoilt(name)
    with pytest.raises(ValueError, match="binary pixels, got grey values"):
        train(make_model(data=data), data, batch_size=10)


def test_an_evaluation_looks_at_its_own_split_whole(spoilt, make_model):
    model = make_model(data=spoilt("test"))
    with pytest.raises(ValueError, match="binary pixels, got grey values"):
        evaluate(model, spoilt("test"), batch_size=10, num_samples=1)
    assert evaluate(model, spoilt("train"), batch_size=10, num_samples=1).num_examples == 60


def test_a_model_of_grey_values_is_not_held_against_binary_pixels(make_model, train, tiny_binary):
    model = make_model()  # 0 and 1 are on its grid, and their score would mean nothing
    for work in (train, evaluate, check_data):
        with pytest.raises(ValueError, match="num_values=17 and they have 2; load the data"):
            work(model, tiny_binary)


def test_a_model_of_vectors_takes_every_shape_of_that_size_and_no_other_does(tiny_data):
    check_data(build(Model(), DataSpec(64, 17)), tiny_data, tiny_data.test)
    with pytest.raises(ValueError, match=r"shape=\(4, 16\) and they have \(8, 8\)"):
        check_data(build(Model(), DataSpec((4, 16), 17)), tiny_data)


def test_a_model_that_no_recipe_made_is_asked_for_its_likelihood_alone(make_model, tiny_binary):
    built = make_model(likelihood="gaussian")
    own = HierarchicalVAE(
        built.prior, built.bottom_up, posterior=built.posterior, top_down=built.top_down
    )
    with pytest.warns(DensityOfDiscreteValues, match="digits' hold 2 values: .*'bernoulli'"):
        check_data(own, tiny_binary, tiny_binary.test)


def test_all_splits_of_the_digits_pass(make_model):
    data = load("digits")
    check_data(make_model(data=data), data, data.train, data.validation, data.test)
