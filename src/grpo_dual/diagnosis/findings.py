"""Findings in order, as lines to read and as rows of ``doctor.jsonl``."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from grpo_dual.errors import CheckpointError
from grpo_dual.types import Finding, Severity

DOCTOR = "doctor.jsonl"
"""File of a run folder: one finding a line."""
Phase = Literal["preflight", "run"]
"""When it was found: before step 0, or in the run."""

_RANK = {Severity.ACT: 0, Severity.WARN: 1, Severity.NOTE: 2}


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The gravest first, and of one severity the surest first."""
    return tuple(sorted(findings, key=lambda f: (_RANK[f.severity], -f.confidence)))


def must_act(findings: Iterable[Finding]) -> bool:
    """Is one of them a reason not to start?"""
    return any(finding.severity is Severity.ACT for finding in findings)


def grade(share: float, *, act: float, warn: float) -> Severity:
    """The severity of a share: from ``act`` on ACT, from ``warn`` on WARN, else NOTE."""
    if share >= act:
        return Severity.ACT
    return Severity.WARN if share >= warn else Severity.NOTE


def row(finding: Finding, phase: Phase) -> dict[str, object]:
    """A finding as JSON values: its fields, and when it was found."""
    return {**asdict(finding), "severity": str(finding.severity), "phase": phase}


def append(folder: Path, findings: Iterable[Finding], phase: Phase) -> None:
    """Write findings behind those that ``doctor.jsonl`` of a run folder holds.

    Raises:
        CheckpointError: The file cannot be written.
    """
    path = folder / DOCTOR
    lines = [json.dumps(row(f, phase), allow_nan=False, ensure_ascii=False) for f in findings]
    try:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or error}).") from error


def lines(finding: Finding) -> list[str]:
    """A finding to be read: what, what it rests on, and what to change."""
    where = f" ({finding.objective})" if finding.objective else ""
    when = f" at step {finding.step}" if finding.step is not None else ""
    told = [f"{finding.severity.upper()} {finding.code}{where}{when}: {finding.says}"]
    told += [f"    {line}" for line in finding.evidence]
    told += [f"    wrote: {sample!r}" for sample in finding.samples]
    told.append(f"    remedy: {finding.remedy}")
    told += [f"    --{key} {flag(value)}" for key, value in finding.patch.items()]
    return told


def flag(value: object) -> str:
    """A value as it stands behind a flag."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return " ".join(map(flag, value))  # pyright: ignore[reportUnknownArgumentType]
    return str(value)


def counted(findings: Sequence[Finding]) -> str:
    """E.g. ``1 act, 2 warn, 0 note``."""
    numbers = {s: sum(f.severity is s for f in findings) for s in _RANK}
    return ", ".join(f"{number} {severity}" for severity, number in numbers.items())
