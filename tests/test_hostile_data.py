"""Whatever data a user brings, ``fit`` and ``evaluate`` give a result or a clear error.

Arrays of every shape, type, layout and content are drawn; a run either ends with finite numbers
or is refused in words of the package. A NaN, or an error from inside PyTorch, is a failure.
"""

import math
import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvae_course import data, evaluate, fit, recipes
from hvae_course.config import LIKELIHOODS, Model

pytestmark = pytest.mark.slow

REFUSALS = (ValueError, TypeError, FloatingPointError)
FOREIGN = re.compile(
    "mat1|mat2|expected scalar type|size of tensor|must match the size|must have the same dtype|"
    "has no attribute|object is not|not implemented for|out of bounds for|cannot broadcast|"
    "could not broadcast|unexpected keyword|missing 1 required|"
    "Expected all tensors|division by zero|maximum recursion|truth value of an array"
)
"""Words of errors from inside PyTorch, NumPy and Python."""
HOSTILE = (math.nan, math.inf, -math.inf, 1e30, -1e30, 1e-40, -0.0, 300.0, -1.0, 0.5)
TYPES = ("uint8", "bool", "int16", "int64", "float16", "float32", "float64", ">f4", ">i2")
EXAMPLES = 600
LAYOUTS = ("plain", "fortran", "strided", "reversed", "read-only")


def laid_out(x: np.ndarray, layout: str) -> np.ndarray:
    """The same values, elsewhere in memory."""
    if layout == "fortran":
        return np.asfortranarray(x)
    if layout == "strided":
        return np.repeat(x, 2, axis=0)[::2]
    if layout == "reversed":
        return np.ascontiguousarray(x[::-1])[::-1]
    if layout == "read-only":
        x = x.copy()
        x.flags.writeable = False
    return x


def rarely(common: object, *others: object) -> st.SearchStrategy:
    """One value in four of five cases, so that most runs are not refused for this reason."""
    return st.integers(0, 4).flatmap(
        lambda number: st.sampled_from(others) if number == 4 else st.just(common)
    )


CONTENTS = {
    "images": ("uint8", "int64", "float32"),
    "binary": ("bool", "uint8", "float64"),
    "real": ("float16", "float32", "float64", ">f4"),
    "counts": ("int16", "int64", ">i2", "float32"),
}
"""Kinds of data, and types in which they come."""


@st.composite
def arrays(draw: st.DrawFn) -> tuple[np.ndarray, str]:
    """Examples of some shape, type, layout and content, and what they are."""
    content = draw(st.sampled_from(sorted(CONTENTS)))
    kind = draw(rarely(draw(st.sampled_from(CONTENTS[content])), *TYPES))
    count = draw(rarely(draw(st.sampled_from([3, 9, 30])), 1, 2))
    size = st.integers(1, 5)
    shape = draw(
        st.one_of(
            st.tuples(size),
            st.tuples(size, size),
            st.tuples(st.sampled_from([1, 3]), size, st.sampled_from([4, 5])),
            st.tuples(st.sampled_from([2, 4, 5]), size, st.sampled_from([1, 3])),
        )
    )
    generator = np.random.default_rng(draw(st.integers(0, 3)))
    top = {"images": 256, "binary": 2, "counts": draw(st.sampled_from([1, 7, 5000]))}
    scale = draw(rarely(1.0, 1e-3, 1e4))
    if content == "real":
        x = (generator.normal(size=(count, *shape)) * scale).astype(kind)
    else:
        x = generator.integers(0, top[content], (count, *shape)).astype(kind)
    if draw(rarely(False, True)):
        x[:, ..., 0] = x.flat[0]  # a feature that never changes
    hostile = draw(rarely(None, *HOSTILE))
    if hostile is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            x.flat[draw(st.integers(0, x.size - 1))] = np.array(hostile).astype(kind)
    return laid_out(x, draw(st.sampled_from(LAYOUTS))), content


def labels_for(x: np.ndarray, which: str | None) -> np.ndarray | None:
    """Labels, some of which are not."""
    classes = np.arange(len(x)) % 3
    wrong = {"float": classes / 2, "negative": classes - 1, "too few": classes[:-1]}
    return None if which is None else wrong.get(which, classes)


def by_hand(x: np.ndarray, labels: np.ndarray | None, content: str) -> data.DataSet:
    """A data set from its three parts, as the functions for arrays would not make every one."""
    num_values = {"images": 256, "binary": 2}.get(content)
    split = data.Split(x, labels, num_values and num_values - 1)
    shape, counts = x.shape[1:], content == "counts"
    num_classes = None if labels is None else 3
    rest = {"counts": counts, "num_classes": num_classes}
    return data.DataSet("by hand", shape, num_values, "none", split, split, split, **rest)


def try_out(make: Callable[[], data.DataSet], model: dict[str, object], **training: object) -> str:
    """Make a data set, train for one epoch and evaluate; return the words of a refusal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mine = make()
            built = recipes.build(Model(latent_sizes=(3, 2), hidden=(8,), **model), mine, seed=0)
            history = fit(built, mine, epochs=1, progress=False, **training)
            bounds = evaluate(built, mine, num_samples=3)
    except REFUSALS as error:
        return str(error) or repr(error)
    assert all(map(math.isfinite, history.frame["value"]))
    estimates = (bounds.elbo, bounds.log_likelihood, *bounds.information)
    assert all(math.isfinite(estimate.mean) for estimate in estimates)
    terms = [bounds.reconstruction.mean, *(-e.mean for e in bounds.information)]
    size = max(map(abs, terms))
    assert math.isclose(bounds.elbo.mean, sum(terms), abs_tol=1e-4 * size + 1e-3)
    assert bounds.num_examples == len(mine.test)
    return ""


def test_any_data_give_a_result_or_a_clear_error():
    """No silent NaN, and no error from inside a library."""
    outcomes = []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        drawn=arrays(),
        labels=rarely("classes", None, "float", "negative", "too few"),
        said=st.booleans(),
        model=st.fixed_dictionaries(
            {
                "recipe": st.sampled_from(["bottom_up", "mean_field", "delta", "ladder"]),
                "likelihood": rarely(None, *sorted(LIKELIHOODS)),
                "normalisation": st.sampled_from(["batch", "layer", "none"]),
                "conditional": st.booleans(),
            }
        ),
        missing=st.booleans(),
        standardise=rarely(None, True),
        hand=rarely(False, True),
        batch_size=rarely(8, 1, 1000),
    )
    def run(drawn, labels, said, model, missing, standardise, hand, batch_size):
        x, content = drawn
        before = x.copy()
        how = {"kind": content if said else None, "missing": missing, "standardise": standardise}
        if said and x.ndim == 4:
            how["channels_last"] = x.shape[-1] in (1, 3)
        outcome = try_out(
            lambda: (
                by_hand(x, labels_for(x, labels), content)
                if hand
                else data.from_arrays(x, labels_for(x, labels), **how)
            ),
            model,
            batch_size=batch_size,
        )
        assert outcome == "" or (len(outcome) > 25 and not FOREIGN.search(outcome)), outcome
        np.testing.assert_array_equal(x, before)  # the user's array is as it was
        outcomes.append(outcome)

    run()
    results = outcomes.count("")
    assert results > len(outcomes) / 4, f"{results} of {len(outcomes)} runs were not refused"
