"""What the doctor makes of the cases."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from faults.catalogue import CASES
from grpo_dual.diagnosis.doctor import diagnose
from grpo_dual.diagnosis.history import History
from grpo_dual.types import Finding, Severity

FIRST, FIRST_TWO = 0.9, 0.97
"""Shares of the faults whose cause has to be named first, and among the first two."""
FALSE_ALARMS = 1
"""Findings of severity act that all healthy runs together may have."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The doctor's on one run."""

    name: str
    cause: str | None
    findings: tuple[Finding, ...]

    @property
    def named(self) -> list[str]:
        """Causes in the order in which they are named, each once."""
        return list(dict.fromkeys(f.code for f in self.findings if f.severity is not Severity.NOTE))

    @property
    def alarms(self) -> list[Finding]:
        """Findings that ask for action, or once did."""
        return [f for f in self.findings if f.severity is Severity.ACT]


def verdict(name: str, history: History) -> Verdict:
    """Of a run called ``<case>-<seed>``."""
    case = CASES[name.rpartition("-")[0]]
    return Verdict(name, case.cause, diagnose(history).findings)


def shares(verdicts: list[Verdict]) -> tuple[float, float, int]:
    """Of the faults: cause named first, among the first two; of the healthy: alarms."""
    faults = [v for v in verdicts if v.cause is not None]
    healthy = [v for v in verdicts if v.cause is None]
    first = sum(v.named[:1] == [v.cause] for v in faults) / max(1, len(faults))
    two = sum(v.cause in v.named[:2] for v in faults) / max(1, len(faults))
    return first, two, sum(len(v.alarms) for v in healthy)


def matrix(verdicts: list[Verdict]) -> str:
    """Markdown: true cause by row, first-named one by column."""
    counts: dict[str, Counter[str]] = {}
    for v in verdicts:
        acts = [f.code for f in v.findings if f.severity is Severity.ACT]
        said = (v.named[0] if v.cause else (acts[0] if acts else "-")) if v.named else "-"
        counts.setdefault(v.cause or "healthy", Counter())[said] += 1
    lines = ["| true cause | runs | named first |", "|---|---|---|"]
    for cause, own in counts.items():
        said = ", ".join(f"{code} {n}" for code, n in own.most_common())
        lines.append(f"| {cause} | {sum(own.values())} | {said} |")
    return "\n".join(lines)


def judge_all(histories: Mapping[str, History]) -> int:
    """Print the matrix and the shares; 1 when they are below what is asked."""
    verdicts = [verdict(name, history) for name, history in histories.items()]
    print(matrix(verdicts))
    for v in verdicts:
        wrong = v.cause is not None and v.named[:1] != [v.cause]
        if wrong or (v.cause is None and v.alarms):
            print(f"{v.name}: named {', '.join(v.named) or 'nothing'}")
    first, two, alarms = shares(verdicts)
    print(f"named first {first:.1%}, among the first two {two:.1%}, false alarms {alarms}")
    return int(first < FIRST or two < FIRST_TWO or alarms > FALSE_ALARMS)
