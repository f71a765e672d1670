"""The page in a real browser: it draws, answers, leaks nothing, and runs nothing that a model wrote."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench import report
from rlvr_bench.records import Problem, Tools
from tests.reporting.made import interventions, judge, put, reach, rescoring, write_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (apt-get install chromium chromium-driver)"
)

CANARY = "window.canary=1"
MODELS = (
    f"<img src=x onerror={CANARY}>@10",
    f"<img src=x onerror={CANARY}>@30",
    f"<b>bold<script>{CANARY}@20",
)
TASK = f"</title><a href='javascript:{CANARY}'>%{{x}}</a>"
PROBLEMS = [
    Problem(id="plain", question="What is 2 + 2?", answer="4", tier="easy"),
    Problem(
        id=f"<script>{CANARY}</script>", question=f"<b onclick={CANARY}>1 < 2 & 3</b>", answer="", tier="<i>hard</i>"
    ),
    Problem(id=f'"><svg onload={CANARY}>', question="line\u2028separator\u2029\x07 and \ud7ff", answer="", tier="easy"),
    Problem(id=f"javascript:{CANARY}", question='=HYPERLINK(1),"quoted"\n', answer="", tier="<i>hard</i>"),
]
STATUSES = (["ccwwwwww", "cwwwwwne", "wwwwwwww", "cwwwwwww"], ["ccccwwww", "cccwwwww", "wwwwwwww", "wwwwwwww"])
TEXTS = (
    f"</script><script>{CANARY}</script>",
    f"<img src=x onerror={CANARY}>",
    f"<a href='javascript:{CANARY}'>click</a> &lt;b&gt; &amp;",
    "before\u2028after\u2029<!-- <script>",
    "x" * 1_000_000,
    f"<iframe srcdoc='<script>parent.{CANARY}</script>'></iframe>",
)
HOSTILE = "img, iframe, object, embed, base, form, b, i, svg a, a:not([href^='#'])"  # what no page of ours holds


def response(problem: int, rollout: int) -> str:
    return TEXTS[(problem + rollout) % len(TEXTS)]


def shaded(problem: int, rollout: int) -> str:
    return f"<b>{problem}</b>\u2028😀 & {rollout}" + "</pre>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    folder = tmp_path_factory.mktemp("hostile")
    runs = [
        write_run(folder / "0", MODELS[0], PROBLEMS, STATUSES[0], response, task=TASK),
        write_run(
            folder / "1",
            MODELS[1],
            PROBLEMS,
            STATUSES[1],
            shaded,
            token_ids=lambda text: [ord(c) for c in text],
            task=TASK,
        ),
        write_run(folder / "2", MODELS[2], PROBLEMS, STATUSES[0][::-1], response, task=TASK),
    ]
    report(runs, folder / "report.html", rollouts=6)
    return folder / "report.html", runs


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    folder = tmp_path_factory.mktemp("chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    switches = (
        *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
        *("disable-component-update", "disable-sync", "disable-dev-shm-usage", "window-size=1400,1000"),
        *(f"user-data-dir={folder / 'profile'}", "force-prefers-reduced-motion"),
    )
    for switch in switches:
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    driver.downloads = folder  # type: ignore[attr-defined]
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, page: tuple[Path, list[Path]]) -> Iterator[Any]:
    """The page, freshly loaded."""
    yield from watched(browser, page[0])


def watched(browser: Any, file: Path) -> Iterator[Any]:
    """A page, freshly loaded; afterwards nothing hostile has run, nothing failed, and no request went out."""
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(file.as_uri())
    yield browser
    assert browser.execute_script("return typeof window.canary") == "undefined"
    assert browser.get_log("browser") == []
    asked = requests(browser)
    assert file.as_uri() in asked, "requests are not being watched"
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)


def requests(browser: Any) -> set[str]:
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return {e["params"]["request"]["url"].split("#")[0] for e in events if e["method"] == "Network.requestWillBeSent"}


def until(condition: Callable[[], Any], seconds: float = 15) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.05)
    return value


def choose(browser: Any, element_id: str, index: int) -> None:
    element = browser.find_element("id", element_id)
    script = "arguments[0].selectedIndex = arguments[1]; arguments[0].dispatchEvent(new Event('change'))"
    browser.execute_script(script, element, index)


def rows(browser: Any, chart: str) -> list[dict[str, Any]]:
    return list(browser.execute_script("const c = charts.get(arguments[0]); draw(c); return c.rows(c)", chart))


def test_every_chart_draws_when_it_comes_into_view(opened: Any) -> None:
    before = dict(opened.execute_script("return [...charts.values()].map((c) => [c.id, Boolean(c.drawn)])"))
    assert before["pass-at-k"]
    assert not before["quality"], "what is out of sight is not drawn yet"
    for chart in before:
        scroll_to(opened, chart)
    assert len(before) == 17


def scroll_to(browser: Any, chart: str) -> None:
    """Bring a chart into view and see that it is drawn and not empty."""
    marks = """
        const plot = document.getElementById("plot-" + arguments[0]);
        const box = plot.getBoundingClientRect();
        return box.height > 100 && plot.querySelectorAll(".point, .bars path, .hm image, .js-line").length"""
    browser.execute_script("document.getElementById(arguments[0]).scrollIntoView()", chart)
    until(partial(_drawn, browser, chart))
    assert browser.execute_script(marks, chart), f"{chart} is empty"


def _drawn(browser: Any, chart: str) -> bool:
    return bool(browser.execute_script("return charts.get(arguments[0]).drawn", chart))


def test_hostile_names_and_texts_are_shown_as_text(opened: Any) -> None:
    opened.execute_script("for (const chart of charts.values()) draw(chart)")
    assert opened.find_elements("css selector", HOSTILE) == []
    assert opened.execute_script("return document.scripts.length") == 3
    labels = opened.execute_script(
        "return [...document.querySelectorAll('#plot-boundary .y2tick text')].map((e) => e.textContent)"
    )
    assert len(labels) == 3
    assert any(label.startswith("<img") and label.endswith(">@10") for label in labels)
    marked = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent).join(' ')"
    assert "<i>hard</i>" in opened.execute_script(marked, "#plot-tiers .xtick text")
    assert "<b>bold<script>" in opened.execute_script(marked, "#plot-pass-at-k .legendtext")
    heads = opened.execute_script("return [...document.querySelectorAll('.summary tbody th')].map((e) => e.title)")
    assert heads == list(MODELS)
    shown = set()
    for number in range(len(PROBLEMS)):
        choose(opened, "reader-problem", number)
        texts = opened.execute_script(
            "return [...document.querySelectorAll('#reader pre.text')].map((e) => e.textContent)"
        )
        assert texts[0] == PROBLEMS[number].question
        shown |= set(texts[1:])
    assert {text for text in TEXTS if len(text) < 1000} <= shown
    assert {shaded(0, 0), shaded(3, 1)} <= shown
    assert any("997,000 characters left out" in text and len(text) < 3100 for text in shown)


def test_tokens_are_shaded_where_text_and_tokens_come_together(opened: Any) -> None:
    count = "return document.querySelectorAll('#reader pre.text span[title^=entropy]').length"
    choose(opened, "reader-status", 1)
    pieces = opened.execute_script(
        "return [...document.querySelectorAll('#reader pre.text span')].map((e) => e.textContent)"
    )
    assert opened.execute_script(count) == len(pieces) > 0
    assert "😀" in pieces, "one token per character, not half of one"
    assert opened.execute_script("return document.querySelectorAll('#reader .strip').length") > 0


def test_toggles_change_what_is_drawn(opened: Any) -> None:
    plot = "return document.querySelector('#plot-pass-at-k')"
    axis = f"{plot}._fullLayout.xaxis.type"
    traces = f"{plot}.data.length"
    before = opened.execute_script(traces)
    assert opened.execute_script(axis) == "log"
    for box in ("pass-at-k-log", "pass-at-k-bands"):
        opened.execute_script("document.getElementById(arguments[0]).click()", box)
    assert opened.execute_script(axis) == "linear"
    assert opened.execute_script(traces) == before - 3
    first = rows(opened, "difference")
    choose(opened, "pick-baseline", 1)
    second = rows(opened, "difference")
    assert {row["baseline"] for row in first} == {MODELS[0]}
    assert {row["baseline"] for row in second} == {MODELS[1]}
    flipped = {(row["checkpoint"], row["k"]): row["value"] for row in second}
    for row in first:
        if row["checkpoint"] == MODELS[1]:
            assert flipped[MODELS[0], row["k"]] == pytest.approx(-row["value"])
    opened.execute_script("document.querySelectorAll('.chip')[2].click()")
    assert {row["checkpoint"] for row in rows(opened, "pass-at-k")} == set(MODELS[:2])
    light = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
    choose(opened, "pick-theme", 2)
    assert opened.execute_script("return getComputedStyle(document.body).backgroundColor") != light
    assert opened.execute_script(f"{plot}._fullLayout.paper_bgcolor") == opened.execute_script("return css('--card')")


def test_the_heat_map_shows_the_problem_under_the_pointer_and_the_keyboard(opened: Any) -> None:
    from selenium.webdriver import ActionChains, Keys

    chart = opened.find_element("id", "heat-map")
    opened.execute_script("arguments[0].scrollIntoView(); draw(charts.get('heat-map'))", chart)
    tip = opened.find_element("id", "tip")
    area = opened.find_element("css selector", "#plot-heat-map .nsewdrag")
    assert not tip.is_displayed()
    until(lambda: _hover(opened, area) and tip.is_displayed())
    shown = opened.execute_script("return document.getElementById('tip').textContent")
    assert any(problem.question in shown and problem.id in shown for problem in PROBLEMS)
    plot = opened.find_element("id", "plot-heat-map")
    opened.execute_script("arguments[0].focus({preventScroll: true})", plot)
    ActionChains(opened).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).perform()
    j = opened.execute_script("return charts.get('heat-map').order[1]")
    assert PROBLEMS[j].question in opened.execute_script("return document.getElementById('tip').textContent")
    ActionChains(opened).send_keys(Keys.ENTER).perform()
    assert opened.execute_script("return reader.problem") == j


def _hover(browser: Any, area: Any) -> bool:
    from selenium.webdriver import ActionChains

    ActionChains(browser).move_to_element_with_offset(area, -40, 3).move_by_offset(2, 1).perform()
    return True


def test_hovering_a_point_names_value_interval_and_n(opened: Any) -> None:
    opened.execute_script("Plotly.Fx.hover('plot-pass-at-k', [{curveNumber: 3, pointNumber: 1}])")
    label = until(
        lambda: opened.execute_script("return document.querySelector('#plot-pass-at-k .hoverlayer')?.textContent")
    )
    assert "pass@2: " in label
    assert "4 problems, 8 rollouts each" in label
    assert label.startswith("<img src=x onerror")


def test_saved_files_hold_the_chart_and_its_numbers(opened: Any, page: tuple[Path, list[Path]]) -> None:
    def save(kind: str) -> Path:
        buttons = opened.find_elements("css selector", "#pass-at-k .files button")
        opened.execute_script("arguments[0].click()", next(button for button in buttons if button.text == kind))
        file = Path(opened.downloads) / f"{re.sub('[^A-Za-z0-9._-]+', '-', TASK)}-pass-at-k.{kind.lower()}"
        until(lambda: file.is_file() and file.stat().st_size)
        return file

    table = list(csv.DictReader(io.StringIO(save("CSV").read_text("utf-8"), newline="")))
    expected = []
    for run, model in zip(page[1], MODELS, strict=True):
        card = json.loads((run / "scorecard.json").read_text())
        expected += [(model, item) for item in card["estimates"] if item["name"] == "pass@k"]
    assert len(table) == len(expected) == 12
    for row, (model, item) in zip(table, expected, strict=True):
        assert row["checkpoint"] == model
        assert [float(row[name]) for name in ("k", "value", "low", "high")] == [
            item[name] for name in ("k", "value", "low", "high")
        ]
        assert int(row["n_problems"]) == 4
    assert save("PNG").read_bytes().startswith(b"\x89PNG")
    assert "onerror" in (drawing := save("SVG").read_text("utf-8"))
    assert "<img" not in drawing
    assert "<script" not in drawing


def test_csv_quotes_what_needs_it(opened: Any) -> None:
    hostile = [{"a": 'say "hi", you', "b": "two\nlines", "c": 1.5, "d": None, "_e": "not this"}]
    written = opened.execute_script("return csv(arguments[0])", hostile)
    assert list(csv.DictReader(io.StringIO(written, newline=""))) == [
        {"a": 'say "hi", you', "b": "two\nlines", "c": "1.5", "d": ""}
    ]


def test_it_fits_a_narrow_screen_and_paper(opened: Any) -> None:
    opened.execute_script("for (const chart of charts.values()) draw(chart)")
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    until(lambda: opened.execute_script("return charts.get('pass-at-k').plot._fullLayout.width <= 390"))
    assert opened.execute_script("return document.documentElement.scrollWidth") <= 390
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    opened.refresh()
    printed = opened.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert len(printed) > 100_000, "every chart is drawn for the printer"
    assert opened.execute_script("return [...charts.values()].every((chart) => chart.drawn) && !state.printing")


def test_a_script_that_came_in_all_the_same_would_not_run(browser: Any, page: tuple[Path, list[Path]]) -> None:
    """The second wall, by planting what the first one keeps out."""
    browser.get(page[0].as_uri())
    browser.get_log("browser")
    browser.execute_script(
        """
        const script = document.createElement("script"), box = document.createElement("div");
        script.textContent = "window.planted = 1";
        box.innerHTML = "<img src='http://127.0.0.1:9/' onerror='window.planted = 2'>";
        document.body.append(script, box);
        fetch("http://127.0.0.1:9/").catch(() => 0);
        """
    )
    refused = until(lambda: [entry["message"] for entry in browser.get_log("browser")])
    assert browser.execute_script("return typeof window.planted") == "undefined"
    assert "Content Security Policy" in refused[0]


IMAGE = f"<img src=x onerror={CANARY}>"
ANALYSED = {
    "training": ["steps", "turnover", "stages", "outcome-entropy", "law"],
    "shifts": ["moves", "divergence", "perplexities", "categories"],
    "rates": ["solve-rates"],
    "interventions": ["swaps"],
    "reasoning": ["cot", "valid-reasoning"],
    "tools": ["tool-boundary", "tool-calls"],
}


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of which everything was computed, with hostile names throughout, and one of which nothing was."""
    folder = tmp_path_factory.mktemp("deep")
    statuses = (STATUSES[0], [*STATUSES[1][:2], "cwwwwwww", "ccwwwwww"], [*["cccccccw"] * 3, "ccccccww"])
    runs = [
        write_run(folder / f"{i}", f"{IMAGE}@{10 * i}", PROBLEMS, [line[:8] for line in status], response)
        for i, status in enumerate(statuses)
    ]
    runs.append(write_run(folder / "tool", f"{IMAGE}@10", PROBLEMS, STATUSES[1], response, tools=Tools()))
    made = rescoring(f"</script><script>{CANARY}</script>", categories=(IMAGE, "<i>kind</i></script>"), notes=(IMAGE,))
    put(runs[0], IMAGE, made)
    put(runs[0], "sampled", rescoring(f"</script><script>{CANARY}</script>", divergence="sampled"))
    put(
        runs[1], IMAGE, interventions(model=IMAGE, level="<b>early</b>", design={"strata": (IMAGE,), "protocol": IMAGE})
    )
    put(runs[1], "other", reach(f"</script><script>{CANARY}</script>", IMAGE))
    judge(runs[0], IMAGE)
    plain = write_run(folder / "plain", "m", PROBLEMS, STATUSES[0], response, task="plain")
    report([*runs, plain], folder / "report.html", rollouts=0)
    return folder / "report.html"


