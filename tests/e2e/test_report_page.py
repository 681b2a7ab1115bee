"""The report of a recorded run of the embedded model, opened in headless Chromium."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import recorded_runs
from grpo_dual.cli.main import main

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
SCREENS = Path(os.environ.get("GRPO_DUAL_SCREENSHOTS", "build/screenshots"))
"""Screenshots of the last run of this test; people look at them."""
SCRIPT = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>"

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium)"
)


@dataclass(slots=True)
class Opened:
    """A page in the browser, and what it did on the way."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The before/after page of one run, with a hostile completion in it, and of two."""
    top = tmp_path_factory.mktemp("report")
    run, other = recorded_runs.demo(top / "demo"), recorded_runs.demo(top / "other")
    (run / "eval_completions.jsonl").write_text("")
    for step in (0, 60):
        row = recorded_runs.completion(step, f"prompt {SCRIPT}", SCRIPT * 20)
        recorded_runs.add_line(run / "eval_completions.jsonl", row | {"wanted": SCRIPT})
    recorded_runs.change_json(
        other / "config.json", lambda c: c["train"]["optimizer"].update(learning_rate=0.5)
    )
    beside = ["--eval", str(recorded_runs.EVALUATION)]
    assert main(["report", str(run), *beside, "--out", str(top / "one.html")]) == 0
    assert main(["report", "--compare", str(run), str(other), "--out", str(top / "two.html")]) == 0
    return {"one": top / "one.html", "two": top / "two.html"}


@pytest.fixture
def show(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Open a file at a width, in a colour scheme; nothing is fetched from anywhere."""
    contexts: list[Any] = []

    def go(path: Path, width: int = 1400, scheme: str = "light") -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        opened = Opened(context.new_page())
        opened.page.on("request", lambda r: opened.requests.append(r.url))
        opened.page.on("console", lambda m: opened.complaints.append(m.text))
        opened.page.on("pageerror", lambda e: opened.complaints.append(str(e)))
        opened.page.goto(path.as_uri())
        return opened

    yield go
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    # Both pages at both widths and in both schemes, not each in each: that takes twice as long.
    [
        ("one", 390, "light"),
        ("one", 1400, "dark"),
        ("two", 390, "dark"),
        ("two", 1400, "light"),
    ],
)
def test_the_page_is_sound_at_every_width_and_in_both_schemes(
    name: str, width: int, scheme: str, pages: dict[str, Path], show: Callable[..., Opened]
) -> None:
    opened = show(pages[name], width, scheme)
    page = opened.page
    SCREENS.mkdir(parents=True, exist_ok=True)
    shot = page.screenshot(
        path=SCREENS / f"report-{name}-{width}-{scheme}.png", full_page=True, animations="disabled"
    )
    assert len(shot) > 100_000, "the screenshot is all but empty"
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls aside"
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(255, 255, 255)",
            "dark": "rgb(20, 23, 26)",
        }[scheme]
    )
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [n["target"] for n in v["nodes"]][:3]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "opened, it does"
    assert opened.requests == [pages[name].as_uri()]
    assert opened.complaints == []


FIGURES = """() => [...document.querySelectorAll('figure')].map(f => {
  const svg = f.querySelector('svg'), box = svg.getBoundingClientRect();
  const drawn = [...svg.querySelectorAll('path, use')].filter(e => {
    const b = e.getBoundingClientRect(), s = getComputedStyle(e);
    return (b.width > 0 || b.height > 0) && !(s.stroke === 'none' && s.fill === 'none');
  });
  const texts = [...svg.querySelectorAll('text')].filter(t => t.getBoundingClientRect().width > 0);
  const outside = texts.filter(t => {
    const b = t.getBoundingClientRect();
    return b.left < box.left - 3 || b.right > box.right + 3;
  });
  const by = svg.getAttribute('aria-labelledby').split(' ');
  return {title: f.querySelector('strong').textContent, width: box.width, height: box.height,
          drawn: drawn.length, texts: texts.length, outside: outside.map(t => t.textContent),
          says: by.map(i => document.getElementById(i).textContent).join(' '),
          rows: f.querySelectorAll('details tbody tr').length};
})"""


@pytest.mark.parametrize("width", [390, 1400])
def test_every_figure_is_there_drawn_and_told(
    width: int, pages: dict[str, Path], show: Callable[..., Opened]
) -> None:
    figures = show(pages["one"], width).page.evaluate(FIGURES)
    titles = [f["title"] for f in figures]
    for wanted in (
        "Held-out shares, before and after", "The trade-off", "Findings over steps", "Reward",
        "Evaluated shares and axes", "Evaluated bias scores (0 is none)",
        "Completion length", "Entropy", "KL to the reference", "Beta", "Gradient signal",
        "Dead groups", "Solved groups", "Conflict: cosine between the gradients",
        "fairness: judged by", "hallucination: judged by", "Evasions on answerable prompts",
    ):  # fmt: skip
        assert wanted in titles
    for one in figures:
        assert one["width"] > 0.8 * min(width, 340), one
        assert one["height"] > 60, one
        assert one["drawn"] >= 8, one
        assert one["texts"] >= 3, one
        assert one["outside"] == [], one
        assert any(c.isdigit() for c in one["says"]), one
        assert one["rows"] >= 1, one


def test_text_of_a_figure_can_be_read_on_a_phone(
    pages: dict[str, Path], show: Callable[..., Opened]
) -> None:
    heights = show(pages["one"], 390).page.evaluate(
        "() => [...document.querySelectorAll('svg text')].map(t => { const m = t.getScreenCTM();"
        " return parseFloat(getComputedStyle(t).fontSize) * Math.hypot(m.a, m.b); })"
    )
    assert min(heights) >= 9.5, "CSS pixels"


def test_what_a_model_wrote_is_shown_and_never_run(
    pages: dict[str, Path], show: Callable[..., Opened]
) -> None:
    page = show(pages["one"]).page
    assert page.evaluate("window.pwned") is None
    said = page.evaluate("[...document.querySelectorAll('pre.said')].map(p => p.textContent)")
    assert SCRIPT * 20 in said


def test_colours_of_figures_follow_the_scheme(
    pages: dict[str, Path], show: Callable[..., Opened]
) -> None:
    script = """() => [...new Set([...document.querySelectorAll('#rewards-1 svg path')]
      .map(p => getComputedStyle(p).stroke))]"""
    light, dark = (show(pages["one"], 1400, s).page.evaluate(script) for s in ("light", "dark"))
    assert "rgb(0, 114, 178)" in light
    assert "rgb(86, 180, 233)" in dark
    assert not set(light) & set(dark) - {"none"}


def test_the_page_is_walked_by_keyboard(
    pages: dict[str, Path], show: Callable[..., Opened]
) -> None:
    page = show(pages["one"], 390).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels)), "a level is skipped"
