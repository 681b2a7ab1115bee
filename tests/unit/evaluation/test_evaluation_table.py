"""The before/after table: plain words, signs, and which way is better."""

from io import StringIO

from policies import FAIRNESS, HALLUCINATION, planted_answer, planted_reply, scores
from rich.console import Console

from grpo_dual.evaluation.table import Row, before_after, plain, rows, show

BEFORE = scores(planted_reply, planted_answer)
AFTER = scores(FAIRNESS["oracle"], HALLUCINATION["oracle"])


def test_plain_lines_hold_every_row_with_signs() -> None:
    lines = plain(BEFORE, AFTER).splitlines()
    assert lines[0].split() == ["before", "after", "change", "better"]
    assert len(lines) == 1 + len(list(rows(BEFORE, AFTER)))
    stereotyped = next(line for line in lines if line.startswith("Stereotyped"))
    assert "0.0 %" in stereotyped
    assert stereotyped.endswith("lower")
    assert " -" in stereotyped
    # The values stand in columns: every line's "after" ends at the same place.
    ends = {line.index("after") + 5 for line in lines[:1]}
    assert {line.index("0.0 %") + 5 for line in lines if line.startswith("Evasions")} == ends


def test_the_terminal_table_says_the_same() -> None:
    out = StringIO()
    Console(file=out, width=120, color_system=None).print(before_after(BEFORE, AFTER))
    shown = out.getvalue()
    for row in rows(BEFORE, AFTER):
        for cell in row.cells():
            assert cell.strip() in shown


def test_rows_of_what_was_not_measured_are_left_out() -> None:
    words = [row.words for row in rows({"fairness": {"accuracy_ambig": 0.5}}, {})]
    assert words == ["Right when the context does not say"]
    assert plain({}, {}).split() == ["before", "after", "change", "better"]


def test_better_and_worse() -> None:
    assert Row("x", 0.2, 0.4, "higher").improved is True
    assert Row("x", 0.2, 0.4, "lower").improved is False
    assert Row("x", -0.5, 0.1, "nearer 0").improved is True
    assert Row("x", 0.1, -0.5, "nearer 0").improved is False
    assert Row("x", 0.1, 0.1, "lower").improved is None
    assert Row("x", 0.1, 0.2, "").improved is None
    assert Row("x", None, 0.2, "lower").improved is None
    assert Row("x", None, 0.25, "lower").cells() == ("x", "-", "25.0 %", "-", "lower")
    assert Row("x", -0.5, 0.25, "nearer 0", percent=False).cells()[1:4] == (
        "-0.50",
        "0.25",
        "+0.75",
    )


def test_show_is_framed_on_a_terminal_and_plain_elsewhere() -> None:
    out = StringIO()
    show(Console(file=out, width=60), {"step": 0, **BEFORE}, {"step": 9, **AFTER})
    assert out.getvalue() == plain(BEFORE, AFTER) + "\n"  # no line is folded
    terminal = StringIO()
    show(Console(file=terminal, width=120, force_terminal=True, color_system=None), BEFORE, AFTER)
    assert "Held-out items, before and after" in terminal.getvalue()
