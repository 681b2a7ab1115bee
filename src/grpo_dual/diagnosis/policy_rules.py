"""Causes that lie in the policy and its optimisation."""

import math
from collections.abc import Iterator

from grpo_dual.diagnosis.control import in_a_row
from grpo_dual.diagnosis.gentler import held, rising, slower
from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.movement_rules import MOVING
from grpo_dual.diagnosis.rule import LIMITS, finding, percent, show
from grpo_dual.diagnosis.start import baseline_entropy, solved
from grpo_dual.metrics import health, names
from grpo_dual.types import Finding, Severity

_STRANGERS = "were not drawn from the policy that is trained"
"""Words of the canary's error (train/canary.py)."""
_NOT_FINITE = "was not finite"


def entropy_collapse(history: History, objective: str) -> Iterator[Finding]:
    """Entropy fell to a quarter of H0, and not because the objective is solved."""
    entropy = history.of(names.ENTROPY, objective)
    start = baseline_entropy(history, objective)
    if not start or not entropy or solved(history, objective):
        return
    if in_a_row(entropy, lambda h: h < LIMITS.entropy_act * start):
        severity = Severity.ACT
    elif in_a_row(entropy, lambda h: h < LIMITS.entropy_warn * start):
        severity = Severity.WARN
    else:
        return
    right = history.of(health.RIGHT_FRAC, objective)
    if severity is Severity.WARN and rising(right.first(5), right.last(5)):
        return  # it is getting sure because it is getting right
    yield finding(
        "entropy-collapse",
        objective,
        severity,
        "The policy has become sure of what it says without becoming right: its completions are "
        "alike, and groups without spread teach nothing.",
        [
            f"entropy {show(entropy.last(3))} nats per token, "
            f"{percent((entropy.last(3) or 0) / start)} of its start {show(start)} (warn below "
            f"{percent(LIMITS.entropy_warn)}, act below {percent(LIMITS.entropy_act)})",
            f"right {percent(right.last(5))}, at the start {percent(right.first(3))}",
            f"equal completions within a group "
            f"{percent(history.of(health.DUPLICATE_FRAC, objective).last(3))}",
        ],
        "Go back to a checkpoint before the fall and lower the learning rate; a stronger KL term "
        "holds the policy near its start.",
        confidence=0.7,
        patch={**slower(history, 4), **held(history, objective, twice=True)},
        samples=history.pick(objective),
    )


def template_collapse(history: History, objective: str) -> Iterator[Finding]:
    """One evasive start on prompts that have an answer."""
    template = history.of(health.TEMPLATE_FRAC, objective)
    evasion = history.of(names.EVASION_ANSWERABLE, objective)
    if not in_a_row(template, lambda t: t >= LIMITS.template):
        return
    if not in_a_row(evasion, lambda e: e >= LIMITS.evasion):
        return
    dead = history.of(health.DEAD_FRAC, objective)
    yield finding(
        "template-collapse",
        objective,
        Severity.ACT,
        "Nearly every completion is the same evasion, whatever was asked: all candidates of a "
        "prompt earn the same, advantages are 0 and nothing can be learnt any more.",
        [
            f"{percent(template.last(3))} of the completions to answerable prompts begin with the "
            f"same eight words (at the start {percent(template.first(3))})",
            f"evasions on answerable prompts {percent(evasion.last(3))}",
            f"dead groups {percent(dead.last(3))}",
        ],
        "A collapsed policy cannot be rescued by rewards: start again from the model (or a "
        "checkpoint) from before it, with targets and rewards that answer.",
        confidence=0.75,
        patch={"sft.steps": 0} if (history.number("sft.steps") or 0) > 0 else {},
        samples=history.pick(objective, verdicts=("evades", "abstains")),
    )


def forced_length(history: History, objective: str) -> Iterator[Finding]:
    """Completions are made longer than the policy wants them."""
    forced = history.number("rollout.sampling.min_new_tokens") or 0
    length = history.of(names.GEN_LEN, objective)
    if forced <= LIMITS.min_new_tokens or len(history) < 1:
        return
    evasion = history.of(names.EVASION_ANSWERABLE, objective)
    longest = history.number("rollout.sampling.max_new_tokens") or 0
    shortest = length.last(3) or 0.0
    if shortest > 2 * forced:
        return  # it writes at this length by itself
    yield finding(
        "forced-length",
        objective,
        Severity.ACT,
        f"EOS is forbidden for the first {forced:.0f} tokens: answers are padded with filler, and "
        "filler is what the rewards then choose among.",
        [
            f"completions are {show(shortest)} tokens long on average, the forced minimum is "
            f"{forced:.0f} (limit {longest:.0f})",
            f"evasions on answerable prompts {percent(evasion.first(3))} at the start, "
            f"{percent(evasion.last(3))} now",
            f"right {percent(history.of(health.RIGHT_FRAC, objective).last(3))}",
        ],
        "Let completions end when they end.",
        confidence=0.95,
        patch={"rollout.sampling.min_new_tokens": 0},
        samples=history.pick(objective),
    )


