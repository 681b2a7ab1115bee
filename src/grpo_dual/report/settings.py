"""Configurations as dotted keys, and where those of several runs differ."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from grpo_dual.evaluation.evaluated import flat
from grpo_dual.report.reading import Run

MISSING = "(not set)"
_OWN = ("out", "name")
"""Differ between any two runs, and mean nothing."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A key with its value in each run."""

    key: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Two runs have it otherwise."""
        return len(set(self.values)) > 1


def compared(runs: Sequence[Run]) -> tuple[Setting, ...]:
    """Every key of the runs, in the order of their files."""
    each = [
        {key: json.dumps(value, ensure_ascii=False) for key, value in flat(run.history.config)}
        for run in runs
    ]
    keys = dict.fromkeys(key for own in each for key in own)
    return tuple(Setting(key, tuple(own.get(key, MISSING) for own in each)) for key in keys)


def differences(runs: Sequence[Run]) -> tuple[Setting, ...]:
    """The keys in which they differ, names and folders apart."""
    return tuple(s for s in compared(runs) if s.differs and s.key not in _OWN)
