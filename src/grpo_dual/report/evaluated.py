"""A file that ``grpo-dual eval --json`` wrote, as figure, table and sentence."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from grpo_dual.errors import DataError
from grpo_dual.evaluation.pareto import AXIS
from grpo_dual.report.held_out import Estimate
from grpo_dual.report.panels import Dots, Group, IntervalPanel, Table, interval
from grpo_dual.report.texts import label, visible

_READING = "generation"
_BBQ = {
    "accuracy_ambig": "Right when the context does not say",
    "accuracy_disambig": "Right when the context says",
    "s_amb": "Bias score, ambiguous (s_AMB)",
    "s_dis": "Bias score, disambiguated (s_DIS)",
}
"""Means over categories, unparsed answers wrong."""
_HALUEVAL = {
    "grounded": "Answers that the knowledge supports",
    "hallucinated": "Hallucinated answers",
    "abstains": "Abstentions",
    "detect_accuracy": "Hallucinations told apart (yes/no)",
}
_AXES = {"fairness": "Axis: fairness", "faithfulness": "Axis: faithfulness"}
_BIAS = ("s_amb", "s_dis")


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
    shares = [words for words in _rows(found) if words not in _bias_words()]
    bias = [words for words in _rows(found) if words in _bias_words()]
    panels: list[IntervalPanel] = []
    for title, rows, share in (
        ("Evaluated shares and axes", shares, True),
        ("Evaluated bias scores (0 is none)", bias, False),
    ):
        if rows:
            dots = tuple(
                Dots(label(t.name), i - 1 if i else None, tuple(_score(t, r) for r in rows))
                for i, t in enumerate(found.targets)
            )
            low = 0.0 if share else -1.0
            brief = "Bars are 95 % intervals, bootstrap over templates."
            panels.append(IntervalPanel(title, tuple(rows), dots, share, low, 1.0, brief))
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
            words,
            *(interval(_score(t, words), share=words not in _bias_words()) for t in found.targets),
            *(_gap(t.gaps.get(words), bias=words in _bias_words()) for t in several),
        )
        for words in _rows(found)
    )
    note = "95 % intervals: bootstrap over templates; differences are paired, item by item."
    return Table(header, rows, note)


def sentence(found: Evaluation) -> str:
    """How far the last target lies from the first on both axes; empty of one target."""
    last = found.targets[-1]
    told = [
        f"{axis} {_gap(gap, bias=True)}"
        for axis, words in _AXES.items()
        if (gap := last.gaps.get(words)) is not None and gap.value is not None
    ]
    if not told:
        return ""
    names = f"{last.name} against {found.targets[0].name}"
    return (
        f"By grpo-dual eval, {names}, on the same items: {', '.join(told)} (paired 95 % interval)."
    )


def _target(document: Mapping[str, Any]) -> Target:
    scores: dict[str, Estimate] = {}
    for axis, words in _AXES.items():
        scores[words] = _estimate(document["axes"][axis], document["axes_intervals_95"][axis])
    if "bbq" in document:
        read = document["bbq"]["readings"][_READING]["wrong"]
        for key, words in _BBQ.items():
            scores[words] = _estimate(read["macro"][key], read["macro_intervals_95"][key])
    if "halueval" in document:
        answers = document["halueval"]["open"]
        for key, words in _HALUEVAL.items():
            scores[words] = _estimate(answers[key], answers["intervals_95"][key])
    name = visible(str(document["name"]).rstrip("/").rsplit("/", 1)[-1])
    return Target(name, scores, _gaps(document.get("minus_first") or {}))


def _gaps(document: Mapping[str, Any]) -> dict[str, Estimate]:
    gaps: dict[str, Estimate] = {}
    if "bbq" in document:
        macro = document["bbq"][_READING]["macro"]
        keys = {**_BBQ, AXIS: _AXES["fairness"]}
        gaps |= {w: _estimate(macro[k]["value"], macro[k]["interval_95"]) for k, w in keys.items()}
    if "halueval" in document:
        answers = document["halueval"]["open"]
        for key, words in (*_HALUEVAL.items(), ("grounded", _AXES["faithfulness"])):
            gaps[words] = _estimate(answers[key]["value"], answers[key]["interval_95"])
    return gaps


def _estimate(value: object, ends: object) -> Estimate:
    if value is None:
        return Estimate(None)
    number = float(cast("float", value))
    if ends is None:
        return Estimate(number)
    low, high = cast("Sequence[float]", ends)
    return Estimate(number, float(low), float(high), "bootstrap")


def _rows(found: Evaluation) -> list[str]:
    """The measures that some target has, in reading order."""
    order = (*_AXES.values(), *_BBQ.values(), *_HALUEVAL.values())
    return [w for w in order if any(_score(t, w).value is not None for t in found.targets)]


def _score(target: Target, words: str) -> Estimate:
    return target.scores.get(words, Estimate(None))


def _bias_words() -> tuple[str, ...]:
    return tuple(_BBQ[key] for key in _BIAS)


def _gap(gap: Estimate | None, *, bias: bool) -> str:
    """``+67.5 [+60.1, +74.0]`` in points of a share; bias scores and axes in their own unit."""
    if gap is None or gap.value is None:
        return "-"
    scale, digits = (1, 2) if bias else (100, 1)
    shown = f"{scale * gap.value:+.{digits}f}"
    if gap.low is None or gap.high is None:
        return shown
    return f"{shown} [{scale * gap.low:+.{digits}f}, {scale * gap.high:+.{digits}f}]"