def sampling_mismatch(history: History, objective: str) -> Iterator[Finding]:
    """Truncation or a penalty makes what is sampled another distribution than the model's."""
    prefix = "rollout.sampling."
    top_k, top_p = history.number(f"{prefix}top_k") or 0, history.number(f"{prefix}top_p") or 1.0
    penalty = history.number(f"{prefix}repetition_penalty") or 1.0
    if top_k == 0 and top_p == 1.0 and penalty == 1.0:
        return
    model, sampled = (
        history.of(names.ENTROPY, objective),
        history.of(health.ENTROPY_SAMPLING, objective),
    )
    kl, drift = history.of(names.KL, objective), history.of(names.KL_MODEL, objective)
    here, there = sampled.last(5), model.last(5)
    twins = history.of(health.DUPLICATE_FRAC, objective).last(5) or 0.0
    narrow = here is not None and there is not None and here < 0.25 * there
    harsh = penalty >= 1.3 or (narrow and twins > 0.8)
    yield finding(
        "sampling-mismatch",
        objective,
        Severity.ACT if harsh and len(history) >= 3 else Severity.WARN,
        "Completions are not drawn from the model itself: "
        + (
            "the repetition penalty punishes saying a word of the prompt, which a grounded answer "
            "has to do."
            if penalty >= 1.3
            else "top-k and top-p leave so little to choose from that the candidates of a prompt "
            "are the same."
            if narrow
            else "what is learnt is replayed exactly, but the model without truncation and "
            "penalties is another one."
        ),
        [
            f"top_k {top_k:.0f}, top_p {top_p:g}, repetition_penalty {penalty:g}",
            f"entropy {show(here)} nats per token as sampled, {show(there)} of the model",
            f"equal completions within a group {percent(twins)}",
            f"KL {show(kl.last(5))} as sampled, {show(drift.last(5))} of the model",
        ],
        "Sample by temperature alone.",
        confidence=0.9 if harsh else 0.5,
        patch={f"{prefix}top_k": 0, f"{prefix}top_p": 1.0, f"{prefix}repetition_penalty": 1.0},
        samples=history.pick(objective),
    )


def numerics(history: History, objective: str) -> Iterator[Finding]:
    """Numbers that are not finite, or a head that is too coarse."""
    if objective != history.objectives[0]:
        return
    skipped = history.run(names.SKIPPED_UPDATE).total()
    gap = history.run(names.SAMPLER_GAP)
    fp32 = history.setting("model.dtype") == "float32"
    stopped = history.ended is not None and _NOT_FINITE in history.ended
    coarse = fp32 and in_a_row(gap, lambda g: g > LIMITS.gap)
    broken = _impossible(history)
    if skipped < LIMITS.skipped and not stopped and not coarse and not broken:
        return
    grave = stopped or skipped >= 3 or coarse or bool(broken)
    severity = Severity.ACT if grave else Severity.WARN
    norm = history.run(names.GRAD_NORM)
    yield finding(
        "numerics",
        None,
        severity,
        "The trainer's log-probs are coarser than the sampler's: the head works in 16 bit."
        if coarse
        else "Losses or gradients overflow, and their updates are left out.",
        [
            *broken,
            f"{skipped:.0f} of {len(history)} updates were left out",
            f"largest difference of the sampler's and the trainer's log-probs {show(gap.last(3))} "
            f"(fp32 allows {LIMITS.gap:g})",
            f"gradient norm {show(norm.last(3))}, learning rate "
            f"{show(history.run(names.LEARNING_RATE).last(3))}",
        ],
        "Keep the head's logits in fp32."
        if coarse
        else "Use model.dtype: float32, and look for a reward that is huge.",
        confidence=0.9,
        patch={} if fp32 else {"model.dtype": "float32"},
    )


def _impossible(history: History) -> list[str]:
    """Values that no sound run has: not finite, or a negative mean of k3, which never is."""
    found: list[str] = []
    for objective in history.objectives:
        for metric in (names.KL, names.ENTROPY, names.REWARD_MEAN):
            series = history.of(metric, objective)
            if in_a_row(series, lambda v: not math.isfinite(v)):
                found.append(f"{metric.of(objective)} is {show(series.known[-1])} in three rows")
        kl = history.of(names.KL, objective)
        if in_a_row(kl, lambda v: v < -MOVING):
            found.append(f"{names.KL.of(objective)} is negative, which a mean of k3 never is")
    for metric in (names.LOSS, names.GRAD_NORM):
        if in_a_row(history.run(metric), lambda v: not math.isfinite(v)):
            found.append(f"{metric.key} is not finite in three rows")
    return found


def stale_adapter(history: History, objective: str) -> Iterator[Finding]:
    """The canary found that the rollouts come from another policy."""
    if objective != history.objectives[0]:
        return
    if history.ended is None or _STRANGERS not in history.ended:
        return
    late = len(history) > 0
    gap = history.run(names.SAMPLER_GAP)
    yield finding(
        "stale-adapter" if late else "sampling-mismatch",
        None,
        Severity.ACT,
        "The rollouts stopped following the adapter: the sampler draws from weights of an earlier "
        "step."
        if late
        else "Sampler and trainer disagree before anything was trained.",
        [
            history.ended,
            f"the two agreed within {show(gap.first(1))} nats at step 1",
        ],
        "Make the rollouts use the adapter that is trained: rollout.engine: transformers reads "
        "the modules themselves.",
        confidence=0.95,
        patch={"rollout.engine": "transformers"},
    )


RULES = (
    entropy_collapse,
    template_collapse,
    forced_length,
    sampling_mismatch,
    numerics,
    stale_adapter,
)
