"""What a rule is, and how it writes what it found."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from grpo_dual.diagnosis.control import in_a_row
from grpo_dual.diagnosis.history import History, Series, Value
from grpo_dual.types import Finding, Severity

Found = Iterable[Finding]
Rule = Callable[[History, str], Found]
"""Asked for each objective after each step; what it returns holds now."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where healthy ends. Sources: docs/doctor.md, one line for each."""

    min_new_tokens: int = 5
    """More forced tokens than this have been seen to teach filler."""
    entropy_act: float = 0.25
    """Of H0."""
    entropy_warn: float = 0.5
    """Of H0."""
    entropy_high: float = 1.5
    """Of H0."""
    template: float = 0.5
    """Share of completions to answerable prompts with one common start."""
    evasion: float = 0.5
    """Share of evasions on answerable prompts, beside a template."""
    evades: float = 0.2
    """Share of evasions on answerable prompts up to which fewer than at the start is recovery."""
    dead: float = 0.8
    """Share of dead groups."""
    dead_warn: float = 0.5
    clipped: float = 0.2
    """Share of clipped tokens with several updates a batch; with one it is 0 by construction."""
    clipped_warn: float = 0.05
    kl_leap: float = 1.0
    """Nats per token gained within one step, from which one such step is enough."""
    cut_warn: float = 0.1
    """Share of prompts or completions that are cut."""
    cut_act: float = 0.25
    kl_warn: float = 2.0
    """Times kl.target."""
    kl_act: float = 4.4
    kl_absolute: float = 0.5
    """Nats per token, whatever the target."""
    held: float = 0.01
    """A constant beta below this holds nothing."""
    kl_jump: float = 0.25
    """Nats per token gained within one step."""
    unscored: float = 0.25
    """Share of completions without a score."""
    conflict: float = 0.05
    """Share of pairs of equal completions that are paid differently."""
    unparsed: float = 0.5
    share: float = 0.1
    """Share of weight, prompts or tokens below which an objective starves."""
    balance: float = 0.15
    """Share of ambiguous prompts below which, or above 1 minus which, a condition is missing."""
    cosine: float = -0.2
    """Noise-corrected cosine between two gradients."""
    reliability: float = 0.1
    """Least reliability of both gradients for a cosine to mean anything."""
    skipped: int = 2
    """Updates left out for numbers that were not finite."""
    gap: float = 0.02
    """Largest difference of the sampler's and the trainer's log-probs in fp32."""


LIMITS = Thresholds()


def above(series: Series, *, warn: float, act: float) -> Severity | None:
    """How grave it is that the last rows all stand above a bound; None when they do not."""
    if in_a_row(series, lambda value: value > act):
        return Severity.ACT
    return Severity.WARN if in_a_row(series, lambda value: value > warn) else None


def cut(share: Series) -> Severity | None:
    """``above`` with the bounds of prompts or completions that are cut."""
    return above(share, warn=LIMITS.cut_warn, act=LIMITS.cut_act)


def finding(
    code: str,
    objective: str | None,
    severity: Severity,
    says: str,
    evidence: Iterable[str],
    remedy: str,
    *,
    confidence: float,
    patch: Mapping[str, object] | None = None,
    samples: tuple[str, ...] = (),
) -> Finding:
    """A finding of a running or finished run."""
    return Finding(
        code=code,
        objective=objective,
        severity=severity,
        says=says,
        evidence=tuple(evidence),
        confidence=confidence,
        remedy=remedy,
        patch=dict(patch or {}),
        samples=samples,
    )


def show(value: Value) -> str:
    """A number as a person reads it: three significant digits, ``-`` when missing."""
    return "-" if value is None else f"{value:.3g}"


def percent(value: Value) -> str:
    """A share in per cent."""
    return "-" if value is None else f"{100 * value:.0f} %"


def last_step(history: History) -> int:
    """Number of the last row; 0 without rows."""
    return history.steps[-1] if history.steps else 0
