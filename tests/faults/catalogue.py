"""The faults, the cause that the doctor has to name first, and the healthy runs beside them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from faults import patches
from faults.patches import Patch

STEPS = 20


@dataclass(frozen=True, slots=True)
class Case:
    """One run."""

    name: str
    cause: str | None
    """Code of the finding that has to come first; None: healthy."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Dotted key -> value, on top of ``BASE``."""
    patch: Patch = patches.nothing


def custom(name: str, weight: float = 1.0) -> list[dict[str, Any]]:
    """A reward of tests/faults/rewards.py."""
    return [{"function": f"faults.rewards:{name}", "weight": weight}]


BASE: Mapping[str, Any] = {
    "name": "case",
    "model.name": "embedded",
    "model.dtype": "float32",
    "model.device": "cpu",
    "objectives.fairness.kind": "fairness",
    "objectives.fairness.data.path": "synthetic",
    "objectives.fairness.data.eval_samples": 100,
    "objectives.fairness.kl.beta": 0.03,
    "objectives.fairness.kl.target": 0.08,
    "objectives.hallucination.kind": "hallucination",
    "objectives.hallucination.data.path": "synthetic",
    "objectives.hallucination.data.eval_samples": 100,
    "objectives.hallucination.data.subsets": {"qa": 1.5, "dialogue": 1.5, "summarization": 1.0},
    "objectives.hallucination.kl.beta": 0.03,
    "objectives.hallucination.kl.target": 0.08,
    "rollout.group_size": 8,
    "rollout.max_prompt_tokens": 464,
    "rollout.sampling.max_new_tokens": 24,
    "train.steps": STEPS,
    "train.threads": 1,
    "train.microbatch_prompts": 4,
    "train.optimizer.learning_rate": 1e-3,
    "train.optimizer.warmup_steps": 5,
    "eval.decode": "train",
    "checkpoint.every": 10,
}
"""The demo's configuration, shorter."""

_BOTH = ("fairness", "hallucination")
_GENERAL = {
    "objectives.hallucination.data.subsets": {"qa": 0.5, "general": 3.0},
    "objectives.hallucination.data.general_filter": "off",
    "objectives.hallucination.data.general_as": "answer",
}
_TWO_BBQ = {
    "objectives.hallucination.kind": "fairness",
    "objectives.hallucination.data.subsets": None,
    "objectives.hallucination.custom_rewards": custom("decisive"),
    "objectives.fairness.custom_rewards": custom("undecided"),
}


def _each(key: str, value: Any) -> dict[str, Any]:
    return {f"objectives.{name}.{key}": value for name in _BOTH}


FAULTS: tuple[Case, ...] = (
    Case("forced-length", "forced-length", {
        "rollout.sampling.min_new_tokens": 30, "rollout.sampling.max_new_tokens": 48}),
    Case("forced-length-mild", "forced-length", {
        "rollout.sampling.min_new_tokens": 16, "rollout.sampling.max_new_tokens": 32}),
    Case("repetition-penalty", "sampling-mismatch", {
        "rollout.sampling.repetition_penalty": 1.5}),
    Case("truncated-sampling", "sampling-mismatch", {
        "rollout.sampling.top_k": 2, "rollout.sampling.top_p": 0.6}),
    Case("prompt-truncation", "prompt-truncation", {"rollout.max_prompt_tokens": 72}),
    Case("prompts-cut", "prompt-truncation", {"rollout.max_prompt_tokens": 96}),
    Case("completion-truncation", "completion-truncation", {
        "rollout.sampling.max_new_tokens": 6}),
    Case("noisy-general", "noisy-general", _GENERAL),
    Case("condition-imbalance", "condition-imbalance", {
        "objectives.fairness.data.train_samples": 400,
        "objectives.fairness.data.ambiguous_fraction": 0.97}),
    Case("unknown-position", "unknown-position", {}, patches.unknown_last),
    Case("data-leak", "data-leak", {
        "objectives.hallucination.data.detect_fraction": 1.0}, patches.long_hallucinations),
    Case("wrong-chat-template", "wrong-chat-template", {}, patches.foreign_template),
    Case("parser-mismatch", "parser-mismatch", {}, patches.strict_parser),
    Case("dead-rewards", "dead-rewards", {
        **{f"objectives.fairness.reward.{key}": 0.0 for key in (
            "right", "ambiguous_evasion", "disambiguated_unknown", "wrong")},
        "objectives.fairness.length.scale": 0.0}),
    Case("cancelling-rewards", "cancelling-rewards", {
        "objectives.fairness.custom_rewards": custom("opposite"),
        "objectives.fairness.length.scale": 0.0}),
    Case("judge-outage", "judge-outage", {}, patches.failing_judge),
    Case("judge-noise", "judge-noise", {}, patches.noisy_judge),
    Case("coin-reward", "judge-noise", {
        "objectives.hallucination.custom_rewards": custom("coin")}),
    Case("pays-for-filler", "pays-for-filler", {
        "objectives.fairness.reward.disambiguated_unknown": 1.0,
        "objectives.fairness.reward.ambiguous_evasion": 1.0,
        "objectives.hallucination.reward.abstains": 1.0}),
    Case("judge-pays-for-filler", "pays-for-filler", _each(
        "custom_rewards", custom("safe_wording"))),
    Case("length-hacking", "length-hacking", {
        **_each("custom_rewards", custom("long_texts", 10.0)), **_each("length.scale", 0.0)}),
    Case("entropy-collapse", "entropy-collapse", {
        **_each("custom_rewards", custom("majority", 4.0)), "train.optimizer.learning_rate": 2e-3}),
    Case("template-collapse", "template-collapse", {
        "sft.steps": 25, "sft.learning_rate": 2e-3}, patches.evasive_targets),
    Case("learning-rate", "learning-rate", {"train.optimizer.learning_rate": 5e-2}),
    Case("kl-runaway", "kl-runaway", {
        **_each("kl.beta", 0.0), **_each("kl.adaptive", False),
        "train.optimizer.learning_rate": 4e-3}),
    Case("adapter-not-training", "kl-frozen", {"train.optimizer.learning_rate": 1e-12}),
    Case("live-reference", "kl-frozen", {}, patches.live_reference),
    Case("starved-by-weight", "starved-objective", {"objectives.hallucination.weight": 0.02}),
    Case("starved-by-sampling", "starved-objective", {
        "objectives.hallucination.prompts_per_step": 1,
        "objectives.fairness.prompts_per_step": 24}),
    Case("gradient-conflict", "gradient-conflict", _TWO_BBQ),
    Case("stale-adapter", "stale-adapter", {}, patches.stale_adapter),
    Case("coarse-head", "numerics", {}, patches.coarse_head),
    Case("not-finite", "numerics", {}, patches.not_finite),
)  # fmt: skip

MILD: Mapping[str, Mapping[str, Any]] = {
    "as-shipped": {},
    "half-rate": {"train.optimizer.learning_rate": 5e-4},
    "fewer": {**_each("prompts_per_step", 4), "rollout.group_size": 12},
    "cool": {"rollout.sampling.temperature": 0.9, "advantage.normalization": "none"},
    "twice": {"train.num_iterations": 2, "train.optimizer.learning_rate": 5e-4,
              **_each("kl.beta", 0.1), **_each("kl.target", 0.05)},
}  # fmt: skip
"""Configurations that nobody should be warned about."""

HEALTHY = tuple(Case(f"healthy-{name}", None, changes) for name, changes in MILD.items())
CASES = {case.name: case for case in (*FAULTS, *HEALTHY)}
