"""Remedies as configuration: what may be applied without asking, and how it is applied."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from grpo_dual.diagnosis.doctor import explanation
from grpo_dual.types import Finding, Severity

NEVER = ("custom_rewards",)
"""Last parts of keys that are never changed by themselves: they are the user's own code."""
AFRESH = -1
"""Goes back behind the warm-up: no checkpoint is kept."""
_FIRST = ("sft.", "model.")
"""Keys that act before step 0."""
_BEFORE = 3
"""Rows before a finding is certain in which it may have begun: its persistence."""


@dataclass(frozen=True, slots=True)
class Prescription:
    """A remedy that is about to be applied."""

    findings: tuple[Finding, ...]
    """The first is the reason; the others are the same cause in other objectives."""
    patch: Mapping[str, object]
    at: int
    """The step behind which it is applied."""
    back_to: int
    """The step the run goes back to: the last checkpoint from before the trouble; ``AFRESH`` where
    the remedy changes what came before step 0."""


def prescribe(
    findings: Sequence[Finding],
    *,
    allowed: Sequence[str],
    step: int,
    checkpoints: Sequence[int],
    tried: Sequence[str] = (),
) -> Prescription | None:
    """The remedy of the first cause that asks for action and may be applied.

    Args:
        findings: Ranked; only what holds and is a cause is treated.
        allowed: Codes whose remedies may be applied.
        step: Steps done.
        checkpoints: Steps of the checkpoints there are.
        tried: Codes that were treated before; a remedy that did not help is not tried again.

    Returns:
        None where there is nothing to apply.
    """
    for found in findings:
        treatable = (
            found.severity is Severity.ACT
            and found.until is None
            and found.code in allowed
            and found.code not in tried
            and explanation(found, findings) is None
        )
        if not treatable:
            continue
        same = tuple(f for f in findings if f.code == found.code and f.until is None)
        patch = {k: v for f in same for k, v in f.patch.items() if not k.endswith(NEVER)}
        if not patch:
            continue
        if any(key.startswith(_FIRST) for key in patch):
            return Prescription(same, patch, step, AFRESH)
        begun = min(f.step or 0 for f in same) - _BEFORE
        healthy = [s for s in checkpoints if s <= max(0, begun)]
        return Prescription(same, patch, step, max(healthy, default=AFRESH))
    return None


def patched(config: Mapping[str, object], patch: Mapping[str, object]) -> dict[str, object]:
    """A configuration with dotted keys changed; the original is left alone."""
    changed = copy.deepcopy(dict(config))
    for dotted, value in patch.items():
        *path, last = dotted.split(".")
        node: dict[str, Any] = changed
        for part in path:
            node = cast("dict[str, Any]", node.setdefault(part, {}))
        node[last] = value
    return changed
