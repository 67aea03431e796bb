"""The built site in a browser: every page, from a server and from the file system."""

import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from browser import chromium

PROJECT = Path(__file__).parent.parent
SITE = PROJECT / "_build/html"
CONFIG = yaml.safe_load((PROJECT / "_config.yml").read_text("utf-8"))
REDIRECTS = CONFIG["sphinx"]["config"]["redirects"]
PHONE = 360
LARGEST = 2_000_000
"""Bytes of a page with its own images and data, without what all pages share."""


def listed(entry):
    """Documents of the table of contents."""
    if isinstance(entry, dict):
        for key, value in entry.items():
            yield from [value] if key in ("root", "file") else listed(value)
    elif isinstance(entry, list):
        for part in entry:
            yield from listed(part)


PAGES = [*listed(yaml.safe_load((PROJECT / "_toc.yml").read_text("utf-8")))]


@pytest.fixture(scope="module")
def built():
    """The strict build of the book; pages that have not changed are not written again."""
    program = Path(sys.executable).with_name("jupyter-book")
    strict = ["-W", "-n", "--keep-going", "--quiet"]
    build = subprocess.run([program, "build", ".", *strict], cwd=PROJECT, capture_output=True)
    if build.returncode:  # the next build would not warn again
        shutil.rmtree(PROJECT / "_build/.doctrees", ignore_errors=True)
    return build


@pytest.mark.slow
def test_the_book_is_built_without_a_warning(built):
    assert built.returncode == 0, built.stderr.decode()


@pytest.mark.slow
def test_every_link_within_the_site_leads_somewhere(built):
    pages = [path for path in SITE.rglob("*.html") if "_static" not in path.parts]
    texts = {path: path.read_text("utf-8") for path in pages}
    anchors = {path: {*re.findall(r'\b(?:id|name)="([^"]+)"', t)} for path, t in texts.items()}
    lost = []
    for path, text in texts.items():
        for link in re.findall(r'\b(?:href|src)="([^"]+)"', text):
            address, anchor = urldefrag(urljoin(path.as_uri(), link))
            if not address.startswith("file:"):
                continue
            target = Path(unquote(address.removeprefix("file://").partition("?")[0]))
            known = anchors.get(target, ())
            if not target.is_file() or (anchor and known and unquote(anchor) not in known):
                lost.append(f"{path.relative_to(SITE)}: {link}")
    assert not sorted(set(lost))


@pytest.fixture(scope="module")
def browser(built):
    if built.returncode:
        pytest.skip("page tests need the built site")
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def site():
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Visit:
    """A page in a tab of its own, with what it asked for and what it complained of."""

    def __init__(self, browser, root, page, **options):
        self.root = root
        size = {"width": 1280, "height": 900}
        self.context = browser.new_context(viewport=size, reduced_motion="reduce", **options)
        self.tab = self.context.new_page()
        self.complaints, self.outside, self.sizes = [], [], {}
        self.tab.on("console", self._hear)
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", self._note_address)
        self.tab.on("response", self._weigh)
        self.tab.goto(f"{root}/{page}.html")
        self.tab.evaluate("() => window.MathJax?.startup.promise")

    def _note_address(self, request):
        if not request.url.startswith((self.root, "data:", "blob:")):
            self.outside.append(request.url)

    def _hear(self, message):
        # a browser loads no fonts from the file system; the theme asks for its icons there
        fonts = "fontawesome" in message.text + message.location.get("url", "")
        if message.type in ("error", "warning") and not (
            fonts and self.tab.url.startswith("file:")
        ):
            self.complaints.append(message.text)

    def _weigh(self, response):
        if response.status >= 400:
            self.complaints.append(f"{response.status} {response.url}")
        elif "/_static/" not in response.url:
            self.sizes[response.url] = int(response.headers.get("content-length", 0))


@pytest.fixture
def visit(browser):
    """Open a page; what it complains of fails the test."""
    visits = []

    def run(root, page, **options):
        visits.append(Visit(browser, root, page, **options))
        return visits[-1]

    yield run
    for seen in visits:
        seen.context.close()
    assert [seen.complaints for seen in visits] == [[]] * len(visits)
    assert [seen.outside for seen in visits] == [[]] * len(visits)


