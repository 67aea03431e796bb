"""The layer explorer: its file, and the page that runs the model."""

import base64
import json
import re
from pathlib import Path

import pytest
import torch
from browser import chromium, listening
from matplotlib.image import imsave
from sphinx_site import build_site

from benchmarks import layer_explorer
from benchmarks.layer_explorer import SPEC, chosen_rows, deviations, load_model, relative
from hvae_course.hierarchy import common_noise, hold

PROJECT = Path(__file__).parent.parent
PATH = layer_explorer.FOLDER / "layer_explorer.json"
SIZES = (12, 6, 2)
PAGE = """
.. explorer:: still.png
   :script: explorer_parts.js layer_explorer.js
   :data: layer_explorer.json
   :alt: Maps of three levels.

   A caption.
"""


@pytest.fixture(scope="module")
def written():
    return json.loads(PATH.read_text())


@pytest.fixture(scope="module")
def model(written):
    return load_model(written)


def test_file_has_the_sizes_of_the_model_and_twenty_digits(written):
    assert tuple(written["latent_sizes"]) == layer_explorer.EXPERIMENT.model.latent_sizes == SIZES
    assert [digit["label"] for digit in written["digits"]] == sorted(2 * list(range(10)))
    for digit in written["digits"]:
        assert len(base64.b64decode(digit["pixels"])) == SPEC.num_features
        assert tuple(map(len, digit["means"])) == tuple(map(len, digit["stds"])) == SIZES


def test_weights_take_less_than_700_kb_and_the_file_less_than_1_mb(written):
    assert len(base64.b64decode(written["weights"])) < 700_000
    assert PATH.stat().st_size < 1_000_000


def test_every_level_carries_information(written):
    assert min(written["information"]) > 2
    means = torch.tensor([digit["kl"] for digit in written["digits"]]).mean(dim=0)
    assert (means > 2).all()


def test_writing_a_model_that_was_read_gives_the_same_weights(written, model):
    again = layer_explorer.networks_data(model.top_down)
    assert again == {name: written[name] for name in again}


def test_directions_are_orthonormal(written):
    for rows, size in zip(written["directions"], SIZES, strict=True):
        plane = torch.tensor(rows)
        assert plane.shape == (2, size)
        torch.testing.assert_close(plane @ plane.mT, torch.eye(2), rtol=0, atol=1e-4)


def test_digits_are_the_first_two_of_each_class():
    labels = torch.tensor([1, 0, 1, 1, 0, 0])
    assert chosen_rows(labels).tolist() == [1, 4, 0, 2]


def test_a_digit_decoded_from_its_means_is_near_the_digit(written, model):
    means = zip(*(digit["means"] for digit in written["digits"]), strict=True)
    latents = {l: torch.tensor(rows) for l, rows in enumerate(means, start=1)}
    images = model.generate(20, hold(latents)).px.mean
    pixels = [base64.b64decode(digit["pixels"]) for digit in written["digits"]]
    x = torch.tensor([list(rows) for rows in pixels])
    distances = torch.cdist(images, x.float())
    assert distances.argmin(dim=1).tolist() == list(range(20))


def test_placing_levels_relative_to_their_priors_undoes_measuring_them(model):
    torch.manual_seed(0)
    trace = model.generate(5)
    again = model.generate(5, relative(deviations(trace)))
    for a, b in zip(trace.levels, again.levels, strict=True):
        torch.testing.assert_close(a.z, b.z, rtol=0, atol=1e-4)


# In a browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    imsave(folder / "still.png", torch.rand(40, 60).numpy())
    (folder / "layer_explorer.json").write_text(PATH.read_text())
    with pytest.MonkeyPatch.context() as monkeypatch:
        build_site(
            folder,
            monkeypatch,
            page=PAGE,
            settings='extensions = ["explorers"]\nhtml_css_files = ["course.css"]\n'
            f'html_static_path = ["{PROJECT / "book/_static"}"]\n',
        )
    return folder / "_build/index.html"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def show(browser, site):
    with listening(browser, site.as_uri()) as run:
        yield run


def pad(tab, level):
    return tab.get_by_label(f"Point of z_{level}")


def at(tab, level):
    """Where the point of a level stands, as it is read out."""
    text = pad(tab, level).get_attribute("aria-valuetext").replace("\u2212", "-")
    right, up = re.fullmatch(r"(-?[\d.]+) to the right, (-?[\d.]+) up", text).groups()
    return float(right), float(up)


def picture(tab):
    return tab.locator("canvas.image").evaluate("canvas => canvas.toDataURL()")


def status(tab):
    return tab.get_by_role("status").inner_text()


