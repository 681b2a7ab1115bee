import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from grpo_dual.report import colours, draw
from grpo_dual.report.held_out import Estimate
from grpo_dual.report.panels import (
    MOST_POINTS,
    Dots,
    FrontPanel,
    IntervalPanel,
    Level,
    Line,
    Mark,
    Panel,
    Span,
    SpanPanel,
    TimePanel,
    Trail,
    evenly,
)


def rising(steps: int = 30, slot: int = 0) -> Line:
    return Line("fairness", slot, tuple(range(1, steps + 1)), tuple(i / 100 for i in range(steps)))


def test_a_sentence_states_the_ends_and_the_extremes() -> None:
    panel = TimePanel("Reward", "reward", (rising(),), levels=(Level("target", None, 0.08),))
    # first five: 0, .01 .. .04, mean .02; last five: .25 .. .29, mean .27
    assert panel.says == (
        "fairness 0.02 over the first 5 steps, 0.27 over the last 5 (lowest 0 at step 1, highest "
        "0.29 at step 30); target is 0.08."
    )
    assert panel.brief == "fairness 0.02 to 0.27."


def test_missing_cells_are_told_and_never_zero() -> None:
    line = Line("x", 0, (1, 2, 3), (None, 0.5, None))
    panel = TimePanel("t", "u", (line, Line("y", 1, (1, 2, 3), (None,) * 3)))
    assert panel.table.rows == (("2", "0.5", "-"),)
    assert "y was not measured" in panel.says


def test_a_long_table_keeps_first_and_last_and_says_so() -> None:
    table = TimePanel("t", "u", (rising(100),)).table
    assert (table.rows[0][0], table.rows[-1][0], len(table.rows)) == ("1", "100", 20)
    assert table.note == "20 of 100 steps."
    assert evenly([1, 2, 3], 5) == [1, 2, 3]


def test_a_long_line_is_thinned_to_means() -> None:
    line = Line("x", 0, tuple(range(1, 1201)), tuple(float(i) for i in range(1200)))
    thin = line.thinned()
    assert len(thin.steps) == MOST_POINTS
    assert thin.values[0] == pytest.approx(0.5)  # of 0 and 1
    assert rising().thinned() == rising()
    assert TimePanel("t", "u", (line,)).brief.endswith(" Each point is the mean of 2 steps.")


def front() -> FrontPanel:
    points = (("step 0", 0.3, 0.3), ("step 20", 0.7, 0.9), ("step 60", 0.9, 0.8))
    return FrontPanel("Front", "f", "h", (Trail("run", 0, points),), points[1:], 0.79)


PANELS: dict[str, Panel] = {
    "time": TimePanel(
        "T", "reward", (rising(), rising(slot=1)), marks=(Mark("1", 3), Mark("2", 4), Mark("3", 20))
    ),
    "one-step": TimePanel("T", "share", (Line("x", 0, (1,), (0.5,)),), share=True),
    "points": TimePanel("T", "u", (Line("x", 2, (0, 10), (0.5, 0.2), points=True),)),
    "intervals": IntervalPanel(
        "I",
        ("Right",),
        (
            Dots("before", None, (Estimate(0.2, 0.1, 0.3, "wilson"),)),
            Dots("after", 0, (Estimate(None),)),
        ),
    ),
    "front": front(),
    "spans": SpanPanel("S", (Span("1. kl", 0, 3, 9, False), Span("2. x", 2, 0, 4, True)), 9),
}


@pytest.mark.parametrize("name", PANELS)
def test_every_panel_draws_an_svg_in_css_colours_with_ids_of_its_own(name: str) -> None:
    panel = PANELS[name]
    root = ET.fromstring(draw.svg(panel, "fig"))
    assert root.get("aria-labelledby") == "fig-title fig-says"
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert all(i is not None and i.startswith("fig-") for i in ids)
    text = draw.svg(panel, "fig")
    assert "#0a0b" not in text, "a placeholder was left"
    colour = re.compile(r"(?:fill|stroke): ?(#[0-9a-f]{6})")
    assert set(colour.findall(text)) == set(), "a colour that dark mode cannot change"
    assert "<style" not in text
    assert panel.says
    assert panel.table.rows


def test_two_figures_share_no_id() -> None:
    first, second = (draw.svg(PANELS["time"], prefix) for prefix in ("a", "b"))
    found: Callable[[str], set[str]] = lambda text: set(re.findall(r'id="([^"]+)"', text))  # noqa: E731
    assert not found(first) & found(second)


def test_the_same_panel_gives_the_same_bytes() -> None:
    assert draw.svg(PANELS["front"], "a") == draw.svg(PANELS["front"], "a")


def test_text_of_a_label_is_escaped_and_no_mathematics() -> None:
    line = Line("$x^2$ <b>", 0, (1, 2), (0.1, 0.2))
    root = ET.fromstring(draw.svg(TimePanel("T", "u", (line, rising(2, 1))), "a"))
    texts = {e.text for e in root.iter() if e.tag.endswith("text")}
    assert "$x^2$ <b>" in texts


@pytest.mark.parametrize("role", colours.ROLES, ids=lambda r: r.name)
def test_colours_stand_out_in_light_and_dark(role: colours.Role) -> None:
    # WCAG 2.2: 4.5 for text, 3 for graphics; the grid is decoration, ground and panel are grounds.
    if role.name in ("ground", "panel", "grid"):
        return
    least = 3.0 if role.name.startswith("series") else 4.5
    for ground in (colours.GROUND, colours.PANEL):
        assert colours.contrast(role.light, ground.light) >= least
        assert colours.contrast(role.dark, ground.dark) >= least


def test_contrast_of_black_and_white() -> None:
    assert colours.contrast("#000000", "#ffffff") == pytest.approx(21.0)
    # #777777: 0x77 / 255 = .4667 -> ((.4667 + .055) / 1.055)^2.4 = .1845; 1.05 / .2345 = 4.478
    assert colours.contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)
