"""The book's own machinery: labels against marks, links and alt text."""

import base64
import importlib.util
import io
import json
import re
import subprocess
from pathlib import Path

import equation_tests
import mended_pages
import notebook_figures
import pytest
import yaml
from PIL import Image
from sphinx.errors import ExtensionError
from sphinx_site import build_site

PROJECT = Path(__file__).parent.parent
PAGES = sorted((PROJECT / "book").glob("*.md"))
SOURCES = [*PAGES, *sorted((PROJECT / "notebooks").glob("*.ipynb"))]
CHECKED = '@pytest.mark.equation("eq-a")\ndef test_a_is_a():\n    pass\n'
# repositories of others that the project may point to
FOREIGN = {
    *("AntixK/PyTorch-VAE", "CAREamics/careamics", "RuiShu/one-bit-vae", "jmtomczak/intro_dgm"),
    *("AppliedDataSciencePartners/WorldModels", "huggingface/accelerate", "pytorch/vision"),
    *("YannDubs/disentangling-vae", "hwalsuklee/tensorflow-mnist-VAE", "molecularsets/moses"),
    *("jxhe/vae-lagging-encoder", "vanderschaarlab/synthcity", "yanggeng1995/vae_tacotron"),
    *("CompVis/vunet", "NVlabs/NVAE", "ReactiveBayes/ReactiveMP", "casperkaae/LVAE"),
    *("orybkin/sigma-vae-pytorch", "pytorch/examples", "taldatech/soft-intro-vae-pytorch"),
    *("MachineLearningLifeScience/stochman", "black-forest-labs/flux", "denproc/Taming-VAEs"),
    *("Rayhane-mamah/Efficient-VDVAE", "addtt/ladder-vae-pytorch"),
    *("nv-tlabs/LION", "openai/vdvae", "tensorflow/probability", "wildart/ManifoldLearning"),
    *("CompVis/taming-transformers", "VincentStimper/normalizing-flows", "ericjang/draw"),
    *("andylolu2/jax-vqvae-gpt", "lucidrains/vector-quantize-pytorch"),
    *("siddsax/Normalizing_Flows",),
}


def load_module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


