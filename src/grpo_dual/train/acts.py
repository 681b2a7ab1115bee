"""Remedies that a run applies to itself: what they replace is kept, and can be put back.

``acts/1`` of a run folder holds the first: why (``act.json``), and everything it replaced, which is
the configuration, the metric files and the checkpoints behind the step the run went back to.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from grpo_dual.config.schema import RunConfig
from grpo_dual.config.snapshot import amend
from grpo_dual.diagnosis.journal import ACT, ACTS, JOURNAL, act_places, acts, forget, row
from grpo_dual.diagnosis.remedies import Prescription, patched
from grpo_dual.errors import CheckpointError, ConfigError
from grpo_dual.metrics.files import write_atomically
from grpo_dual.metrics.sinks import (
    COMPLETIONS,
    EVAL_COMPLETIONS,
    EVALUATIONS,
    STEP_CSV,
    STEP_JSONL,
    SUMMARY,
)
from grpo_dual.train.checkpoint import BEST, Checkpoints

CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
_FILES = (
    CONFIG, STEP_CSV, STEP_JSONL, COMPLETIONS, EVAL_COMPLETIONS, EVALUATIONS, SUMMARY, JOURNAL,
)  # fmt: skip


def tried(folder: Path) -> tuple[str, ...]:
    """Causes that were treated in a run, each once, in order; undone ones do not count."""
    return tuple(str(act["code"]) for act in acts(folder) if not act["undone"])


def changed_since(folder: Path, checkpoint: int | None) -> frozenset[str]:
    """Keys that remedies have changed since a checkpoint was written.

    Args:
        folder: The run's.
        checkpoint: Step of the newest one.
    """
    since = [act for act in acts(folder) if not act["undone"] and act["back_to"] == checkpoint]
    return frozenset(key for act in since for key in act["patch"])


def changed(config: RunConfig, patch: Mapping[str, object]) -> RunConfig:
    """A configuration with a remedy's keys.

    Raises:
        ConfigError: The remedy does not fit it.
    """
    try:
        return RunConfig.model_validate(patched(config.model_dump(mode="json"), patch))
    except ValidationError as error:
        raise ConfigError(
            f"the doctor's remedy {dict(patch)} does not fit this configuration: {error}"
        ) from error


def apply(folder: Path, config: RunConfig, remedy: Prescription) -> RunConfig:
    """Write the changed configuration into the run folder, and put aside what no longer holds.

    The run goes on by being resumed: from the checkpoint of ``remedy.back_to``, which is the newest
    one afterwards.

    Returns:
        The changed configuration.

    Raises:
        ConfigError: The remedy does not fit; nothing was touched.
        CheckpointError: The file system refuses.
    """
    new = changed(config, remedy.patch)
    place = folder / ACTS / str(len(act_places(folder)) + 1)
    finding = remedy.findings[0]
    why = {
        "code": finding.code,
        "objectives": [f.objective for f in remedy.findings],
        "at": remedy.at,
        "back_to": remedy.back_to,
        "patch": dict(remedy.patch),
        "finding": row(finding, "run"),
        "undone": False,
    }
    try:
        _put_aside(folder, place, behind=remedy.back_to, keep=True)
    except OSError as error:
        raise CheckpointError(f"{place}: cannot be written ({error.strerror or error})") from error
    write_atomically(place / ACT, (json.dumps(why, indent=1) + "\n").encode())
    amend(new, folder)
    forget(folder, finding.code)
    return new


def undo(folder: Path) -> dict[str, Any]:
    """Take back the last act: the run is again as it was before, and will only warn.

    What the act led to is kept in ``acts/N/after``.

    Returns:
        The act.

    Raises:
        CheckpointError: There is none, or the file system refuses.
    """
    standing = [(p, a) for p, a in zip(act_places(folder), acts(folder), strict=True)]
    place, act = next(
        ((p, a) for p, a in reversed(standing) if not a["undone"]),
        (None, cast("dict[str, Any]", {})),
    )
    if place is None:
        raise CheckpointError(f"{folder}: the doctor has applied no remedy that could be undone")
    try:
        _put_aside(folder, place / "after", behind=int(act["back_to"]), keep=False)
        for name in _FILES:
            if (place / name).exists():
                shutil.copy2(place / name, folder / name)
        checkpoints = place / CHECKPOINTS
        for own in checkpoints.iterdir() if checkpoints.is_dir() else ():
            shutil.move(own, folder / CHECKPOINTS / own.name)
    except OSError as error:
        raise CheckpointError(
            f"{folder}: cannot be put back ({error.strerror or error})"
        ) from error
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config = patched(config, {"doctor.mode": "warn"})
    write_atomically(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())
    act["undone"] = True
    write_atomically(place / ACT, (json.dumps(act, indent=1) + "\n").encode())
    return act


def _put_aside(folder: Path, place: Path, *, behind: int, keep: bool) -> None:
    """Copy (or move) the files of a run, and move its checkpoints behind a step."""
    place.mkdir(parents=True)
    for name in _FILES:
        if (folder / name).exists():
            (shutil.copy2 if keep else shutil.move)(folder / name, place / name)
    checkpoints = Checkpoints(folder / CHECKPOINTS)
    best = checkpoints.best()
    target = place / CHECKPOINTS
    target.mkdir()
    if best is not None and best[0] > behind:
        shutil.move(folder / CHECKPOINTS / BEST, target / BEST)
    for step in checkpoints.steps():
        if step > behind:
            shutil.move(checkpoints.path(step), target / checkpoints.path(step).name)
