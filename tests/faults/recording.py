"""Runs a case and writes down what the doctor would see of it."""

import contextlib
import json
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from faults.catalogue import BASE, Case
from grpo_dual.config.load import load_config
from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.reading import history_document, read_run, revive
from grpo_dual.errors import GrpoDualError
from grpo_dual.train.run import train


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
