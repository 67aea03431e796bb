"""Structure of the notebooks, and the model that chapter 1 writes by hand."""

import base64
import io
import math
import re
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from notebook_cells import cells, code_cells, run
from PIL import Image, ImageChops
from torch import nn

from hvae_course import data, objectives, recipes
from hvae_course.claims import read

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT / ".ci"))
import notebook_results  # noqa: E402
import tidy_notebooks  # noqa: E402

CHAPTERS = sorted((PROJECT / "notebooks").glob("[0-9]*.ipynb"))
MAIN_SHEETS = [
    PROJECT / f"notebooks/exercises/{name}.ipynb"
    for name in ("07_hierarchy_depth", "08_layer_analysis")
]
NOTEBOOKS = [*CHAPTERS, PROJECT / "notebooks/results.ipynb", *MAIN_SHEETS]


SMALL = {
    "01_two_level_vae": {"epochs": 7, "seeds": (0, 1), "num_samples": 3},
    "02_posterior_collapse": {"epochs": 2, "seeds": (0, 1), "num_samples": 2},
    "03_top_down_deltas": {"epochs": 2, "best_epochs": 2, "best_seeds": (0, 1), "num_samples": 2},
    "04_ladder_merge": {"epochs": 2, "seeds": (0, 1), "num_samples": 2},
    "05_bidirectional_inference": {"epochs": 2, "num_pairs": 20},
    "06_vhp_priors": {"epochs": 2, "pendulum_epochs": 1},
    "07_latent_graphs": {"pendulum_epochs": 1, "num_pairs": 5, "motion_epochs": 1},
    "08_deep_hierarchies": {"epochs": 1, "num_images": 20},
    "09_what_likelihood_does_not_see": {"epochs": 1},
    "10_richer_levels": {"epochs": 1, "code_epochs": 1, "draw_epochs": 1},
    "results": {},
}
"""Small settings of the notebooks; the sheets have theirs in `test_sheets`."""
CHANGED = {
    'claims.enforce(dataset == "digits")': "claims.enforce(False)",
    # steps of a training that are beyond the last one of a short training
    "((60, 80), (80, 100), (200, 240), (360, 400))": "((0, 5), (5, 10), (10, 15), (15, 20))",
    '"80-100"': '"5-10"',
    '"200-240"': '"10-15"',
    '"360-400"': '"15-20"',
}
"""Code that a short run changes."""


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.filterwarnings("default")  # a notebook shows its warnings
def test_a_notebook_runs_with_small_settings(name, monkeypatch):
    """A notebook whose results are not those of the present code also runs in full."""
    monkeypatch.chdir(PROJECT / "notebooks")

    def change(cell):
        source = cell.source
        for before, after in CHANGED.items():
            source = source.replace(before, after)
        return source

    path = PROJECT / f"notebooks/{name}.ipynb"
    assert run(code_cells(path), {}, parameters=SMALL[name], change=change)


def test_a_fingerprint_follows_from_code_and_not_from_text():
    notebook = nbformat.read(CHAPTERS[1], as_version=4)
    first = notebook_results.fingerprint(notebook)
    code = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    code.source += "  # a comment"
    notebook.cells.append(nbformat.v4.new_markdown_cell("text"))
    assert notebook_results.fingerprint(notebook) == first
    code.source = code.source.replace("epochs = 40", "epochs = 41")
    assert notebook_results.fingerprint(notebook) != first


@pytest.mark.parametrize(
    ("changed", "matters"),
    [
        ("hvae_course/gaussians.py", True),
        ("hvae_course/training/loop.py", True),
        ("benchmarks/remedies_mnist.csv", True),
        ("hvae_course/checks/verdict.py", False),
    ],
)
def test_a_fingerprint_depends_on_what_a_notebook_reads(changed, matters, monkeypatch):
    notebook = nbformat.read(CHAPTERS[1], as_version=4)
    first, digest = notebook_results.fingerprint(notebook), notebook_results._digest
    other = {PROJECT / changed: "another"}
    monkeypatch.setattr(notebook_results, "_digest", lambda p: other.get(p) or digest(p))
    assert (notebook_results.fingerprint(notebook) != first) == matters


