"""How grave a share is, and what a set of findings amounts to."""

from collections.abc import Iterable, Sequence

from grpo_dual.types import Finding, Severity


def grade(share: float, *, act: float, warn: float) -> Severity:
    """The severity of a share: from ``act`` on ACT, from ``warn`` on WARN, else NOTE."""
    if share >= act:
        return Severity.ACT
    return Severity.WARN if share >= warn else Severity.NOTE


def must_act(findings: Iterable[Finding]) -> bool:
    """Is one of them a reason not to start?"""
    return any(finding.severity is Severity.ACT for finding in findings)


def counted(findings: Sequence[Finding]) -> str:
    """E.g. ``1 act, 2 warn, 0 note``."""
    numbers = {s: sum(f.severity is s for f in findings) for s in reversed(Severity)}
    return ", ".join(f"{number} {severity}" for severity, number in numbers.items())
