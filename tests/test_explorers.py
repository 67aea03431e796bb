"""The explorers of chapters 1, 2 and 4: their numbers, and how they react."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import chromium, listening
from matplotlib.image import imsave
from sphinx_site import build_site

from benchmarks import collapse_recording
from benchmarks.remedies import remedies
from hvae_course import data
from hvae_course.gaussians import diag_normal, kl_normal
from hvae_course.oracles import SharedCause, optimise_link
from hvae_course.posteriors import precision_weighted_merge

PROJECT = Path(__file__).parent.parent
RECORDING = PROJECT / "book/figures/collapse_recording.json"
PAGE = """
.. explorer:: still.png
   :script: explorer_parts.js {name}_explorer.js
   :alt: What the {name} explorer shows.
"""


@pytest.fixture(scope="module")
def recording():
    return json.loads(RECORDING.read_text("utf-8"))


# The recording


def test_the_recording_holds_every_epoch_of_every_run_and_stays_small(recording):
    assert RECORDING.stat().st_size < 250_000
    runs = recording["runs"]
    assert [run["title"] for run in runs] == [*collapse_recording.SHOWN.values()]
    assert {len(run["information"]) for run in runs} == {collapse_recording.EPOCHS + 1}
    assert {*collapse_recording.SHOWN} <= {*remedies()}
    warm = [run["title"] for run in runs if "weights" in run]
    assert warm == ["warm-up, both levels", "warm-up, z\u2082 last"]
    assert runs[2]["weights"][10] == [1.0, pytest.approx(1 / 3, abs=1e-3)]


def test_the_recording_begins_as_its_program_does(recording):
    shown = [*collapse_recording.SHOWN].index("one hidden layer")
    recorded = recording["runs"][shown]
    run = collapse_recording.record("one hidden layer", data.load("digits"), epochs=1)
    begins = [[pytest.approx(nats, abs=0.05) for nats in epoch] for epoch in run["information"]]
    assert recorded["information"][:2] == begins
    found, expected = (collapse_recording.images(r, recording)[:2] for r in (run, recorded))
    assert np.abs(found.astype(int) - expected).max() <= 2


# In a browser


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def make_site(folder, page, data):
    """Build one page; the address of the page and its HTML."""
    imsave(folder / "still.png", torch.rand(40, 60).numpy())
    (folder / "recording.json").write_text(data)
    with pytest.MonkeyPatch.context() as monkeypatch:
        html = build_site(
            folder,
            monkeypatch,
            page=page + "   :data: recording.json\n",
            settings='html_theme_options = {"body_min_width": 0}\n'
            'extensions = ["explorers"]\nhtml_css_files = ["course.css"]\n'
            f'html_static_path = ["{PROJECT / "book/_static"}"]\n',
        )
    return (folder / "_build/index.html").as_uri(), html


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    page = "".join(PAGE.format(name=name) for name in ("trap", "merge", "collapse"))
    address, html = make_site(tmp_path_factory.mktemp("site"), page, RECORDING.read_text("utf-8"))
    assert html.count('src="_static/explorer_parts.js') == 1
    assert html.index("explorer_parts.js") < html.index("trap_explorer.js")
    return address


@pytest.fixture
def show(browser, site):
    with listening(browser, site) as run:
        yield run


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["elbo", "closed_form"])
@pytest.mark.parametrize("size", [1, 8])
def test_the_trap_explorer_has_the_values_of_the_package(show, objective, size):
    slopes = torch.tensor([0.0, 0.3, 0.7, 0.95, 0.99], dtype=torch.float64)
    best = optimise_link(objective, SharedCause(0.9, (0.25, 0.19), size), slope=slopes)
    drawn = show().evaluate(
        "([name, size, slopes]) => slopes.map(a => hvaeTrapExplorer.best(name, size, a))",
        [objective, size, slopes.tolist()],
    )
    for name, expected in (
        ("value", getattr(best.terms, objective)),
        ("information", best.terms.information_2),
        ("variance", best.model.variances[1]),
    ):
        found = torch.tensor([entry[name] for entry in drawn], dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_the_trap_explorer_marks_the_slope_that_the_package_learns(show):
    chosen = "([name, size]) => hvaeTrapExplorer.chosen(name, size)"
    tab = show()
    for objective, size in (("closed_form", 1), ("elbo", 8), ("closed_form", 8)):
        learned = optimise_link(objective, SharedCause(0.9, (0.25, 0.19), size)).model.slope
        assert tab.evaluate(chosen, [objective, size]) == pytest.approx(learned.item(), abs=1e-4)
    assert tab.evaluate("Number.isNaN(hvaeTrapExplorer.chosen('elbo', 1))")


@pytest.mark.slow
def test_the_trap_explorer_follows_slider_drag_and_switch(show):
    tab = show()
    box = tab.locator(".trap-explorer")
    slider = box.get_by_role("slider")
    cells = box.locator("tbody tr").first.locator("td")
    assert cells.all_inner_texts() == ["\u22121.531", "0.34", "any a"]
    slider.focus()
    tab.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "0.71"
    assert "a = 0.71" in box.locator("svg").get_attribute("aria-label")
    chart = box.locator("svg").bounding_box()
    tab.mouse.move(chart["x"] + chart["width"] / 2, chart["y"] + 50)
    tab.mouse.down()
    tab.mouse.move(chart["x"] + 64, chart["y"] + 60)
    tab.mouse.up()
    tab.mouse.move(chart["x"] + 300, chart["y"] + 60)
    assert slider.get_attribute("aria-valuetext") == "0.00"
    box.get_by_label("eight coordinates").check()
    assert cells.all_inner_texts() == ["\u221212.244", "0.00", "a = 0.90"]
    assert box.locator("svg path.top").count() == 2


@pytest.mark.slow
@pytest.mark.parametrize("given", [(0, 1, 2, 0.5), (-1.5, 2.5, 3, 0.5), (0, 1, 0, 1)])
def test_the_merge_explorer_has_the_values_of_the_package(show, given):
    prior, message = (
        diag_normal(torch.tensor([[mean]]).double(), torch.tensor(std).double().log())
        for mean, std in (given[:2], given[2:])
    )
    merged = precision_weighted_merge(message, prior)
    found = show().evaluate(
        "([a, b, c, d]) => hvaeMergeExplorer.merge({mean: a, std: b}, {mean: c, std: d})", given
    )
    precision = message.variance.reciprocal()
    share = precision / (precision + prior.variance.reciprocal())
    expected = {"mean": merged.mean, "std": merged.stddev, "kl": kl_normal(merged, prior)}
    expected |= {"share": share}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value.item(), abs=1e-4)


@pytest.mark.slow
def test_the_merge_explorer_follows_keys_and_the_pointer(show):
    tab = show()
    box = tab.locator(".merge-explorer")
    mean = box.get_by_role("slider", name="Mean of the message")
    assert box.locator("output").inner_text() == "1.685 nats"
    mean.focus()
    for key, value in (("ArrowLeft", "1.9"), ("PageDown", "0.9"), ("Home", "-4"), ("End", "4")):
        tab.keyboard.press(key)
        assert mean.get_attribute("aria-valuenow") == value
    box.get_by_role("button", name="Reset").click()
    assert mean.get_attribute("aria-valuenow") == "2"
    for name, moved in (("Mean of the prior", "-2"), ("Standard deviation of the prior", "2.5")):
        handle = box.get_by_role("slider", name=name)
        knob, chart = handle.locator(".knob").bounding_box(), box.locator("svg").bounding_box()
        way = -0.2 if moved == "-2" else 0.3
        tab.mouse.move(knob["x"] + knob["width"] / 2, knob["y"] + knob["height"] / 2)
        tab.mouse.down()
        tab.mouse.move(knob["x"] + knob["width"] / 2 + way * (chart["width"] - 76), knob["y"])
        tab.mouse.up()
        assert handle.get_attribute("aria-valuenow") == moved
        assert handle.evaluate("e => e === document.activeElement")
    assert "mean 1.846" in box.locator(".lines").inner_text()
    assert box.locator(".shares .value").inner_text() == "0.962"


@pytest.mark.slow
def test_a_finger_drags_a_handle_of_the_merge_explorer(show):
    tab = show(has_touch=True, viewport={"width": 390, "height": 844})
    handle = tab.get_by_role("slider", name="Mean of the message")
    handle.scroll_into_view_if_needed()
    assert handle.evaluate("e => getComputedStyle(e).touchAction") == "none"
    knob = handle.locator(".knob").bounding_box()
    x, y = knob["x"] + knob["width"] / 2, knob["y"] + knob["height"] / 2
    fingers = tab.context.new_cdp_session(tab)
    for kind, points in (
        ("touchStart", [{"x": x, "y": y}]),
        ("touchMove", [{"x": x - 60, "y": y}]),
        ("touchEnd", []),
    ):
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    tab.wait_for_function("e => e.ariaValueNow !== '2'", arg=handle.element_handle())
    assert float(handle.get_attribute("aria-valuenow")) < 1


@pytest.mark.slow
def test_the_collapse_explorer_shows_what_was_recorded(show, recording):
    tab = show()
    box = tab.locator(".collapse-explorer")
    rows, columns, side = (recording[key] for key in ("rows", "columns", "side"))
    box.get_by_label("epoch").fill("10")
    assert box.locator("output").inner_text() == "10 / 40"
    drawn = box.locator("canvas").evaluate_all(
        "all => all.map(c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data])"
    )
    for run, pixels in zip(recording["runs"], drawn, strict=True):
        images = collapse_recording.images(run, recording)[10]
        shape = (rows * (side + 1) - 1, columns * (side + 1) - 1, 4)
        seen = np.array(pixels, dtype=np.uint8).reshape(shape)
        for row, column in np.ndindex(rows, columns):
            top, left = row * (side + 1), column * (side + 1)
            tile = seen[top : top + side, left : left + side]
            assert (tile[..., 0] == 255 - images[row, column]).all()
            assert (tile[..., 3] == 255).all()
        assert (seen[side, :, 3] == 0).all()
    values = box.locator(".run").nth(2).locator(".bar > span:last-child").all_inner_texts()
    assert values == [
        f"{nats:.1f}".replace("-", "\u2212") for nats in recording["runs"][2]["information"][10]
    ]
    assert box.locator(".weights").nth(2).inner_text() == "KL weights 1.00, 0.33"


@pytest.mark.slow
def test_the_collapse_explorer_plays_when_asked_and_stops_at_the_end(show):
    tab = show()
    box = tab.locator(".collapse-explorer")
    button, epoch = box.get_by_role("button"), box.get_by_label("epoch")
    assert (button.inner_text(), epoch.input_value()) == ("Play", "40")
    epoch.fill("38")
    button.focus()
    tab.keyboard.press("Enter")
    assert button.inner_text() == "Pause"
    tab.wait_for_function("document.querySelector('.collapse-explorer input').value === '40'")
    assert button.inner_text() == "Play"
    button.click()
    epoch.focus()
    tab.keyboard.press("ArrowRight")
    stopped = epoch.input_value()
    tab.wait_for_timeout(500)
    assert (button.inner_text(), epoch.input_value()) == ("Play", stopped)
    assert int(stopped) < 40


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 390, 1280])
def test_explorers_fit_the_page_and_follow_the_theme(show, width):
    tab = show(viewport={"width": width, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator("figure img").count() == 0
    colours = {}
    for theme in ("light", "dark"):
        tab.evaluate("theme => (document.documentElement.dataset.theme = theme)", theme)
        for part in (".trap-explorer path.elbo", ".merge-explorer path.message"):
            style = "e => getComputedStyle(e).stroke"
            colours[theme, part] = tab.locator(part).first.evaluate(style)
    assert len(set(colours.values())) == 4


@pytest.mark.slow
def test_the_images_stay_where_scripts_are_off(show):
    tab = show(java_script_enabled=False)
    assert tab.get_by_alt_text("What the merge explorer shows.").is_visible()


@pytest.mark.slow
def test_numbers_that_round_to_zero_have_no_sign(show):
    written = "hvaeExplorerParts.nats(-0.0004, 3)"
    assert show().evaluate(written) == "0.000"
    assert show().evaluate(written.replace("0.0004", "0.0006")) == "\u22120.001"


@pytest.mark.slow
def test_a_tap_moves_the_slope_and_a_finger_that_scrolls_does_not(show):
    tab = show(has_touch=True, viewport={"width": 360, "height": 640})
    box, slope = tab.locator(".trap-explorer svg"), tab.locator(".trap-explorer input[max]")
    box.scroll_into_view_if_needed()
    chart = box.bounding_box()
    x, y = chart["x"] + 150, chart["y"] + 150
    fingers = tab.context.new_cdp_session(tab)
    for kind, way in (("touchStart", 0), *(("touchMove", i) for i in range(1, 10))):
        points = [{"x": x, "y": y - 12 * way}]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    tab.wait_for_function("scrollY > 0")
    assert slope.get_attribute("aria-valuetext") == "0.70"
    box.tap(position={"x": 150, "y": 150})
    assert slope.get_attribute("aria-valuetext") != "0.70"


@pytest.mark.slow
def test_explorers_of_a_page_are_apart_and_one_that_fails_leaves_its_image(browser, tmp_path):
    page = "".join(PAGE.format(name=name) for name in ("trap", "trap", "collapse"))
    address, _ = make_site(tmp_path, page, '{"runs": []}')
    with listening(browser, address) as run:
        tab = run()
        eight = tab.get_by_role("radio", name="eight")
        eight.first.check()
        assert [eight.nth(i).is_checked() for i in range(2)] == [True, False]
        eight.last.check()
        assert eight.first.is_checked()
        failed = tab.locator(".collapse-explorer")
        assert failed.get_by_role("img").is_visible()
        assert "did not start" in failed.inner_text()
