"""The page of load reports: charts that can be read at each width and in each theme."""


def charts(page) -> list[dict]:
    return page.evaluate("""
      [...document.querySelectorAll('svg.chart')].filter((svg) => svg.checkVisibility()).map((svg) => {
        const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
        const texts = [...svg.querySelectorAll('text')];
        const boxes = texts.map((text) => text.getBoundingClientRect());
        const clash = boxes.some((a, i) => boxes.some((b, k) => k > i
          && a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2));
        const frame = svg.getBoundingClientRect();
        const cut = boxes.some((box) => box.left < frame.left || box.right > frame.right || box.bottom > frame.bottom);
        return {
          kind: svg.classList[1],
          px: Math.min(...texts.map((text) => parseFloat(text.getAttribute('font-size')) * scale)),
          clash,
          cut,
          drawn: svg.querySelectorAll('polyline, rect, circle').length,
          strokes: [...new Set([...svg.querySelectorAll('polyline')].map((line) => getComputedStyle(line).stroke))],
        };
      })
    """)


def test_charts_are_drawn_for_the_width(show, width, scheme):
    page = show("site/load.html", width, scheme)
    found = charts(page)
    assert len(found) == 12
    assert {chart["kind"] for chart in found} == {"broad" if width == "desktop" else "narrow"}
    for chart in found:
        assert chart["px"] >= 9.5, "text too small to read"
        assert not chart["clash"], "labels on one another"
        assert not chart["cut"], "a label beyond the chart"
        assert chart["drawn"] > 3


def test_lines_have_the_colours_of_the_theme(show):
    light = charts(show("site/load.html", "desktop", "light"))
    dark = charts(show("site/load.html", "desktop", "dark"))
    for one, other in zip(light, dark, strict=True):
        assert not set(one["strokes"]) & set(other["strokes"])


def test_every_line_of_a_chart_is_in_its_legend(show):
    page = show("site/load.html")
    panel = page.locator("div.panel", has=page.get_by_role("heading", name="Percentiles of")).first
    spectrum = panel.locator("figure")
    names = spectrum.locator(".legend li").all_inner_texts()
    assert [name.strip() for name in names] == [f"first_exec at {n}" for n in (1, 10, 20, 50)]
    keys = spectrum.locator(".key rect").evaluate_all("(keys) => keys.map((key) => getComputedStyle(key).fill)")
    lines = spectrum.locator("polyline").evaluate_all("(lines) => lines.map((line) => getComputedStyle(line).stroke)")
    assert set(keys) <= set(lines)


def test_stages_that_are_told_apart_have_colours_that_are(show, width, scheme):
    page = show("site/load.html", width, scheme)
    legends = page.locator(".stages .legend")
    assert legends.count() > 0
    for legend in legends.all():
        fills = legend.locator(".key rect").evaluate_all("(keys) => keys.map((key) => getComputedStyle(key).fill)")
        assert len(fills) > 2 and len(set(fills)) == len(fills)


def test_what_a_run_was_made_for_comes_first(show):
    page = show("site/load.html")
    headings = page.locator("section h3").all_inner_texts()
    order = [headings.index(name) for name in ("Comparisons", "Density", "Stages")]
    assert order == sorted(order) and order[0] == 0


def test_unsupported_quantiles_are_marked(show, width):
    page = show("site/load.html", width)
    row = page.get_by_role("row").filter(has_text="first_exec at 10").first
    assert row.locator("abbr").count() == 1 and "*" in row.locator("abbr").inner_text()


def test_rows_keep_their_roles_where_they_are_drawn_as_blocks(show, width):
    page = show("site/load.html", width)
    table = page.get_by_role("table", name="Series", exact=True)
    assert table.get_by_role("row").count() >= 4
    assert table.get_by_role("cell").count() == 4 * 9


def test_the_verdict_the_environment_and_the_command_are_there(show):
    page = show("site/load.html")
    text = page.locator("main").inner_text()
    for wanted in ("✕ worse", "lab host", "loadgen sweep --url http://127.0.0.1:3000", "1 left", "MemAvailable delta"):
        assert wanted in text


def test_the_first_page_leads_to_each_run(show, sites):
    page = show("site/index.html")
    links = page.locator("article.card h3 a")
    assert links.count() == 3
    for link in links.all():
        href = link.get_attribute("href")
        assert (sites / "site" / href.split("#")[0]).exists()
