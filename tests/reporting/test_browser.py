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
from rlvr_bench.records import Problem
from tests.reporting.made import write_run

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
    """The page, freshly loaded; afterwards nothing hostile has run, nothing failed, and no request went out."""
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(page[0].as_uri())
    yield browser
    assert browser.execute_script("return typeof window.canary") == "undefined"
    assert browser.get_log("browser") == []
    asked = requests(browser)
    assert page[0].as_uri() in asked, "requests are not being watched"
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)


def requests(browser: Any) -> set[str]:
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return {e["params"]["request"]["url"].split("#")[0] for e in events if e["method"] == "Network.requestWillBeSent"}


def until(condition: Callable[[], Any], seconds: float = 15) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.05)
    return found


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
    marks = """
        const plot = document.getElementById("plot-" + arguments[0]);
        const box = plot.getBoundingClientRect();
        return box.height > 100 && plot.querySelectorAll(".point, .bars path, .hm image, .js-line").length"""
    for chart in before:
        opened.execute_script("document.getElementById(arguments[0]).scrollIntoView()", chart)
        until(partial(_drawn, opened, chart))
        assert opened.execute_script(marks, chart), f"{chart} is empty"
    assert len(before) == 17


def _drawn(browser: Any, chart: str) -> bool:
    return bool(browser.execute_script("return charts.get(arguments[0]).drawn", chart))


def test_hostile_names_and_texts_are_shown_as_text(opened: Any) -> None:
    opened.execute_script("for (const chart of charts.values()) draw(chart)")
    elements = "img, iframe, object, embed, base, form, b, i, svg a, a:not([href^='#'])"
    assert opened.find_elements("css selector", elements) == []
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
        opened.execute_script("arguments[0].click()", next(each for each in buttons if each.text == kind))
        file = Path(opened.downloads) / f"{re.sub('[^A-Za-z0-9._-]+', '-', TASK)}-pass-at-k.{kind.lower()}"
        until(lambda: file.is_file() and file.stat().st_size)
        return file

    found = list(csv.DictReader(io.StringIO(save("CSV").read_text("utf-8"), newline="")))
    expected = []
    for run, model in zip(page[1], MODELS, strict=True):
        card = json.loads((run / "scorecard.json").read_text())
        expected += [(model, item) for item in card["estimates"] if item["name"] == "pass@k"]
    assert len(found) == len(expected) == 12
    for row, (model, item) in zip(found, expected, strict=True):
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
