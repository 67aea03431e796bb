"""Structure of the notebooks, and the model that chapter 1 writes by hand."""

import math
import re
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from torch import nn

from hvae_course import data, objectives, recipes
from hvae_course.claims import read

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT / ".ci"))
import tidy_notebooks  # noqa: E402

CHAPTERS = sorted((PROJECT / "notebooks").glob("0*.ipynb"))
MAIN_SHEETS = sorted((PROJECT / "notebooks/exercises").glob("0[78]_*.ipynb"))
NOTEBOOKS = [*CHAPTERS, PROJECT / "notebooks/results.ipynb", *MAIN_SHEETS]


def cells(path, tag=None):
    notebook = nbformat.read(path, as_version=4)
    return [c for c in notebook.cells if tag is None or tag in c.metadata.get("tags", [])]


def code_cells(path):
    return [c for c in cells(path) if c.cell_type == "code"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


@pytest.mark.parametrize("num_values", [2, 17])
@pytest.mark.parametrize("training", [True, False])
def test_the_model_written_by_hand_is_the_model_of_the_package(num_values, training):
    scope = {"math": math, "torch": torch, "nn": nn}
    (cell,) = cells(PROJECT / "notebooks/01_two_level_vae.ipynb", "by-hand")
    exec(cell.source, scope)
    spec = data.DataSpec(12, num_values)
    model = recipes.two_level_vae(spec, likelihood="categorical").double()
    by_hand = scope["TwoLevelByHand"](12, num_values).double()
    weights = zip(by_hand.state_dict(), model.state_dict().values(), strict=True)
    by_hand.load_state_dict(dict(weights))
    model.train(training)
    by_hand.train(training)
    x = torch.randint(num_values, (20, 12)).double() / (num_values - 1)
    torch.manual_seed(1)
    expected = objectives.elbo(model(x), x)
    torch.manual_seed(1)
    torch.testing.assert_close(by_hand(x), expected)
    (gradient,) = torch.autograd.grad(expected.mean(), [next(model.bottom_up.parameters())])
    torch.manual_seed(1)
    (same,) = torch.autograd.grad(by_hand(x).mean(), [next(by_hand.parameters())])
    torch.testing.assert_close(gradient, same)


def test_notebooks_carry_their_outputs_and_are_small(notebook):
    run = [c for c in code_cells(notebook) if c.outputs or c.execution_count]
    assert len(run) == len(code_cells(notebook)), "run `make notebooks`"
    assert notebook.stat().st_size < 1_000_000


def test_no_stored_error_or_warning(notebook):
    outputs = [output for c in code_cells(notebook) for output in c.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]


def test_printed_text_is_stored_in_one_piece(notebook):
    for cell in code_cells(notebook):
        kinds = [output.output_type for output in cell.outputs]
        assert ("stream", "stream") not in zip(kinds, kinds[1:], strict=False), cell.source[:80]


def test_the_kernel_is_the_usual_one(notebook):
    assert nbformat.read(notebook, as_version=4).metadata.kernelspec.name == "python3"


def test_every_figure_has_alt_text_and_a_caption(notebook):
    figures = [
        c for c in code_cells(notebook) if any("image/png" in o.get("data", {}) for o in c.outputs)
    ]
    assert figures
    for cell in figures:
        assert len(cell.metadata["mystnb"]["image"]["alt"]) > 40, cell.source[:80]
        assert cell.metadata["mystnb"]["figure"]["caption"], cell.source[:80]


def test_the_setup_cell_is_silent_and_installs_the_package_and_optional_dependencies(notebook):
    (cell,) = cells(notebook, "setup")
    assert not cell.outputs
    package, *others = re.findall(r"%pip install (.*)", cell.source)
    assert package.startswith("-q --no-deps git+https://")
    project = (PROJECT / "pyproject.toml").read_text("utf-8")
    assert set(others) <= {f"-q {name}" for name in re.findall(r'topology = \["(\w+)', project)}
    assert code_cells(notebook)[0] == cell


@pytest.mark.parametrize("notebook", [*CHAPTERS, MAIN_SHEETS[0]], ids=lambda path: path.stem)
def test_the_data_set_is_one_parameter(notebook):
    (cell,) = cells(notebook, "parameters")
    assert cell.source.startswith('dataset = "digits"')
    others = [c for c in code_cells(notebook) if "parameters" not in c.metadata.get("tags", [])]
    assert not [c for c in others if re.search(r"load\([\"']", c.source)]


def test_every_claim_came_out_true(notebook):
    claims = read(notebook)
    text = "".join(o.get("text", "") for c in code_cells(notebook) for o in c.outputs)
    assert claims
    printed = re.findall(r"^true:  (.+)$", text, re.MULTILINE)
    assert sorted(printed) == sorted(c.statement for c in claims)
    assert f"{len(claims)} of {len(claims)} claims hold" in text


def test_each_number_that_a_page_quotes_is_shown_by_its_notebook():
    quoted = set()
    for page in (PROJECT / "book").glob("*.md"):
        for name, key in re.findall(
            r"\{glue:text\}`\.\./(.+?\.ipynb)::(\w+)", page.read_text("utf-8")
        ):
            quoted.add((PROJECT / name, key))
    shown = {
        (path, output.metadata.scrapbook.name)
        for path in NOTEBOOKS
        for cell in code_cells(path)
        for output in cell.outputs
        if "scrapbook" in output.get("metadata", {})
    }
    assert quoted
    assert quoted == shown


def test_tidying_keeps_what_a_notebook_shows_and_nothing_of_the_machine(tmp_path):
    v4, path = nbformat.v4, tmp_path / "a.ipynb"
    printed = [("stdout", "a"), ("stderr", "warning"), ("stdout", "b\n")]
    outputs = [v4.new_output("stream", name=name, text=text) for name, text in printed]
    outputs += [v4.new_output("display_data", data={"text/plain": "1"}), outputs[0]]
    metadata = {"tags": ["results"], "execution": {"iopub.status.busy": "2026"}}
    code = v4.new_code_cell("x", outputs=outputs, metadata=metadata)
    here = {"kernelspec": {"name": "mine", "display_name": "Mine"}}
    nbformat.write(
        v4.new_notebook(cells=[code, v4.new_markdown_cell("\u00e9")], metadata=here), path
    )
    tidy_notebooks.tidy(path)
    once, (cell, note) = path.read_bytes(), cells(path)
    shown = [output.get("text", output.get("data")) for output in cell.outputs]
    assert shown == ["ab\n", {"text/plain": "1"}, "a"]
    assert (cell.metadata, note.source) == ({"tags": ["results"]}, "\u00e9")
    assert nbformat.read(path, as_version=4).metadata.kernelspec.name == "python3"
    tidy_notebooks.tidy(path)
    assert path.read_bytes() == once
