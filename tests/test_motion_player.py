"""The animation of motions: its data, its directive, and the page that plays it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from browser import chromium, listening
from matplotlib.image import imsave
from sphinx.errors import ExtensionError
from sphinx_site import build_site

from benchmarks.motion_player import TALLEST, PlayedPath, player_data
from hvae_course import plots

PROJECT = Path(__file__).parent.parent
NAMES = ("root", "lhip", "lfoot", "rhip", "rfoot", "neck", "head")
PARENTS = (-1, 0, 1, 0, 3, 0, 5)
BODY = torch.tensor(
    [[0, 0, 0], [1, 0, 0], [1, -4, 0], [-1, 0, 0], [-1, -4, 0], [0, 2, 0], [0, 4, 0]],
    dtype=torch.float64,
)
FRAMES = 5
JUMP = 2
"""The frame of the last path that a jump leads to."""


def paths(frames=FRAMES, body=BODY):
    """Two paths of each of two models, the last with a jump; the legs swing."""
    found = []
    for model in ("VAE", "VHP"):
        for path in ("graph", "line"):
            positions = body.expand(frames, *body.shape).clone()
            positions[:, 2, 2] += torch.arange(frames) / frames
            steps = torch.full((frames - 1,), 3.26)
            if (model, path) == ("VHP", "line"):
                steps[JUMP - 1] = 81.0
            found.append(PlayedPath(model, path, "walking", "running", positions, steps))
    return found


@pytest.fixture(scope="module")
def data():
    return player_data(paths(), NAMES, PARENTS, jump=20, fps=50)


def test_frames_are_what_stick_figures_draw_to_half_a_unit(data):
    seen = torch.from_numpy(plots.standing(torch.stack([p.positions for p in paths()])))
    frames = torch.tensor([path["frames"] for path in data["paths"]]).reshape(4, FRAMES, -1, 2)
    assert frames.amin((0, 1, 2)).tolist() == [0, 0]
    assert frames.amax((0, 1, 2)).tolist() == [data["width"], data["height"]]
    assert data["height"] == TALLEST
    unit = seen[..., 1].max() / TALLEST
    shift = torch.stack([seen[..., 0].min(), torch.tensor(0.0)])
    torch.testing.assert_close(frames * unit, seen - shift, rtol=0, atol=0.501 * unit.item())


def test_every_frame_has_the_step_that_leads_to_it(data):
    assert [path["steps"] for path in data["paths"][:3]] == [[0.0, 3.3, 3.3, 3.3, 3.3]] * 3
    assert data["paths"][3]["steps"] == [0.0, 3.3, 81.0, 3.3, 3.3]
    assert data["paths"][3]["model"] == "VHP"


def test_eight_paths_of_fifty_frames_and_31_joints_stay_below_150_kb():
    many = [p for _ in range(2) for p in paths(50, torch.randn(31, 3))]
    written = json.dumps(player_data(many, ["j"] * 31, [-1, *range(30)], jump=20))
    assert len(written) < 150_000


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"paths": []}, r"one shape \(T, J, 3\), got \[\]"),
        ({"paths": [*paths(4), *paths(5)]}, r"one shape .*\(4, 7, 3\).*\(5, 7, 3\)"),
        ({"names": NAMES[:-1]}, "7 joints need as many names and parents, got 6 and 7"),
        ({"parents": [-1]}, "got 7 and 1"),
        ({"parents": [-1, 0, 1, 0, 3, 0, 7]}, "one of the 7 joints, got 7"),
        (
            {"paths": [replace(path, positions=path.positions[None]) for path in paths()]},
            r"one shape \(T, J, 3\), got .*\(1, 5, 7, 3\)",
        ),
    ],
)
def test_paths_that_do_not_belong_together_are_refused(changed, text):
    with pytest.raises(ValueError, match=text):
        player_data(**{"paths": paths(), "names": NAMES, "parents": PARENTS, "jump": 20} | changed)


def test_steps_of_another_length_are_refused():
    (first, *_) = paths()
    wrong = PlayedPath("VAE", "line", "a", "b", first.positions, torch.ones(FRAMES))
    with pytest.raises(ValueError, match=r"5 frames have 4 steps, got .* \(5,\) for VAE, line"):
        player_data([wrong], NAMES, PARENTS, jump=20)
    steps = torch.full((FRAMES - 1,), torch.nan)
    wrong = PlayedPath("VAE", "line", "a", "b", first.positions, steps)
    with pytest.raises(ValueError, match="steps must be finite, got NaN or infinity for VAE"):
        player_data([wrong], NAMES, PARENTS, jump=20)


def test_parents_may_be_an_array_and_a_body_a_point():
    flat = [replace(path, positions=path.positions * 0) for path in paths()]
    written = json.loads(json.dumps(player_data(flat, NAMES, torch.tensor(PARENTS), jump=20)))
    assert written["parents"] == list(PARENTS)
    assert (written["width"], written["height"]) == (0, 0)


PAGE = """
.. explorer:: still.png
   :script: explorer_parts.js motion_player.js
   :data: motion.json
   :alt: Figures that walk.

   A caption.
