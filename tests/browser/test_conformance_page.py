"""The page of conformance reports: filter, expand, compare, copy; and targets that attack it."""

import json
import re

from conftest import ATTACK, SAMPLE
from playwright.sync_api import expect

CHECKS = len(json.loads(SAMPLE.read_text())["body"]["results"])
SHOWN = "details.check:not([hidden])"


def shown(page) -> list[str]:
    return page.locator(f"{SHOWN} .what code").all_inner_texts()


def said(page) -> str:
    return page.locator(".said").inner_text()


def chip(page, word: str):
    return page.locator("form.filter .chip", has_text=word).locator("input")


def test_the_summary_counts_by_profile(show, width):
    page = show("site/conformance.html", width)
    cards = page.locator("article.card")
    assert cards.count() == 2
    assert "green" in cards.nth(0).inner_text() and "red: 2 results" in cards.nth(1).inner_text()
    assert re.search(r"\d+ of \d+ requirements have a check", cards.nth(0).inner_text())
    row = page.locator("tbody tr", has_text="vendor").filter(has_text=re.compile(r"0/4"))
    assert row.count() == 1, "pty is unsupported: four core checks, none passed"


def test_search_profile_status_and_level_narrow_the_list(show, width):
    page = show("site/conformance.html", width)
    assert said(page) == f"{CHECKS} checks" and len(shown(page)) == CHECKS
    page.get_by_label("Search", exact=True).fill("exit-code")
    assert "process/exit-code" in shown(page) and 0 < len(shown(page)) < 10
    assert said(page) == f"{len(shown(page))} of {CHECKS} checks"
    page.get_by_label("Search", exact=True).fill("")
    page.get_by_role("combobox", name="Profile").select_option(label="pty")
    assert shown(page) and all(check.startswith("pty/") for check in shown(page))
    chip(page, "fail").check(force=True)
    assert shown(page) == [] and page.locator(".nothing").is_visible()
    page.get_by_role("combobox", name="Profile").select_option("")
    assert shown(page) == ["process/exit-code"]
    chip(page, "untestable").check(force=True)
    assert sorted(shown(page)) == ["lifecycle/kill", "process/exit-code"]
    page.get_by_role("button", name="Reset").click()
    # Not by a function that is waited for: the page's policy forbids what that needs.
    expect(page.locator(SHOWN)).to_have_count(CHECKS)
    page.get_by_role("combobox", name="Level").select_option("SHOULD")
    levels = set(page.locator(f"{SHOWN} > summary .level").all_inner_texts())
    assert levels == {"SHOULD"}


def test_areas_without_a_shown_check_are_gone(show):
    page = show("site/conformance.html")
    page.get_by_label("Search", exact=True).fill("process/exit-code")
    assert page.locator("section.area:not([hidden]) h3").count() == 1


def test_a_check_expands_to_its_evidence(show, width):
    page = show("site/conformance.html", width)
    chip(page, "fail").check(force=True)
    check = page.locator(SHOWN)
    assert not check.locator(".sides").is_visible()
    check.locator("> summary").click()
    text = check.inner_text()
    assert "exit code: 7" in text and "Run just this check" in text
    exchange = check.locator("details.exchange")
    exchange.locator("summary").click()
    assert "x-access-token: [redacted]" in exchange.inner_text()
    again = page.get_by_role("button", name="Expand all")
    page.get_by_role("button", name="Reset").click()
    again.click()
    assert page.locator("details.check:not([open])").count() == 0


def test_targets_stand_side_by_side(show, width):
    page = show("site/conformance.html", width)
    chip(page, "targets differ").check(force=True)
    differing = shown(page)
    assert {"process/exit-code", "lifecycle/kill"} < set(differing) and all(
        check.startswith("pty/") for check in set(differing) - {"process/exit-code", "lifecycle/kill"}
    )
    page.locator("#check-process-exit-code > summary").click()
    sides = page.locator("#check-process-exit-code .side")
    assert [side.split("\n")[0].split()[0] for side in sides.all_inner_texts()] == ["sandboxd", "vendor"]
    one, other = sides.nth(0).bounding_box(), sides.nth(1).bounding_box()
    if width == "desktop":
        assert one["y"] == other["y"] and one["x"] + one["width"] <= other["x"]
    else:
        assert one["y"] + one["height"] <= other["y"]


def test_a_filter_can_be_sent_as_a_link(show):
    page = show("site/conformance.html", fragment="#profile=process&status=fail")
    assert shown(page) == ["process/exit-code"]
    page.get_by_label("Search", exact=True).fill("exit")
    assert "q=exit" in page.evaluate("location.hash")
    page = show("site/conformance.html", fragment="#check-lifecycle-kill")
    assert page.locator("#check-lifecycle-kill").get_attribute("open") is not None
    page = show("site/conformance.html")
    page.get_by_role("link", name="envd process").click()
    assert all(check.startswith("process/") for check in shown(page))


def test_the_command_is_copied(show):
    page = show("alone/conformance.html")
    page.locator("article.card summary").click()
    page.locator("article.card button.copy").click()
    page.locator("article.card button.copy", has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith("E2B_API_KEY=… e2b-conformance run --url ")


def test_without_scripts_everything_is_shown(show):
    page = show("site/conformance.html", java_script_enabled=False)
    assert page.locator("details.check").count() == CHECKS
    assert not page.locator("form.filter").is_visible()
    assert page.locator("details.check").first.is_visible()


def test_an_attack_is_text(show, width):
    page = show("hostile/conformance.html", width)
    page.get_by_role("button", name="Expand all").click()
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.title() == "E2B conformance" and page.evaluate("window.owned") is None
    assert page.locator("img").count() == 0 and page.locator("script").count() == 1
    assert page.evaluate("[...document.querySelectorAll('*')].every((n) => [...n.attributes].every((a) => !a.name.startsWith('on')))")
    text = page.locator("#check-process-exit-code .exchange").inner_text()
    assert ATTACK.split("\x00")[0] in text and "␀␛[31m⟨U+202E⟩" in text
    assert re.search(r"… \d+ bytes more", text), "a huge body is cut, and said to be"
    wide = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1]
