"""What holds for every page, at both widths, in both themes."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import PAGES
from measures import CONTRAST, OUTSIDE, STRUCTURE, UNNAMED


@pytest.fixture(params=PAGES, ids=lambda name: name.removesuffix(".html").replace("/", "-"))
def name(request) -> str:
    return request.param


def opened(show, name, width, scheme):
    page = show(name, width, scheme)
    # Something of everything is seen: the first details of each kind are open.
    page.evaluate("for (const d of [...document.querySelectorAll('details')].slice(0, 12)) d.open = true")
    return page


def test_nothing_is_wider_than_the_screen(show, name, width, scheme):
    page = opened(show, name, width, scheme)
    wide = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1]
    assert page.evaluate(OUTSIDE) == []


def test_text_is_seen_well(show, name, width, scheme):
    assert opened(show, name, width, scheme).evaluate(CONTRAST) == []


# Contrast is measured above in both themes; what is left does not depend on the theme, and axe takes ten seconds on a long page.
@pytest.mark.parametrize("scheme", ["dark"])
def test_axe_finds_nothing(show, name, width, scheme):
    found = Axe().run(opened(show, name, width, scheme)).response["violations"]
    assert [(one["id"], one["help"], one["nodes"][0]["html"][:120]) for one in found] == []


def test_headings_tables_and_controls_have_names(show, name, width):
    page = opened(show, name, width, "light")
    assert page.evaluate(STRUCTURE) == []
    assert page.evaluate(UNNAMED) == []


def test_the_theme_is_the_one_that_was_asked_for(show, name):
    colours = {}
    for scheme in ("light", "dark"):
        page = show(name, "desktop", scheme)
        colours[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert sum(colours["light"]) > 600 and sum(colours["dark"]) < 150


def test_the_keyboard_reaches_the_results(show, name):
    page = show(name)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none", "what has the focus is not seen to have it"