WHOLE = """() => ({
    wrong: document.querySelectorAll('mjx-merror').length,
    left: [...document.querySelectorAll('.math')].filter(
        e => !e.querySelector('mjx-container')).length,
    broken: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
    nameless: [...document.images].filter(i => !i.alt).map(i => i.src),
    squeezed: [...document.images].filter(i => i.naturalWidth && i.width && Math.abs(
        i.width / i.height / (i.naturalWidth / i.naturalHeight) - 1) > 0.05).map(i => i.src),
})"""
COVERED = """() => [...document.querySelectorAll('div.math')].filter(box => {
    const number = box.querySelector('.eqno')?.getBoundingClientRect();
    const formula = box.querySelector('mjx-math')?.getBoundingClientRect();
    const seen = box.querySelector('mjx-container')?.getBoundingClientRect();
    return number && formula && number.left < Math.min(formula.right, seen.right) - 1
        && number.right > Math.max(formula.left, seen.left) + 1
        && number.top < formula.bottom - 1 && number.bottom > formula.top + 1;
}).map(box => box.id)"""


# axe-core reads neither formulas nor the MathML that they carry.
FORMULAS_AS_TEXT = """() => document.querySelectorAll('mjx-container').forEach(
    formula => formula.replaceWith('a formula'))"""
# Text of one kind has one colour, so two of a kind are enough to look at.
TWO_OF_A_KIND = """() => {
    const counts = new Map();
    for (const leaf of document.querySelectorAll('body *')) {
        if (leaf.childElementCount) continue;
        let kind = '';
        for (let e = leaf; e && e !== document.body; e = e.parentElement)
            kind += ` ${e.localName}.${e.className?.baseVal ?? e.className}`;
        counts.set(kind, (counts.get(kind) ?? 0) + 1);
        if (counts.get(kind) > 2) leaf.style.visibility = 'hidden';
    }
}"""


def findings(tab, **options):
    """What axe-core finds, as rule and element, but for matters of taste."""
    options |= {"resultTypes": ["violations"], "preload": False}
    found = Axe().run(tab, options=options).response["violations"]
    serious = [rule for rule in found if rule["impact"] != "minor"]
    return [(rule["id"], node["html"][:200]) for rule in serious for node in rule["nodes"]]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_whole_readable_and_light(visit, site, page):
    seen = visit(site, page)
    tab = seen.tab
    assert not any(tab.evaluate(WHOLE).values()), tab.evaluate(WHOLE)
    assert sum(seen.sizes.values()) < LARGEST
    for width in (PHONE, 390, 768):
        tab.set_viewport_size({"width": width, "height": 800})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert not tab.evaluate(COVERED)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_accessible_in_both_themes(visit, site, page):
    tab = visit(site, page).tab
    tab.evaluate(FORMULAS_AS_TEXT)
    assert not findings(tab, rules={"color-contrast": {"enabled": False}})
    tab.evaluate(TWO_OF_A_KIND)
    for theme in ("light", "dark"):
        tab.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        contrast = findings(tab, runOnly={"type": "rule", "values": ["color-contrast"]})
        assert not contrast, theme


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_works_from_the_file_system(visit, page):
    tab = visit(SITE.as_uri(), page).tab
    assert not any(tab.evaluate(WHOLE).values()), tab.evaluate(WHOLE)


@pytest.mark.slow
@pytest.mark.parametrize("files", [False, True])
def test_search_finds_a_word_of_a_chapter(browser, site, files):
    tab = browser.new_page()  # from files, a browser does not read the pages to quote from them
    tab.goto(f"{SITE.as_uri() if files else site}/search.html?q=precision")
    tab.locator("#search-results li a", has_text="Ladder merge").first.wait_for()
    tab.close()


@pytest.mark.parametrize(("old", "new"), REDIRECTS.items())
def test_an_old_address_is_free_and_leads_to_a_page(old, new):
    page = (PROJECT / old).parent / new
    assert not list(PROJECT.glob(f"{old}.*"))
    assert any(page.with_suffix(kind).exists() for kind in (".md", ".ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("book/06_learned_priors.html", "book/06_vhp_priors.html"),
        ("book/06_learned_priors.html#equation-eq-vhp", "book/06_vhp_priors.html#equation-eq-vhp"),
        ("book/06_learned_priors.html#ex-heuristic", "book/07_latent_graphs.html#ex-heuristic"),
        ("book/06_learned_priors.html#fig-rings", "book/07_latent_graphs.html#fig-rings"),
        ("notebooks/06_learned_priors.html", "notebooks/06_vhp_priors.html"),
        (
            "notebooks/exercises/06_learned_priors.html#sheet-shortest-path",
            "notebooks/exercises/07_latent_graphs.html#sheet-shortest-path",
        ),
    ],
)
def test_an_old_address_leads_to_its_section_from_the_file_system(browser, old, new):
    tab = browser.new_page()
    tab.goto(f"{SITE.as_uri()}/{old}")
    tab.wait_for_url(f"{SITE.as_uri()}/{new}")
    anchor = new.partition("#")[2]
    assert not anchor or tab.locator(f"[id='{anchor}']").count() == 1
    tab.close()