@pytest.mark.parametrize(
    ("name", "content", "matters"),
    [
        ("hvae_course/part.py", '"""Another docstring."""\nx = 1  # a comment', False),
        ("hvae_course/part.py", '"""A docstring."""\nx = 2', True),
        ("benchmarks/table.json", "{}", True),
        ("requirements.txt", "torch==3\n# the book\nsphinx==1", True),
        ("requirements.txt", "torch==2\n# the book\nsphinx==2", False),
    ],
)
def test_a_fingerprint_depends_on_code_tables_and_versions(
    name, content, matters, tmp_path, monkeypatch
):
    monkeypatch.setattr(notebook_results, "PROJECT", tmp_path)
    files = {
        "hvae_course/part.py": '"""A docstring."""\nx = 1',
        "benchmarks/table.json": "[]",
        "requirements.txt": "torch==2\n# the book\nsphinx==1",
    }
    source = ("from hvae_course import part", "read('benchmarks/table.json')")
    notebook = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, source)])
    prints = set()
    for written in (files, {name: content}):
        for path, text in written.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(text)
        notebook_results._digest.cache_clear()
        prints.add(notebook_results.fingerprint(notebook))
    assert len(prints) == 1 + matters


@pytest.mark.parametrize("num_values", [2, 17])
@pytest.mark.parametrize("training", [True, False])
def test_the_model_written_by_hand_is_the_model_of_the_package(num_values, training):
    scope = {"math": math, "torch": torch, "nn": nn}
    for cell in cells(PROJECT / "notebooks/01_two_level_vae.ipynb", "by-hand"):
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


def test_the_setup_cell_says_what_to_do_without_the_address(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="download https://.* and run pip install"):
        run(cells(CHAPTERS[0], "setup"), {})


LONGEST_OPEN = 20
"""Lines of a cell that a reader sees without unfolding it."""


def test_no_open_cell_is_long(notebook):
    long = {}
    for number, cell in enumerate(cells(notebook)):
        tags = {*cell.metadata.get("tags", [])}
        folded = tags & {"hide-input", "hide-cell", "remove-cell", "remove-input"}
        lines = len(cell.source.splitlines())
        if cell.cell_type == "code" and not folded and lines > LONGEST_OPEN:
            long[number] = lines
    assert not long


@pytest.mark.parametrize("notebook", [*CHAPTERS, MAIN_SHEETS[0]], ids=lambda path: path.stem)
def test_the_data_set_is_one_parameter(notebook):
    (cell,) = cells(notebook, "parameters")
    assert re.match('dataset = "(digits|pendulum)"', cell.source)
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


def stored(pictures: list[Image.Image], path: Path) -> None:
    """Write a notebook with figures as Matplotlib stores them."""
    outputs = []
    for picture in pictures:
        file = io.BytesIO()
        picture.save(file, "png", dpi=(200, 200))
        data = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": "a figure"}
        outputs.append(nbformat.v4.new_output("display_data", data=data))
    code = nbformat.v4.new_code_cell("plot()", outputs=outputs)
    nbformat.write(nbformat.v4.new_notebook(cells=[code]), path)


def figures(path: Path) -> list[Image.Image]:
    (cell,) = cells(path)
    pictures = [base64.b64decode(output.data["image/png"]) for output in cell.outputs]
    return [Image.open(io.BytesIO(picture)) for picture in pictures]


def test_tidying_stores_a_figure_without_an_alpha_channel_and_with_the_same_pixels(tmp_path):
    path, opaque = tmp_path / "a.ipynb", Image.radial_gradient("L").convert("RGBA")
    opaque.putpixel((3, 5), (200, 10, 30, 255))
    stored([opaque], path)
    assert [picture.mode for picture in figures(path)] == ["RGBA"]
    tidy_notebooks.tidy(path)
    once, (figure,) = path.read_bytes(), figures(path)
    assert (figure.mode, figure.size) == ("RGB", opaque.size)
    assert ImageChops.difference(figure, opaque.convert("RGB")).getbbox() is None
    assert figure.info["dpi"] == pytest.approx((200, 200), abs=0.1)
    tidy_notebooks.tidy(path)
    assert path.read_bytes() == once


def test_tidying_leaves_a_figure_that_would_change_as_it_is(tmp_path):
    path, opaque = tmp_path / "a.ipynb", Image.new("RGBA", (8, 6), (200, 10, 30, 255))
    clear = opaque.copy()
    clear.putpixel((3, 5), (200, 10, 30, 254))  # one pixel that is not quite opaque
    stored([clear, opaque.convert("RGB"), opaque.convert("L")], path)
    before = [output.data for output in cells(path)[0].outputs]
    tidy_notebooks.tidy(path)
    assert [output.data for output in cells(path)[0].outputs] == before
