"""The doctor's findings as the page tells them: numbered, on the time axis, in paragraphs."""

from collections.abc import Sequence

from grpo_dual.diagnosis.doctor import borne_out, explanation
from grpo_dual.diagnosis.page import title as named
from grpo_dual.report.panels import Mark, Span, SpanPanel
from grpo_dual.report.reading import Run
from grpo_dual.report.texts import label
from grpo_dual.types import Finding, Severity

_SLOTS = {Severity.ACT: 0, Severity.WARN: 1, Severity.NOTE: 2}
_MOST_SPANS = 12


def causes(run: Run) -> tuple[Finding, ...]:
    """The findings that nothing else explains, first things first; their place is their number."""
    found = run.diagnosis.findings
    shown = [f for f in found if borne_out(f)]
    return tuple(f for f in shown if explanation(f, found) is None)


def symptoms(run: Run) -> tuple[tuple[Finding, Finding], ...]:
    """The findings that another one explains, each with this one."""
    found = run.diagnosis.findings
    pairs = ((f, explanation(f, found)) for f in found if borne_out(f))
    return tuple((f, cause) for f, cause in pairs if cause is not None)


def only_warned(run: Run) -> tuple[Finding, ...]:
    """What the pre-flight warned of and the run did not show."""
    return tuple(f for f in run.diagnosis.findings if not borne_out(f))


def marks(run: Run, objective: str | None) -> tuple[Mark, ...]:
    """Where causes begin, those of one step as one mark.

    Args:
        run: With its diagnosis.
        objective: Leave out those of other objectives; None for all.
    """
    by_step: dict[int, list[str]] = {}
    for place, found in enumerate(causes(run), start=1):
        if found.step and (objective is None or found.objective in (None, objective)):
            by_step.setdefault(found.step, []).append(str(place))
    return tuple(Mark(",".join(own), step) for step, own in sorted(by_step.items()))


def timeline(run: Run, title: str = "Findings over steps") -> SpanPanel | None:
    """How long each finding held, causes first; None when there is nothing to draw."""
    if not run.history.steps:
        return None
    numbered = {id(f): str(i) for i, f in enumerate(causes(run), start=1)}
    listed = [*causes(run), *(f for f, _ in symptoms(run))]
    last = run.history.steps[-1]
    spans = [_span(f, numbered.get(id(f), ""), last) for f in listed]
    return SpanPanel(title, tuple(spans[:_MOST_SPANS]), last) if spans else None


def _span(found: Finding, place: str, last: int) -> Span:
    text = label(named(found), 60)
    return Span(
        text=f"{place}. {text}" if place else text,
        slot=_SLOTS[found.severity],
        first=found.step or 0,
        last=last if found.until is None else found.until,
        over=found.until is not None,
    )


def counted(findings: Sequence[Finding]) -> str:
    """``2 to act on, 1 warning``."""
    words = {
        Severity.ACT: ("to act on", "to act on"),
        Severity.WARN: ("warning", "warnings"),
        Severity.NOTE: ("note", "notes"),
    }
    told: list[str] = []
    for severity, (one, several) in words.items():
        number = sum(f.severity is severity for f in findings)
        if number:
            told.append(f"{number} {one if number == 1 else several}")
    return ", ".join(told) or "healthy"
