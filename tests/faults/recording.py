"""Runs a case and writes down what the doctor would see of it."""

import contextlib
import json
import lzma
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from faults.catalogue import BASE, Case
from grpo_dual.config.load import load_config
from grpo_dual.diagnosis.history import History, Sample, Value
from grpo_dual.diagnosis.journal import finding, row
from grpo_dual.diagnosis.reading import read_run
from grpo_dual.errors import GrpoDualError
from grpo_dual.train.run import train

DIGITS = 5
"""Significant digits of a history that is kept as a document."""
KEPT_SAMPLES = 24
"""Latest completions of each objective that are kept."""


def settings(case: Case, seed: int, out: Path) -> dict[str, Any]:
    """The case's configuration as a nested mapping."""
    flat = {**BASE, **case.changes, "train.seed": seed, "out": str(out)}
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        if value is None:
            continue
        *path, last = key.split(".")
        node = nested
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return nested


def record(case: Case, seed: int, folder: Path) -> History:
    """Train the case in ``folder`` and read the run as ``grpo-dual doctor`` does.

    An error that stops the run is part of the record.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(settings(case, seed, folder / "runs")))
    with case.patch(load_config(file)) as config, contextlib.suppress(GrpoDualError):
        train(config, look=True, force=True)
    (run,) = (folder / "runs").iterdir()
    return read_run(run)


def save(histories: Mapping[str, History], path: Path) -> None:
    """Several histories in one compressed file."""
    documents = {name: history_document(h) for name, h in histories.items()}
    text = json.dumps(documents, separators=(",", ":"))
    path.write_bytes(lzma.compress(text.encode(), preset=9))


def load(path: Path) -> dict[str, History]:
    """What ``save`` wrote."""
    documents = json.loads(lzma.decompress(path.read_bytes()))
    return {name: revive(document) for name, document in documents.items()}


def history_document(history: History) -> dict[str, Any]:
    """A history as JSON, numbers rounded to ``DIGITS``, only the latest completions."""
    samples = [
        s
        for name in history.objectives
        for s in [own for own in history.samples if own.objective == name][-KEPT_SAMPLES:]
    ]
    return {
        "objectives": list(history.objectives),
        "steps": list(history.steps),
        "columns": {k: [_rounded(v) for v in own] for k, own in history.columns.items()},
        "config": history.config,
        "evaluations": {str(s): e for s, e in history.evaluations.items()},
        "samples": [
            [s.step, s.objective, s.prompt, s.completion, s.verdict, s.total] for s in samples
        ],
        "baseline": dict(history.baseline),
        "ended": history.ended,
        "before": [row(f, "preflight") for f in history.before],
    }


def revive(document: Mapping[str, Any]) -> History:
    """What ``history_document`` made."""
    return History(
        objectives=tuple(document["objectives"]),
        steps=tuple(document["steps"]),
        columns={
            key: tuple(float(v) if isinstance(v, str) else v for v in own)
            for key, own in document["columns"].items()
        },
        config=document["config"],
        evaluations={int(s): e for s, e in document["evaluations"].items()},
        samples=tuple(Sample(*own) for own in document["samples"]),
        baseline=document["baseline"],
        ended=document["ended"],
        before=tuple(map(finding, document.get("before", ()))),
    )


def _rounded(value: Value) -> float | str | None:
    if value is None or not math.isfinite(value):
        return None if value is None else repr(value)
    return float(f"{value:.{DIGITS}g}")