"""


def make_page(folder, monkeypatch, data, page=PAGE):
    imsave(folder / "still.png", torch.rand(40, 60).numpy())
    (folder / "motion.json").write_text(data)
    (folder / "other.rst").write_text(":orphan:\n\nOther\n=====\n")
    return build_site(
        folder,
        monkeypatch,
        page=page,
        settings='extensions = ["explorers"]\nhtml_css_files = ["course.css"]\n'
        f'html_static_path = ["{PROJECT / "book/_static"}"]\n',
    )


def test_only_a_page_with_an_animation_loads_its_script(tmp_path, monkeypatch):
    page = make_page(tmp_path, monkeypatch, '{"model": "</script>"}')
    assert 'src="_static/motion_player.js' in page
    assert "motion_player.js" not in (tmp_path / "_build/other.html").read_text()
    (text,) = page.split('<script type="application/json">')[1:]
    assert json.loads(text.split("</script>")[0]) == {"model": "</script>"}


@pytest.mark.parametrize(
    ("data", "page", "text"),
    [
        ("{}", PAGE.replace("   :alt: Figures that walk.\n", ""), "needs the option 'alt'"),
        (
            "{}",
            PAGE.replace("   :script: explorer_parts.js motion_player.js\n", ""),
            "needs the option 'script'",
        ),
        ("{}", PAGE.replace("motion_player.js", "none.js"), "finds no script _static/none.js"),
        ("{}", PAGE.replace("motion.json", "none.json"), "cannot show none.json"),
        ("{", PAGE, "cannot show motion.json"),
        ("[NaN]", PAGE, "cannot show motion.json"),
    ],
)
def test_an_animation_without_alt_text_or_data_is_refused(tmp_path, monkeypatch, data, page, text):
    with pytest.raises(ExtensionError, match=text):
        make_page(tmp_path, monkeypatch, data, page)


# In a browser


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_page(folder, monkeypatch, json.dumps(data))
    return (folder / "_build/index.html").as_uri()


@pytest.fixture
def show(browser, site):
    with listening(browser, site) as run:
        yield run


def shown(tab):
    return tab.locator(".player output").inner_text()


@pytest.mark.slow
def test_motions_play_at_once_and_again_after_their_end(show):
    tab = show("no-preference")
    for frame in ("3 / 5", "5 / 5", "2 / 5"):
        tab.wait_for_function("f => document.querySelector('output').value === f", arg=frame)
    assert tab.locator("button").inner_text() == "Pause"
    tab.locator("button").click()
    stopped = shown(tab)
    tab.wait_for_timeout(100)
    assert shown(tab) == stopped


@pytest.mark.slow
def test_where_less_motion_is_preferred_nothing_moves_until_asked(show, data):
    tab = show()
    tab.wait_for_timeout(100)
    assert (shown(tab), tab.locator("button").inner_text()) == ("1 / 5", "Play")
    assert tab.locator("figure img").count() == 0
    player = tab.get_by_role("group", name="motion player")
    assert player.get_attribute("aria-description") == "Figures that walk."
    tab.locator("button").click()
    tab.wait_for_function("document.querySelector('output').value !== '1 / 5'")


@pytest.mark.slow
def test_every_bone_is_drawn_where_the_data_have_it(show, data):
    tab = show()
    tab.locator(".player").focus()
    tab.keyboard.press("End")
    drawn = tab.locator("svg").evaluate_all(
        "all => all.map(s => Object.fromEntries(['left', 'middle', 'right'].map("
        "c => [c, s.querySelector('path.' + c).getAttribute('d')])))"
    )
    assert len(drawn) == 4
    for figure, path in zip(drawn, data["paths"], strict=True):
        points = torch.tensor(path["frames"][-1]).reshape(-1, 2).tolist()
        place = [f"{x} {data['height'] - y}" for x, y in points]
        for side, joints in (("left", (1, 2)), ("right", (3, 4)), ("middle", (5, 6))):
            assert figure[side] == "".join(f"M{place[PARENTS[j]]}L{place[j]}" for j in joints)


@pytest.mark.slow
def test_keys_and_slider_move_through_the_frames(show):
    tab = show()
    tab.locator(".player").focus()
    for key, frame in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("End", 5)):
        tab.keyboard.press(key)
        assert shown(tab) == f"{frame} / 5"
    tab.keyboard.press("ArrowRight")
    assert shown(tab) == "5 / 5"
    tab.get_by_label("Frame").fill("1")
    assert shown(tab) == "2 / 5"
    tab.keyboard.press("ArrowRight")
    assert shown(tab) == "3 / 5"
    before = tab.evaluate("scrollY")
    for button in ("Pause", "Play"):
        tab.keyboard.press("Space")
        assert tab.locator("button").inner_text() == button
    assert tab.evaluate("scrollY") == before
    tab.locator("button").focus()
    tab.keyboard.press("Space")
    assert tab.locator("button").inner_text() == "Pause"


@pytest.mark.slow
def test_a_box_is_around_the_figure_that_jumps_while_it_does(show):
    tab = show()
    boxes = tab.locator("svg rect.jump")
    seen = []
    for frame in range(FRAMES):
        tab.get_by_label("Frame").fill(str(frame))
        seen += [(frame, i) for i in range(boxes.count()) if boxes.nth(i).is_visible()]
    assert seen == [(JUMP, 3)]
    tab.get_by_label("Frame").fill(str(JUMP))
    value = tab.get_by_label("Frame").get_attribute("aria-valuetext")
    assert value == "frame 3 of 5, jump"
    tick, slider = (tab.locator(s).bounding_box() for s in (".ticks i", ".track input"))
    middle = slider["x"] + slider["width"] / 2
    assert abs(tick["x"] + tick["width"] / 2 - middle) < 1
    assert "1 jump, largest step\u00a081°" in tab.locator(".walker").nth(3).inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_the_animation_fits_the_page_and_a_tap_plays_it(show, width):
    tab = show(viewport={"width": width, "height": 844}, has_touch=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.locator("svg").first.tap()
    assert tab.locator("button").inner_text() == "Pause"


@pytest.mark.slow
def test_colours_follow_the_theme(show):
    tab = show()
    colours = {}
    for theme in ("light", "dark"):
        tab.evaluate("theme => (document.documentElement.dataset.theme = theme)", theme)
        for part in ("path.left", "path.right", "rect.jump"):
            style = "e => getComputedStyle(e).stroke"
            colours[theme, part] = tab.locator(f"svg {part}").first.evaluate(style)
    assert len(set(colours.values())) == 6


@pytest.mark.slow
def test_the_image_stays_where_scripts_are_off(show):
    tab = show(java_script_enabled=False)
    assert tab.get_by_alt_text("Figures that walk.").is_visible()
