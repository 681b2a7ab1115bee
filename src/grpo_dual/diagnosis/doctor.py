"""The history of a run -> findings, ranked: the first one is what to change first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from grpo_dual.diagnosis import (
    data_rules,
    drift_rules,
    foreign_policy_rules,
    foreign_reward_rules,
    foreign_sampler_rules,
    movement_rules,
    policy_rules,
    reward_rules,
)
from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.needs import NEEDS
from grpo_dual.diagnosis.rule import Rule
from grpo_dual.diagnosis.tree import STEP
from grpo_dual.types import Finding, Severity

RULES: tuple[Rule, ...] = (
    *policy_rules.RULES,
    *movement_rules.RULES,
    *drift_rules.RULES,
    *reward_rules.RULES,
    *data_rules.RULES,
)
"""For runs of this package."""
FOREIGN_RULES: tuple[Rule, ...] = (
    *foreign_policy_rules.RULES,
    *drift_rules.RULES,
    *foreign_reward_rules.RULES,
    *foreign_sampler_rules.RULES,
)
"""For files from elsewhere, which lack what the others lean on."""

_EVERYTHING_BELOW = (
    "entropy-collapse", "entropy-rise", "template-collapse", "reward-hacking", "kl-runaway",
    "dead-rewards",
    "length-hacking", "pays-for-filler", "completion-truncation", "parser-mismatch",
    "learning-rate", "wrong-chat-template", "gradient-conflict",
)  # fmt: skip
EXPLAINS: dict[str, tuple[str, ...]] = {
    "forced-length": _EVERYTHING_BELOW,
    "sampling-mismatch": (*_EVERYTHING_BELOW, "judge-noise"),
    "wrong-chat-template": _EVERYTHING_BELOW,
    "prompt-truncation": ("template-collapse", "entropy-collapse", "pays-for-filler"),
    "completion-truncation": ("parser-mismatch", "wrong-chat-template", "reward-hacking"),
    "learning-rate": (
        "entropy-collapse", "entropy-rise", "template-collapse", "kl-runaway", "parser-mismatch",
        "completion-truncation", "reward-hacking", "dead-rewards", "length-hacking",
    ),
    "kl-runaway": ("entropy-collapse", "entropy-rise", "reward-hacking"),
    "pays-for-filler": (
        "template-collapse", "entropy-collapse", "reward-hacking", "length-hacking",
        "learning-rate", "dead-rewards", "kl-runaway",
    ),
    "length-hacking": (
        "completion-truncation", "reward-hacking", "entropy-collapse", "pays-for-filler",
        "kl-runaway", "parser-mismatch",
    ),
    "judge-noise": (
        "reward-hacking", "entropy-collapse", "length-hacking", "pays-for-filler",
        "parser-mismatch",
    ),
    "cancelling-rewards": ("dead-rewards", "reward-hacking", "pays-for-filler"),
    "condition-imbalance": ("reward-hacking", "template-collapse", "pays-for-filler"),
    "gradient-conflict": ("reward-hacking", "length-hacking", "pays-for-filler"),
    "starved-objective": ("length-hacking",),
    "entropy-collapse": ("dead-rewards",),
    "parser-mismatch": ("dead-rewards",),
    "template-collapse": (
        "entropy-collapse", "kl-runaway", "learning-rate", "dead-rewards", "pays-for-filler",
        "reward-hacking", "parser-mismatch", "length-hacking",
    ),
    "stale-adapter": ("numerics",),
    "numerics": ("sampling-mismatch",),
    "data-leak": ("reward-hacking", "learning-rate", "kl-runaway"),
    "unknown-position": ("reward-hacking",),
    "noisy-general": ("length-hacking", "reward-hacking", "parser-mismatch", "starved-objective"),
}  # fmt: skip
"""Cause -> symptoms that it brings: with the cause found, these say nothing new."""
_SAMPLING = frozenset({"forced-length", "sampling-mismatch", "wrong-chat-template"})
_SEEN_LATE = frozenset({"stale-adapter"})
"""Causes that only the run's end makes certain, when their symptoms have long been there."""
_OVER = 0.8
"""Of the confidence of what no longer holds."""
_ORDER = {Severity.ACT: 0, Severity.WARN: 1, Severity.NOTE: 2}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is found, first things first."""

    findings: tuple[Finding, ...]
    """Those that hold and those that are over, ranked."""
    rows: int | None = None
    """Steps that were looked at; None where nobody counted."""
    ended: str | None = None
    """The error that stopped the run."""
    idle: tuple[str, ...] = ()
    """Objectives that are not trained, and so not judged."""

    @property
    def present(self) -> tuple[Finding, ...]:
        """Those that hold at the last step."""
        return tuple(f for f in self.findings if f.until is None)

    @property
    def worst(self) -> Severity | None:
        """The gravest severity of what holds."""
        return min((f.severity for f in self.present), key=_ORDER.__getitem__, default=None)


def examine(history: History) -> tuple[Finding, ...]:
    """What the rules find in a history as it ends, ranked; nothing of idle objectives."""
    history = history.trained
    rules = RULES if history.own else FOREIGN_RULES
    found = [f for rule in rules for name in history.objectives for f in rule(history, name)]
    return rank(replace(f, patch=changes(f.patch, history)) for f in found)


def changes(patch: Mapping[str, object], history: History) -> dict[str, object]:
    """Of a patch what is not set so already: a remedy that changes nothing is none.

    Without a configuration nothing: a patch is relative to what is set. The sentence stands.
    """
    if not history.config:
        return {}
    return {key: value for key, value in patch.items() if history.setting(key) != value}


class Watch:
    """Findings over the steps of a run.

    A finding bears the step at which it was first certain, and the last at which it held; its
    severity, evidence and samples are those of the step at which it was gravest.
    """

    def __init__(self, before: Iterable[Finding] = ()) -> None:
        """``before``: findings of the pre-flight; they come without a step.

        Those that ask for action hold throughout. A warning of what a rule of the run looks for as
        well is a prediction: from step ``STEP`` on it holds only as long as the rule says so.
        """
        self._before = tuple(before)
        self._found: dict[tuple[str, str | None], Finding] = {}
        self._step = 0
        self._rows = 0
        self._idle: tuple[str, ...] = ()
        self._ended: str | None = None

    def see(self, history: History) -> tuple[Finding, ...]:
        """Ask the rules behind the last step of ``history``.

        Returns:
            What is new, or graver than before.
        """
        self._step = history.steps[-1] if history.steps else 0
        self._rows, self._ended, self._idle = len(history), history.ended, history.idle
        fresh: list[Finding] = []
        for new in examine(history):
            old = self._found.get(key(new))
            graver = old is None or _ORDER[new.severity] < _ORDER[old.severity]
            kept = new if old is None or _ORDER[new.severity] <= _ORDER[old.severity] else old
            first = self._step if old is None else old.step
            self._found[key(new)] = replace(kept, step=first, until=self._step)
            if graver:
                fresh.append(replace(new, step=first))
        return tuple(fresh)

    @property
    def diagnosis(self) -> Diagnosis:
        """All that was found, ranked."""
        found = self._found.values()
        dated = [replace(f, until=None) if f.until == self._step else f for f in found]
        findings = rank(merge([*map(self._by_now, self._before), *dated]))
        return Diagnosis(findings, self._rows, self._ended, self._idle)

    def _by_now(self, predicted: Finding) -> Finding:
        """A finding of the pre-flight, as far as it still speaks for itself."""
        tested = self._step >= STEP and predicted.code in NEEDS
        if predicted.severity is Severity.ACT or not tested:
            return predicted
        return replace(predicted, until=0)


def diagnose(history: History) -> Diagnosis:
    """``Watch`` over a whole run, its pre-flight included."""
    watch = Watch(history.before)
    for step in history.steps or (0,):
        watch.see(history.until(step))
    return watch.diagnosis


def borne_out(finding: Finding) -> bool:
    """False for a warning of the pre-flight of which the run, by now, has shown nothing."""
    return finding.until != 0


def key(finding: Finding) -> tuple[str, str | None]:
    """What makes two findings the same one."""
    return finding.code, finding.objective


def merge(findings: Sequence[Finding]) -> list[Finding]:
    """One finding a cause and objective: the gravest, with the evidence of both."""
    by_key: dict[tuple[str, str | None], Finding] = {}
    for found in findings:
        other = by_key.get(key(found))
        if other is None:
            by_key[key(found)] = found
            continue
        kept = min(other, found, key=lambda f: (_ORDER[f.severity], -f.confidence))
        steps, ends = (other.step, found.step), (other.until, found.until)
        by_key[key(found)] = replace(
            kept,
            evidence=tuple(dict.fromkeys((*other.evidence, *found.evidence))),
            samples=other.samples or found.samples,
            # Found first where either was; over only when both are.
            step=None if None in steps else min(s for s in steps if s is not None),
            until=None if None in ends else max(s for s in ends if s is not None),
        )
    return list(by_key.values())


def explanation(found: Finding, among: Iterable[Finding]) -> Finding | None:
    """The cause that brings ``found``, if one of ``among`` does.

    A cause asks for action itself, and explains only what was found with it or later, or by the
    pre-flight. Of two that may bring each other and were found at the same step, the surer one is
    the cause. What the pre-flight found wrong with the rewards is set so in the configuration:
    nothing about sampling brings it.
    """
    causes = (
        cause
        for cause in among
        if cause.severity is Severity.ACT
        and cause.code != found.code
        and found.code in EXPLAINS.get(cause.code, ())
        and not (cause.code in _SAMPLING and _set_so(found))
        and (cause.objective is None or found.objective in (None, cause.objective))
        and _came_first(cause, found)
    )
    return max(causes, key=lambda f: f.confidence, default=None)


def _set_so(found: Finding) -> bool:
    """A fault of the rewards that the pre-flight scored before any completion was drawn."""
    graded = found.step is None and found.severity is Severity.ACT
    return graded and found.code in ("pays-for-filler", "dead-rewards")


def _came_first(cause: Finding, found: Finding) -> bool:
    if cause.code in _SEEN_LATE:
        return True
    mutual = cause.code in _brings(found.code)
    if found.step is None and not mutual:
        return True  # the pre-flight saw a trace of what only the run makes certain
    if (cause.step or 0) != (found.step or 0) or not mutual:
        return (cause.step or 0) <= (found.step or 0)
    return (-cause.confidence, cause.code) < (-found.confidence, found.code)


@cache
def _brings(code: str) -> frozenset[str]:
    """All that ``code`` explains, directly or by what it brings."""
    reached: set[str] = set()
    ahead = [code]
    while ahead:
        new = set(EXPLAINS.get(ahead.pop(), ())) - reached
        reached |= new
        ahead += new
    return frozenset(reached)


def rank(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Causes before what they explain, then by severity and confidence."""
    listed = list(findings)

    def place(found: Finding) -> tuple[bool, int, float, str]:
        sure = found.confidence * (1.0 if found.until is None else _OVER)
        explained = explanation(found, listed) is not None
        return (explained, _ORDER[found.severity], -sure, found.code)

    return tuple(sorted(listed, key=place))