@pytest.fixture
def analysed(browser: Any, deep: Path) -> Iterator[Any]:
    yield from watched(browser, deep)


def test_stored_results_of_the_runs_are_drawn_in_sections_of_their_own(analysed: Any) -> None:
    sections = dict(analysed.execute_script("return SECTIONS.map(([id, , , list]) => [id, list.map((c) => c.id)])"))
    assert {name: sections[name] for name in ANALYSED} == ANALYSED
    charts = [chart for name in ANALYSED for chart in ANALYSED[name]]
    assert not any(_drawn(analysed, chart) for chart in charts if chart != "steps"), "drawn before they are seen"
    for chart in charts:
        scroll_to(analysed, chart)
        analysed.execute_script("toggleTable(charts.get(arguments[0]))", chart)
    assert analysed.find_elements("css selector", HOSTILE) == []
    assert analysed.execute_script("return document.scripts.length") == 3
    labels = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent).join(' ')"
    assert "<i>kind</i>" in analysed.execute_script(labels, "#plot-categories .ytick text")
    assert "<b>early</b>" in analysed.execute_script(labels, "#plot-swaps .ytick text")
    choose(analysed, "moves-by", 1)
    assert "<i>kind</i>" in analysed.execute_script(labels, "#plot-moves .xtick text")
    analysed.execute_script("Plotly.Fx.hover('plot-moves', [{curveNumber: 1, pointNumber: 1}])")
    assert "<i>kind</i>" in until(lambda: analysed.execute_script(labels, "#plot-moves .hoverlayer"))
    assert IMAGE in analysed.execute_script(labels, "#swaps .data td, #categories .data td")
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    analysed.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    until(lambda: analysed.execute_script("return charts.get('swaps').plot._fullLayout.width <= 390"))
    assert analysed.execute_script("return document.documentElement.scrollWidth") <= 390
    analysed.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    choose(analysed, "pick-task", 1)
    seen = "return [...document.querySelectorAll('section, nav a')].filter((e) => e.offsetParent).map((e) => e.id || e.hash)"
    shown = set(analysed.execute_script(seen))
    assert {"policy", "#policy"} < shown
    assert not {name.strip("#") for name in shown} & set(ANALYSED)


