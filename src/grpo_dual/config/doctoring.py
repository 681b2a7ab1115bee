"""What the doctor may do, and what its step-20 tree calls recovered."""

from typing import Literal

from pydantic import Field

from grpo_dual.config.strict import Strict


class TreeConfig(Strict):
    """When an objective has recovered: over the last 5 of the first 20 steps."""

    live: float = Field(default=0.3, ge=0, le=1)
    """Least share of live groups, unless they are solved."""
    solved: float = Field(default=0.5, ge=0, le=1)
    """Share of solved groups from which an objective counts as solved."""
    evasion: float = Field(default=0.2, ge=0, le=1)
    """Largest share of evasions on answerable prompts; it must be below its start, too."""
    signal: float = Field(default=0.05, ge=0)
    """Least mean |advantage| over tokens."""
    reliability: float = Field(default=0.1, ge=0, le=1)
    """Least reliability of the gradient, where its two halves were measured."""


class DoctorConfig(Strict):
    """The doctor beside the loop."""

    mode: Literal["warn", "act", "off"] = "warn"
    """``warn`` says what it finds; ``act`` also applies the remedies below; ``off`` looks at
    nothing, before the run or in it."""
    allow: tuple[str, ...] = (
        "forced-length",
        "sampling-mismatch",
        "prompt-truncation",
        "completion-truncation",
        "learning-rate",
        "kl-runaway",
        "kl-frozen",
        "entropy-collapse",
        "pays-for-filler",
        "dead-rewards",
        "condition-imbalance",
        "noisy-general",
        "starved-objective",
        "unknown-position",
        "data-leak",
        "template-collapse",
    )
    """Causes whose remedies ``act`` applies. Custom rewards are never touched."""
    max_acts: int = Field(default=3, ge=0)
    """Remedies a run applies at most, each cause once."""
    tree: TreeConfig = TreeConfig()
    """When an objective has recovered."""