set_repository = load_module(PROJECT / ".ci/set_repository.py")


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Build a book of one page with the given labels, and tests with the given source."""

    def run(labels, tests):
        (tmp_path / "tests").mkdir(exist_ok=True)
        (tmp_path / "tests/test_page.py").write_text(tests)
        equations = "".join(f".. math:: a = a\n   :label: {label}\n\n" for label in labels)
        return build_site(
            tmp_path,
            monkeypatch,
            page=f"{equations}\n.. equation-tests::\n",
            settings='extensions = ["sphinx.ext.mathjax", "equation_tests"]\n'
            'html_theme_options = {}\nexclude_patterns = ["tests"]\n',
        )

    return run


def test_a_checked_equation_names_its_test_below_it_and_in_the_table(build):
    page = build(["eq-a"], CHECKED)
    assert page.count("a is a</a>") == 2
    assert "/blob/main/tests/test_page.py#L2" in page
    assert 'href="#equation-eq-a"' in page


def test_an_equation_without_a_test_stops_the_build(build):
    with pytest.raises(ExtensionError, match="equation eq-b has no test"):
        build(["eq-a", "eq-b"], CHECKED)


def test_a_mark_without_an_equation_stops_the_build(build):
    with pytest.raises(ExtensionError, match="no equation has the label eq-a"):
        build([], CHECKED)


def test_removing_a_test_stops_the_next_build_although_no_page_changed(build):
    build(["eq-a"], CHECKED)
    with pytest.raises(ExtensionError, match="equation eq-a has no test"):
        build(["eq-a"], "def test_a_is_a():\n    pass\n")


def picture(width):
    """A white image, as a file."""
    file = io.BytesIO()
    Image.new("L", (width, 4), 255).save(file, "png")
    return file.getvalue()


@pytest.fixture
def drawn(tmp_path):
    """A notebook with one figure."""
    cell = {
        "metadata": {
            "mystnb": {"figure": {"name": "fig-a", "caption": "Grey."}, "image": {"alt": "A box"}}
        },
        "outputs": [{"data": {"image/png": base64.b64encode(picture(1440)).decode()}}],
    }
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": [{"metadata": {}}, cell]}))
    return path


@pytest.mark.parametrize(("own", "caption"), [("", "Grey."), ("\n   Its own.\n", "Its own.")])
def test_a_page_shows_the_figure_of_a_notebook(drawn, monkeypatch, own, caption):
    page = build_site(
        drawn.parent,
        monkeypatch,
        page=f".. notebook-figure:: a.ipynb::fig-a\n   :name: fig-here\n{own}",
        settings='extensions = ["notebook_figures"]\n',
    )
    assert 'alt="A box"' in page
    assert 'id="fig-here"' in page
    assert f'<span class="caption-text">{caption}</span>' in page
    shown = drawn.parent / "_build" / re.search(r'src="([^"]+png)"', page)[1]
    assert shown.read_bytes() == picture(1440)
    assert re.search(r'<img [^>]*style="width: 720px;?"', page)  # drawn at twice the resolution


def test_a_formula_keeps_the_mark_after_it():
    formula = '<span class="math notranslate nohighlight">\\(z_1\\)</span>'
    mended = mended_pages.mend(f"of {formula}, and of {formula} too")
    assert mended == f'of <span class="unbroken">{formula},</span> and of {formula} too'
    assert mended_pages.mend(mended) == mended


def test_a_figure_that_a_notebook_does_not_have_is_refused(drawn):
    with pytest.raises(ValueError, match="a.ipynb has no stored figure named 'fig-b': run it"):
        notebook_figures.read_figure(drawn, "fig-b")
    for text in ('"alt": "A box"', '"caption": "Grey."'):
        lacking = drawn.with_name("lacking.ipynb")
        lacking.write_text(drawn.read_text().replace(text, '"other": 1'))
        with pytest.raises(ValueError, match="figure 'fig-a' needs an alt text and a caption"):
            notebook_figures.read_figure(lacking, "fig-a")


def test_every_label_of_the_book_has_a_marked_test():
    text = "\n".join(path.read_text("utf-8") for path in SOURCES)
    labels = set(re.findall(r"^\$\$ \((eq-[\w-]+)\)", text, re.MULTILINE))
    assert len(labels) >= 20
    assert labels == set(equation_tests.collect_tests(PROJECT))


def test_hidden_folders_are_no_part_of_the_book():
    """The test runner and editors leave Markdown in theirs, which would stop a strict build."""
    config = yaml.safe_load((PROJECT / "_config.yml").read_text("utf-8"))
    assert {".*", "**/.*", "_build"} <= set(config["exclude_patterns"])


def test_docstrings_refer_to_existing_equations():
    known = set(equation_tests.collect_tests(PROJECT))
    for path in (PROJECT / "hvae_course").rglob("*.py"):
        assert set(re.findall(r":eq:`([\w-]+)`", path.read_text("utf-8"))) <= known, path


def test_every_figure_of_a_page_has_alt_text():
    for page in PAGES:
        text = page.read_text("utf-8")
        figures = re.findall(r"```\{(?:figure|image)\}.*?```", text, re.DOTALL)
        assert all(":alt: " in figure for figure in figures), page
        assert all(len(alt) > 20 for alt in re.findall(r"!\[(.*?)\]\(", text)), page


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_box_of_a_page_is_closed(page):
    opened: list[str] = []
    for line in page.read_text("utf-8").split("\n"):
        match = re.fullmatch(r"\s*(`{3,}|:{3,})(.*)", line)
        if match is None:
            assert "```" not in line, line
        elif not match[2].strip() and opened and match[1] == opened[-1]:
            opened.pop()
        else:
            opened.append(match[1])
    assert not opened


def tracked_texts():
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(git, cwd=PROJECT, capture_output=True, text=True).stdout.splitlines()
    if not names:
        pytest.skip("needs a git checkout")
    for path in (PROJECT / name for name in names):
        try:
            yield path, path.read_text("utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue


def test_every_link_to_the_repository_has_the_address_of_pyproject():
    own = set_repository.current()
    link = re.compile(
        r"(?:https://|//|\b)(?:github\.com|colab\.research\.google\.com/github)/([\w.-]+/[\w-]+)"
    )
    found = set()
    for path, text in tracked_texts():
        if path == Path(__file__):
            continue
        for repository in link.findall(text):
            assert repository in FOREIGN | {own, "owner/name"}, path
            found.add(path.name)
    expected = {"_config.yml", "README.md", "CITATION.cff", "index.md", "01_two_level_vae.ipynb"}
    assert expected <= found


def test_one_command_changes_the_address_everywhere(tmp_path, monkeypatch):
    old = set_repository.current()
    for path, text in tracked_texts():
        target = tmp_path / path.relative_to(PROJECT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "-A"], cwd=tmp_path, check=True)
    monkeypatch.setattr(set_repository, "PROJECT", tmp_path)
    set_repository.main("https://github.com/somebody/elsewhere/")
    assert set_repository.current() == "somebody/elsewhere"
    kept = [
        p
        for p in tmp_path.rglob("*")
        if p.is_file() and ".git" not in p.relative_to(tmp_path).parts
    ]
    assert not [p for p in kept if f"/{old}" in p.read_text("utf-8") and p.name != "test_book.py"]


@pytest.mark.parametrize("address", ["", "github.com/a/b", "https://example.org/a/b"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(SystemExit, match="expected URL=https://github.com/owner/name"):
        set_repository.main(address)
