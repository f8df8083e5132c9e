"""Pages of reports in a real browser: Debian's chromium, without a screen.

REPORTS is the program that renders (`cargo xtask test` builds and names it). What is shown: the committed sample of a conformance
run, the same run as a worse vendor's, and as that of a target whose every text is an attack; and a made-up load report.
"""

import copy
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "reports/samples/conformance-sandboxd/report.json"
MADE_UP = Path(__file__).parent / "made-up"

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
PAGES = ["site/index.html", "site/conformance.html", "site/load.html", "alone/conformance.html", "hostile/conformance.html"]

#: What a hostile target answers.
ATTACK = '"><img src=x onerror="document.title=1"><script>window.owned=1</script></pre>\x00\x1b[31m\u202e' + "'" * 3


def pytest_configure(config: pytest.Config) -> None:
    if not os.environ.get("REPORTS"):
        pytest.exit("set REPORTS to the reports program: cargo build -p reports, then target/debug/reports", returncode=2)
    if not shutil.which("chromium"):
        pytest.exit("there is no chromium: apt-get install chromium", returncode=2)


def worse(report: dict) -> dict:
    """The run of a vendor that fails some checks and lacks an area."""
    report = copy.deepcopy(report)
    report["target"]["name"] = "vendor"
    report["run"] = "vendor"
    fails = {"process/exit-code": "fail", "lifecycle/kill": "untestable"}
    for result in report["body"]["results"]:
        status = "unsupported" if result["area"] == "pty" else fails.get(result["check"], result["status"])
        if status == result["status"]:
            continue
        result["status"] = status
        if status == "unsupported":
            continue
        result.update(standing="new", expected="exit code: 7", actual="0")
        result["exchanges"] = [
            {
                "request": "POST http://vendor.example/process.Process/Start",
                "request_headers": ["content-type: application/connect+json", "x-access-token: [redacted]"],
                "request_body": '{"process":{"cmd":"/bin/bash","args":["-l","-c","exit 7"]}}',
                "status": 200,
                "response_headers": ["content-type: application/connect+json"],
                "response_body": '{"event":{"end":{"exited":true}}}' + "x" * 3000,
                "error": None,
                "ms": 12.5,
            }
        ]
    count(report)
    return report


def count(report: dict) -> None:
    """Makes the summary by area agree with the results."""
    for profile in report["body"]["profiles"]:
        for part, levels in (("core", ["MUST"]), ("extended", ["SHOULD", "MAY"])):
            of = [r["status"] for r in report["body"]["results"] if r["area"] == profile["area"] and r["level"] in levels]
            profile[part] = {name: of.count(name.replace("_", "-")) for name in profile[part]}


def hostile(report: dict) -> dict:
    """The worse vendor's run, with an attack in every text that is no id."""
    report = worse(report)
    report["target"].update(name=ATTACK, url=ATTACK, template=ATTACK, versions={ATTACK: ATTACK})
    report["command"].append(ATTACK)
    for result in report["body"]["results"]:
        result.update(title=ATTACK, rerun=ATTACK, expected=ATTACK, actual=ATTACK * 100)
        for covered in result["requirements"]:
            covered.update(text=ATTACK, source=ATTACK)
        for exchange in result["exchanges"]:
            exchange.update(request=ATTACK, request_body=ATTACK, response_body=ATTACK * 1000, error=ATTACK)
            exchange.update(request_headers=[ATTACK], response_headers=[ATTACK])
    return report


@pytest.fixture(scope="session")
def sites(tmp_path_factory) -> Path:
    """The folders `site`, `alone` and `hostile`."""
    root = tmp_path_factory.mktemp("sites")
    sample = json.loads(SAMPLE.read_text())
    made = {"sandboxd": sample, "vendor": worse(sample), "hostile": hostile(sample)}
    for name, report in made.items():
        folder = root / "runs" / name
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(report))
    runs = {name: root / "runs" / name for name in made}
    for site, folders in (
        ("site", [runs["sandboxd"], runs["vendor"], MADE_UP / "sweep"]),
        ("alone", [runs["sandboxd"]]),
        ("hostile", [runs["hostile"], runs["sandboxd"]]),
    ):
        subprocess.run([os.environ["REPORTS"], "render", *folders, "--out", root / site], check=True, stdout=subprocess.DEVNULL)
    return root


@pytest.fixture(scope="session")
def browser():
    # Chromium's own sandbox does not run as root; what is shown are files of this repository.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        yield browser
        browser.close()


@dataclass
class Shown:
    """A page, with what it asked for and what it complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture
def show(browser, sites):
    """Opens a page; at the end of the test it has asked for nothing but itself, and complained of nothing."""
    opened: list[tuple[Shown, str]] = []

    def opening(name: str, width: str = "desktop", scheme: str = "light", fragment: str = "", **options) -> Page:
        wide, high = WIDTHS[width]
        context = browser.new_context(viewport={"width": wide, "height": high}, color_scheme=scheme, **options)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        shown = Shown(page)
        page.on("request", lambda request: shown.requests.append(request.url.split("#")[0]))
        page.on("console", lambda message: shown.complaints.append(message.text))
        page.on("pageerror", lambda error: shown.complaints.append(str(error)))
        url = (sites / name).as_uri()
        page.goto(url + fragment)
        opened.append((shown, url))
        return page

    yield opening
    for shown, url in opened:
        shown.page.context.close()
    for shown, url in opened:
        assert set(shown.requests) <= {url}, "the page asked for something else"
        assert not shown.complaints


@pytest.fixture(params=WIDTHS)
def width(request) -> str:
    return request.param


@pytest.fixture(params=["light", "dark"])
def scheme(request) -> str:
    return request.param
