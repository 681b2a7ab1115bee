"""What a person sees while a run goes: a bar with the few numbers that matter, or plain lines."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from grpo_dual.metrics import names
from grpo_dual.metrics.sinks import Cell
from grpo_dual.metrics.values import Value

SHOWN = 3
"""Records left out that are shown one by one."""


class Progress:
    """Per objective: reward, KL and evasion on answerable items; completion length and seconds."""

    def __init__(self, console: Console, objectives: Sequence[str], total: int) -> None:
        """``total`` steps are expected."""
        self.console = console
        self.records_left_out = 0
        self._objectives = objectives
        self._total = total
        self._bar = Bar(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Say something above the bar."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def left_out(self, reason: str) -> None:
        """A record was left out; the first few reasons are shown, all are counted."""
        self.records_left_out += 1
        if self.records_left_out <= SHOWN:
            more = "; further ones only count" if self.records_left_out == SHOWN else ""
            self.note(f"left out: {reason}{more}")

    def step(self, step: int, row: Mapping[str, Cell], alarms: Sequence[str] = ()) -> None:
        """Show a finished step, and what is alarming about it."""
        if number(row[names.SKIPPED_UPDATE.key]):
            self.note(f"step {step}: loss or gradient was not finite; that update was left out")
        for alarm in alarms:
            self.note(f"step {step}: {alarm}")
        text = "  ".join(self._objective(name, row) for name in self._objectives)
        self._bar.update(self._task, completed=step, description=text)
        if not self.console.is_terminal:
            seconds = sum(
                v
                for k, c in row.items()
                if k.endswith(names.TIMING) and (v := number(c)) is not None
            )
            self.note(f"step {step}/{self._total}  {text}  {seconds:.1f} s")

    def _objective(self, name: str, row: Mapping[str, Cell]) -> str:
        shown = (
            ("reward", names.REWARD_MEAN, "+.2f"),
            ("kl", names.KL, ".3f"),
            ("evades", names.EVASION_ANSWERABLE, ".0%"),
            ("len", names.GEN_LEN, ".0f"),
        )
        cells = ((label, number(row.get(m.of(name))), form) for label, m, form in shown)
        values = " ".join(f"{label} {v:{form}}" for label, v, form in cells if v is not None)
        return f"{name}: {values}"


def number(cell: Cell) -> float | None:
    """The number of a cell, or None."""
    if cell is None or isinstance(cell, int | float):
        return cell
    value: Value = cell
    return value.value
