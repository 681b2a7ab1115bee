"""``doctor.jsonl`` of a run folder: one finding a line, those of the pre-flight first."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

from grpo_dual.errors import CheckpointError, DataError
from grpo_dual.metrics.files import write_atomically
from grpo_dual.types import Finding, Severity

JOURNAL = "doctor.jsonl"
ACTS = "acts"
ACT = "act.json"
"""``acts/1/act.json``: the first remedy that was applied (train/acts.py writes it)."""
Phase = Literal["preflight", "run"]
"""When it was found: before step 0, or in the run."""


def row(finding: Finding, phase: Phase) -> dict[str, object]:
    """A finding as JSON values: its fields, and when it was found."""
    return {**asdict(finding), "severity": str(finding.severity), "phase": phase}


def append(folder: Path, findings: Iterable[Finding], phase: Phase) -> None:
    """Write findings behind those that are there.

    Raises:
        CheckpointError: The file cannot be written.
    """
    path = folder / JOURNAL
    lines = [json.dumps(row(f, phase), allow_nan=False, ensure_ascii=False) for f in findings]
    if not lines:
        return
    try:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or error}).") from error


def before_the_run(folder: Path) -> tuple[Finding, ...]:
    """What the pre-flight found.

    Raises:
        DataError: The file was damaged.
    """
    return tuple(finding(row) for row in _rows(folder / JOURNAL) if row["phase"] == "preflight")


def act_places(folder: Path) -> list[Path]:
    """Folders of the remedies that the doctor applied to a run, in order."""
    found = [p for p in (folder / ACTS).glob("*") if p.name.isdecimal()]
    return sorted(found, key=lambda p: int(p.name))


def acts(folder: Path) -> list[dict[str, Any]]:
    """All remedies that were applied to a run, in order, undone ones too.

    Raises:
        CheckpointError: The record of one was damaged.
    """
    found: list[dict[str, Any]] = []
    for place in act_places(folder):
        path = place / ACT
        try:
            act = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
            lacking = {"code", "at", "back_to", "patch", "undone"} - act.keys()
            if lacking:
                raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
        except (OSError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"{path}: cannot be read ({error}); the folder was damaged or edited. Restore it, "
                f"or remove {place} to forget that remedy."
            ) from error
        found.append(act)
    return found


def acted(folder: Path) -> tuple[str, ...]:
    """``acts``, a line each.

    Raises:
        CheckpointError: The record of one was damaged.
    """
    told: list[str] = []
    for act in acts(folder):
        patch = ", ".join(f"{key} {json.dumps(value)}" for key, value in act["patch"].items())
        line = f"The doctor acted on {act['code']} behind step {act['at']}: {patch}"
        told.append(line + (" (undone)." if act["undone"] else "; --undo takes it back."))
    return tuple(told)


def cut(folder: Path, step: int) -> None:
    """Drop what was found behind ``step``: a resumed run finds it again.

    Raises:
        DataError: The file was damaged.
        CheckpointError: It cannot be written.
    """
    _keep(folder, lambda row: int(row["step"] or 0) <= step)


def forget(folder: Path, code: str) -> None:
    """Drop a cause that was treated, so that what the pre-flight said of it no longer holds.

    Raises:
        DataError: The file was damaged.
        CheckpointError: It cannot be written.
    """
    _keep(folder, lambda row: row["code"] != code)


def _keep(folder: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    path = folder / JOURNAL
    if path.exists():
        kept = (json.dumps(row, ensure_ascii=False) for row in _rows(path) if wanted(row))
        write_atomically(path, "".join(f"{line}\n" for line in kept).encode())


def _rows(path: Path) -> list[dict[str, Any]]:
    """Whole lines; a half-written end is left out."""
    if not path.exists():
        return []
    found: list[dict[str, Any]] = []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    for number, line in enumerate(lines, start=1):
        try:
            row = cast("dict[str, Any]", json.loads(line))
            finding(row)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number}: no finding ({error}); the file was damaged or edited. "
                "Restore the line, or delete it: nothing else depends on it."
            ) from error
        found.append(row)
    return found


def finding(row: Mapping[str, Any]) -> Finding:
    """What ``row`` made.

    Raises:
        KeyError, ValueError: It is no finding.
    """
    return Finding(
        code=row["code"],
        objective=row["objective"],
        severity=Severity(row["severity"]),
        says=row["says"],
        evidence=tuple(row["evidence"]),
        confidence=row["confidence"],
        remedy=row["remedy"],
        patch=row["patch"],
        samples=tuple(row["samples"]),
        step=row["step"],
        until=row.get("until"),
    )
