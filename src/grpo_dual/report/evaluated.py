"""A file that ``grpo-dual eval --json`` wrote, as figure, table and sentence."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_dual.errors import DataError
from grpo_dual.report.eval_file import FAIRNESS, FAITHFULNESS, MEASURES, Kind, Tree, Where
from grpo_dual.report.held_out import Estimate
from grpo_dual.report.panels import Dots, Group, IntervalPanel, Table, interval
from grpo_dual.report.texts import label, visible


@dataclass(frozen=True, slots=True)
class Target:
    """One evaluated policy."""

    name: str
    scores: Mapping[str, Estimate]
    """By words; an interval is a bootstrap over templates."""
    gaps: Mapping[str, Estimate]
    """The same minus the first target's, paired; empty of the first."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All of a file."""

    path: Path
    targets: tuple[Target, ...]
    decode: str
    """How answers were drawn."""
    notes: tuple[str, ...]


def read_evaluation(path: Path) -> Evaluation:
    """A result file of ``grpo-dual eval``.

    Raises:
        DataError: It is none.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        targets = tuple(_target(t) for t in document["targets"])
        origin = document["provenance"]
        decode = str(origin["decode"]["mode"])
        notes = tuple(str(n) for n in origin.get("notes", ()))
        if not targets:
            raise ValueError("it holds no target")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: is no result of `grpo-dual eval --json` ({error}); give the file that it "
            "wrote"
        ) from error
    return Evaluation(path, targets, visible(decode), notes)


def group(found: Evaluation) -> Group:
    """Shares and bias scores of all targets as dots with intervals."""
    panels: list[IntervalPanel] = []
    for title, kinds in (
        ("Evaluated shares and axes", ("axis", "share")),
        ("Evaluated bias scores (0 is none)", ("bias",)),
    ):
        rows = tuple(m.words for m in _shown(found) if m.kind in kinds)
        if rows:
            dots = tuple(
                Dots(label(t.name), i - 1 if i else None, tuple(t.scores[r] for r in rows))
                for i, t in enumerate(found.targets)
            )
            share = "share" in kinds
            low = 0.0 if share else -1.0
            brief = "Bars are 95 % intervals, bootstrap over templates."
            panels.append(IntervalPanel(title, rows, dots, share, low, 1.0, brief))
    notes = tuple(f"Note: {visible(note)}." for note in found.notes)
    says = f"By grpo-dual eval, decoding: {found.decode}. Unparsed answers are wrong."
    return Group("evaluation", "Evaluation", says, tuple(panels), notes)


def table(found: Evaluation) -> Table:
    """Measures by targets, and paired differences from the first."""
    several = found.targets[1:]
    header = (
        "measure",
        *(t.name for t in found.targets),
        *(f"{t.name} - first" for t in several),
    )
    rows = tuple(
        (
            m.words,
            *(_cell(t.scores[m.words], m.kind) for t in found.targets),
            *(_cell(t.gaps.get(m.words, Estimate(None)), m.kind, gap=True) for t in several),
        )
        for m in _shown(found)
    )
    note = "95 % intervals: bootstrap over templates; differences are paired, item by item."
    return Table(header, rows, note)


def sentence(found: Evaluation) -> str:
    """How far the last target lies from the first on both axes; empty of one target."""
    last = found.targets[-1]
    told = [
        f"{axis.key} {_cell(gap, axis.kind, gap=True)}"
        for axis in (FAIRNESS, FAITHFULNESS)
        if (gap := last.gaps.get(axis.words)) is not None and gap.value is not None
    ]
    if not told:
        return ""
    names = f"{last.name} against {found.targets[0].name}"
    return (
        f"By grpo-dual eval, {names}, on the same items: {', '.join(told)} (paired 95 % interval)."
    )


def _target(document: Mapping[str, Any]) -> Target:
    gaps: Tree = document.get("minus_first") or {}
    if "axes" not in document:  # every result has them, whatever was asked
        raise ValueError("a target has no axes")
    return Target(
        visible(str(document["name"]).rstrip("/").rsplit("/", 1)[-1]),
        {m.words: m.score(document) for m in MEASURES},
        {m.words: m.difference(gaps) for m in MEASURES} if gaps else {},
    )


def _shown(found: Evaluation) -> list[Where]:
    """The measures that some target has."""
    return [m for m in MEASURES if any(t.scores[m.words].value is not None for t in found.targets)]


def _cell(found: Estimate, kind: Kind, *, gap: bool = False) -> str:
    """A score, or a difference: ``+67.5 [+60.1, +74.0]``; shares in points of a hundred."""
    if not gap and kind != "number":
        return interval(found, share=kind != "bias")
    if found.value is None:
        return "-"
    scale, digits = (100, 1) if kind == "share" else (1, 2)
    sign = "+" if gap else ""
    value, *ends = (
        None if x is None else f"{scale * x:{sign}.{digits}f}"
        for x in (found.value, found.low, found.high)
    )
    return str(value) if None in ends else f"{value} [{ends[0]}, {ends[1]}]"