def test_its_numbers_are_those_of_the_files_and_what_is_absent_says_why(analysed: Any, deep: Path) -> None:
    file = deep.parent / "0" / "rescored" / IMAGE / "rescore.json"
    result = json.loads(file.read_text())
    exact = [row for row in rows(analysed, "divergence") if row["folder"] == IMAGE]
    assert {(row["measure"], row["rollouts"]): (row["value"], row["low"], row["high"]) for row in exact} == {
        (item["name"], item.get("group", "all")): (item["value"], item["low"], item["high"])
        for item in result["estimates"]
    }
    assert {row["folder"] for row in rows(analysed, "moves")} == {IMAGE}
    names = analysed.execute_script(
        "return [...document.querySelectorAll('#moves-rescoring option')].map((e) => e.text)"
    )
    assert len(set(names)) == len(names) == 2, "distinct by the name of the folder"
    absent = {row["perplexity"]: row["note"] for row in rows(analysed, "perplexities") if row["value"] is None}
    assert absent["other on reference"] == "absent: not computed"
    choose(analysed, "moves-rescoring", 1)
    absent = {row["perplexity"]: row["note"] for row in rows(analysed, "perplexities") if row["value"] is None}
    assert set(absent) == {"other on other", "other on reference"}
    assert "task t has no reference solutions" in absent["other on reference"]
    effects = json.loads((deep.parent / "1" / "interventions" / IMAGE / "result.json").read_text())["effects"]
    table = rows(analysed, "swaps")
    assert [(row["value"], row["low"], row["p_holm"]) for row in table] == [
        (e["effect"], e["low"], e["p_holm"]) for e in effects
    ]
    assert (table[2]["tokens"], table[2]["note"]) == (0, "absent: no token of this kind")
    analysed.execute_script("for (const chart of charts.values()) { draw(chart); toggleTable(chart) }")
    text = analysed.execute_script("return document.body.innerText")
    assert not re.search(r"NaN|undefined|\[object", text)
    assert "Not judged: " in text
    assert "8 correct rollouts" in text
