"""Configurations as dotted keys, and where those of several runs differ."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

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


def flat(config: Mapping[str, object]) -> dict[str, str]:
    """Dotted key -> value as JSON; ``{"a": {"b": 1}}`` is ``{"a.b": "1"}``."""
    return dict(_flat(config, ""))


def compared(runs: Sequence[Run]) -> tuple[Setting, ...]:
    """Every key of the runs, in the order of their files."""
    each = [flat(run.history.config) for run in runs]
    keys = dict.fromkeys(key for own in each for key in own)
    return tuple(Setting(key, tuple(own.get(key, MISSING) for own in each)) for key in keys)


def differences(runs: Sequence[Run]) -> tuple[Setting, ...]:
    """The keys in which they differ, names and folders apart."""
    return tuple(s for s in compared(runs) if s.differs and s.key not in _OWN)


def _flat(node: Mapping[str, object], before: str) -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(cast("Mapping[str, object]", value), f"{name}.")
        else:
            yield name, json.dumps(value, ensure_ascii=False)
