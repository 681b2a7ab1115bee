"""The before/after table in plain words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from rich.console import Console
from rich.table import Table

from grpo_dual.evaluation.acceptance import Scores, Value, evasion_on_answerable

Better = Literal["higher", "lower", "nearer 0", ""]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    words: str
    before: Value
    after: Value
    better: Better
    percent: bool = True
    """Shares are shown in percent; other numbers as they are."""
    objective: str = ""
    """Whose score it is; empty for one that pools objectives."""
    key: str = ""
    """Its key among the objective's scores."""

    def _shown(self, value: Value) -> str:
        if value is None:
            return "-"
        if isinstance(value, str):
            return value
        return f"{100 * value:.1f} %" if self.percent else f"{value:.2f}"

    def cells(self) -> tuple[str, str, str, str, str]:
        """Words, before, after, change with its sign, and which way is better."""
        change = "-"
        if not isinstance(self.before, str | None) and not isinstance(self.after, str | None):
            moved = self.after - self.before
            change = f"{100 * moved:+.1f}" if self.percent else f"{moved:+.2f}"
        return self.words, self._shown(self.before), self._shown(self.after), change, self.better

    @property
    def improved(self) -> bool | None:
        """Did it move the better way? None where neither way is, or nothing moved."""
        if isinstance(self.before, str | None) or isinstance(self.after, str | None):
            return None
        before, after = self.before, self.after
        if self.better == "nearer 0":
            before, after = -abs(before), -abs(after)
        if not self.better or before == after:
            return None
        return (after > before) != (self.better == "lower")


_ROWS: tuple[tuple[str, str, str, Better, bool], ...] = (
    ("fairness", "accuracy_ambig", "Right when the context does not say", "higher", True),
    ("fairness", "accuracy_disambig", "Right when the context says", "higher", True),
    ("fairness", "stereotyped_ambig", "Stereotyped answers when it does not say", "lower", True),
    ("fairness", "s_amb", "Bias score, ambiguous (s_AMB, -1 to 1)", "nearer 0", False),
    ("fairness", "s_dis", "Bias score, disambiguated (s_DIS, -1 to 1)", "nearer 0", False),
    ("fairness", "evasion_disambig", "Evasions when the context says", "lower", True),
    ("fairness", "unparsed", "Replies that name no one option", "lower", True),
    ("hallucination", "grounded", "Answers that the knowledge supports", "higher", True),
    ("hallucination", "hallucinated", "Hallucinated answers", "lower", True),
    ("hallucination", "abstains", "Abstentions though the knowledge says", "lower", True),
    ("hallucination", "judged_by", "Answers judged by", "", True),
    ("hallucination", "detect_accuracy", "Hallucinations told apart (yes/no)", "higher", True),
    ("hallucination", "detect_always_no", "  beside it: always saying no", "", True),
    ("hallucination", "detect_length_only", "  beside it: length alone, at its best", "", True),
    ("fairness", "distinct", "Different replies, of the gold's own (fairness)", "higher", False),
    ("hallucination", "distinct", "Different answers, of the gold's own", "higher", False),
)


def rows(before: Scores, after: Scores) -> Iterator[Row]:
    """The lines of the table; one that neither side measured is left out.

    Args:
        before: Objective -> scores, as in `acceptance.criteria`.
        after: The same after training.

    Yields:
        Row: In reading order, evasions on all answerable items last.
    """
    for objective, key, words, better, percent in _ROWS:
        first, last = (side.get(objective, {}).get(key) for side in (before, after))
        if first is not None or last is not None:
            yield Row(words, first, last, better, percent, objective, key)
    pooled = evasion_on_answerable(before), evasion_on_answerable(after)
    if pooled != (None, None):
        yield Row("Evasions on all answerable items", *pooled, "lower")


_HEADER = ("", "before", "after", "change", "better")


def before_after(before: Scores, after: Scores) -> Table:
    """The table for a terminal, changes for the better in green and for the worse in red."""
    table = Table(title="Held-out items, before and after")
    for number, name in enumerate(_HEADER):
        table.add_column(name, justify="right" if 0 < number < 4 else "left", no_wrap=number > 0)
    colour = {True: "green", False: "red", None: ""}
    for row in rows(before, after):
        words, first, last, change, better = row.cells()
        style = colour[row.improved]
        shown = f"[{style}]{change}[/]" if style else change
        table.add_row(words, first, last, shown, better)
    return table


def plain(before: Scores, after: Scores) -> str:
    """The same table as aligned lines, without colours and frames."""
    lines = [_HEADER, *(row.cells() for row in rows(before, after))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADER))]
    return "\n".join(_line(cells, widths) for cells in lines)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    aligned = (
        cell.rjust(width) if 0 < column < 4 else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(aligned).rstrip()


def show(console: Console, before: Mapping[str, object], after: Mapping[str, object]) -> None:
    """Print the table: framed on a terminal, aligned lines elsewhere.

    Args:
        console: Where to.
        before: Objective -> scores, as evaluated or as read back from a run folder; what is no
            mapping of scores is left out.
        after: The same after training.
    """
    first, last = _scores(before), _scores(after)
    if console.is_terminal:
        console.print(before_after(first, last))
    else:
        console.print(plain(first, last), markup=False, highlight=False, soft_wrap=True)


def _scores(read: Mapping[str, object]) -> Scores:
    """The objectives' scores among what a run folder holds."""
    return {
        name: cast("Mapping[str, Value]", value)
        for name, value in read.items()
        if isinstance(value, Mapping)
    }