def walk(tab, levels, temperature=1):
    """What the page's functions compute, from levels bottom to top."""
    call = """([levels, temperature]) => {
      const { read, walk } = hvaeLayerExplorer;
      const text = document.querySelector('script[type="application/json"]').textContent;
      const found = walk(read(JSON.parse(text)), levels, temperature);
      return { ...found, image: Array.from(found.image) };
    }"""
    return tab.evaluate(call, [levels, temperature])


@pytest.mark.slow
def test_the_page_is_smaller_than_2_mb(site):
    scripts = PROJECT / "book/_static/layer_explorer.js"
    assert site.stat().st_size + scripts.stat().st_size < 2_000_000


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0, 0.7, 1])
def test_the_browser_computes_what_the_package_does(show, model, temperature):
    tab, generator = show(), torch.Generator().manual_seed(1)
    for _ in range(5):
        noise = [torch.randn(1, size, generator=generator) for size in SIZES]
        trace = model.generate(1, common_noise([temperature * values for values in noise]))
        found = walk(tab, [{"noise": values[0].tolist()} for values in noise], temperature)
        image = torch.tensor([found["image"]])
        torch.testing.assert_close(image, trace.px.mean, rtol=0, atol=1e-4)
        for level, place in zip(trace.levels, found["levels"], strict=True):
            mean, std, z = (torch.tensor([place[name]]).float() for name in ("mean", "std", "z"))
            torch.testing.assert_close(mean, level.p.mean, rtol=0, atol=1e-4)
            torch.testing.assert_close(std, level.p.stddev, rtol=0, atol=1e-4)
            torch.testing.assert_close(z, level.z, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_held_level_keeps_its_latent_and_is_measured_against_its_new_prior(show, model):
    tab = show()
    latents = {2: torch.linspace(-1, 1, 6)[None]}
    top = torch.tensor([[2.0, -1.0]])
    levels = [{"noise": [0] * 12}, {"held": latents[2][0].tolist()}, {"set": top[0].tolist()}]
    found = walk(tab, levels)
    trace = model.generate(1, hold(latents | {3: top}, relative({})))
    e = torch.tensor([found["levels"][1]["e"]])
    torch.testing.assert_close(e, deviations(trace)[2], rtol=0, atol=1e-4)
    image = torch.tensor([found["image"]])
    torch.testing.assert_close(image, trace.px.mean, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_the_page_starts_with_a_digit_and_its_information(show, written):
    tab, digit = show(), written["digits"][written["start"]]
    assert status(tab) == f"Test digit {digit['label']}"
    shown = tab.locator(".nats .value").all_inner_texts()
    assert shown == [f"{value:.1f}" for value in reversed(digit["kl"])]
    assert "Information" in tab.locator(".nats .title").inner_text()
    tab.get_by_label("Start from test digit 3, number 7 of 20").click()
    assert status(tab) == "Test digit 3"
    assert tab.locator(".note").inner_text().count("validation images") == 1


@pytest.mark.slow
@pytest.mark.parametrize("level", [1, 2, 3])
def test_arrow_keys_move_the_point_and_the_image(show, level):
    tab = show()
    pad(tab, level).focus()
    tab.keyboard.press("Home")
    assert at(tab, level) == (0, 0)
    before, scroll = picture(tab), tab.evaluate("scrollY")
    for key, there in (
        ("Shift+ArrowRight", (0.5, 0)),
        ("ArrowUp", (0.5, 0.1)),
        ("Shift+ArrowDown", (0.5, -0.4)),
        ("ArrowLeft", (0.4, -0.4)),
    ):
        tab.keyboard.press(key)
        assert at(tab, level) == there
    assert picture(tab) != before
    assert tab.evaluate("scrollY") == scroll
    assert status(tab).endswith(f", z{chr(0x2080 + level)} changed")
    for _ in range(10):
        tab.keyboard.press("Shift+ArrowRight")
    assert at(tab, level)[0] == 3


@pytest.mark.slow
def test_noise_of_the_levels_below_stays_while_the_top_moves(show):
    tab = show()
    tab.get_by_label("Redraw below z_3").click()
    below, before = (at(tab, 1), at(tab, 2)), picture(tab)
    pad(tab, 3).press("Shift+ArrowRight")
    assert picture(tab) != before
    assert (at(tab, 1), at(tab, 2)) == below
    tab.get_by_label("Redraw below z_3").click()
    assert at(tab, 2) != below[1]


@pytest.mark.slow
def test_at_temperature_zero_drawn_levels_take_the_means_of_their_priors(show):
    tab = show()
    top = at(tab, 3)
    tab.get_by_label("Redraw below z_3").click()
    tab.get_by_label("Temperature").fill("0")
    assert [at(tab, level) for level in (1, 2, 3)] == [(0, 0), (0, 0), top]
    assert tab.locator(".nats .value").all_inner_texts()[1:] == ["0.0", "0.0"]


@pytest.mark.slow
def test_a_held_level_moves_relative_to_its_prior_and_survives_a_new_draw(show):
    tab = show()
    tab.get_by_label("Hold z_2").click()
    assert tab.get_by_label("Hold z_2").get_attribute("aria-pressed") == "true"
    before = at(tab, 2)
    for _ in range(4):
        pad(tab, 3).press("Shift+ArrowRight")
    after = at(tab, 2)
    assert after != before
    tab.get_by_label("Redraw z_2").click()
    assert at(tab, 2) == after
    tab.get_by_text("Reset").click()
    assert at(tab, 2) == before
    assert tab.get_by_label("Hold z_2").get_attribute("aria-pressed") == "false"


@pytest.mark.slow
def test_reset_gives_the_first_image_again(show):
    tab = show()
    first = picture(tab)
    tab.get_by_text("Draw all from the prior").click()
    assert picture(tab) != first
    tab.get_by_text("Reset").click()
    assert picture(tab) == first


@pytest.mark.slow
@pytest.mark.parametrize("width", [376, 1280])  # with 8 pixels of margin on each side
def test_the_explorer_fits_the_page_and_a_tap_moves_a_point(show, width):
    tab = show(viewport={"width": width, "height": 844}, has_touch=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    box = pad(tab, 2).bounding_box()
    pad(tab, 2).tap(position={"x": 0.75 * box["width"], "y": 0.25 * box["height"]})
    right, up = at(tab, 2)
    assert right == up == pytest.approx(3.375 / 2, abs=0.1)
    assert pad(tab, 2).evaluate("e => getComputedStyle(e).touchAction") == "none"


@pytest.mark.slow
def test_every_control_is_reached_by_keyboard_and_has_a_name(show):
    tab = show()
    stops = tab.locator(".layers :is(button, input, [tabindex])")
    names = stops.evaluate_all("all => all.map(e => e.ariaLabel || e.textContent)")
    assert len(names) == len(set(names)) == 20 + 2 + 1 + 3 + 3 + 3 + 2
    tab.locator(".digits button").last.focus()
    for name in ("Draw all from the prior", "Reset", "Temperature", "Point of z_3", "Hold z_3"):
        tab.keyboard.press("Tab")
        focused = "document.activeElement.ariaLabel || document.activeElement.textContent"
        assert tab.evaluate(focused) == name


@pytest.mark.slow
def test_every_map_is_drawn_and_follows_the_theme(show):
    tab, shown = show(), {}
    for theme in ("light", "dark"):
        tab.evaluate("theme => (document.documentElement.dataset.theme = theme)", theme)
        cells = """canvas => {
          const copy = document.createElement('canvas');
          copy.width = copy.height = 252;
          const context = copy.getContext('2d', { willReadFrequently: true });
          context.drawImage(canvas, 0, 0);
          const pixels = context.getImageData(0, 0, 252, 252).data;
          const inked = new Set();
          for (let i = 0; i < 252 * 252; i++) if (pixels[4 * i + 3] > 100)
            inked.add(9 * Math.floor(i / 252 / 28) + Math.floor((i % 252) / 28));
          return inked.size;
        }"""
        every = f"[...document.querySelectorAll('.pad canvas')].every(c => ({cells})(c) === 81)"
        tab.wait_for_function(every)
        picture_of = "document.querySelector('.pad canvas').toDataURL()"
        tab.wait_for_function(f"before => {picture_of} !== before", arg=shown.get("light"))
        shown[theme] = tab.evaluate(picture_of)
    assert shown["light"] != shown["dark"]


@pytest.mark.slow
def test_the_image_glides_to_another_digit_unless_less_motion_is_preferred(show):
    tab = show("no-preference")
    before = picture(tab)
    tab.get_by_label("Start from test digit 0, number 1 of 20").click()
    tab.wait_for_function("() => document.querySelector('.status').textContent === 'Test digit 0'")
    tab.wait_for_timeout(500)
    arrived = picture(tab)
    still = show()
    still.get_by_label("Start from test digit 0, number 1 of 20").click()
    assert picture(still) == arrived != before


@pytest.mark.slow
def test_the_image_stays_where_scripts_are_off(show):
    tab = show(java_script_enabled=False)
    assert tab.get_by_alt_text("Maps of three levels.").is_visible()
