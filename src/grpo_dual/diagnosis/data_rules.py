"""Causes that lie in data, prompts and the balance of the objectives."""

from collections.abc import Iterator

from grpo_dual.diagnosis.control import (
    corrected_cosine,
    full_batch_reliability,
    in_a_row,
    p_chart_limit,
)
from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.rule import LIMITS, cut, finding, percent, show
from grpo_dual.metrics import health, names
from grpo_dual.types import Finding, Severity

_NO_PROMPT_FITS = "raise rollout.max_prompt_tokens"
"""Words of the error when no record fits the limit (train/drawing.py)."""


def prompt_truncation(history: History, objective: str) -> Iterator[Finding]:
    """Documents are cut to fit, and with them what the answer needs."""
    shortened = history.of(names.TRUNC_FRAC, objective)
    none_fits = (
        history.ended is not None
        and _NO_PROMPT_FITS in history.ended
        and f"objectives.{objective}:" in history.ended
    )
    severity = Severity.ACT if none_fits else cut(shortened)
    if severity is None:
        return
    limit = history.number("rollout.max_prompt_tokens") or 0
    yield finding(
        "prompt-truncation",
        objective,
        severity,
        "Prompts are cut: an item that loses the sentence with its answer has become one that "
        "cannot be answered, and is paid as if it could.",
        [
            history.ended or ""
            if none_fits
            else f"{percent(shortened.last(3))} of the prompts are shortened to {_limit(limit)} "
            f"(warn above {percent(LIMITS.cut_warn)}, act above {percent(LIMITS.cut_act)})",
            f"evasions on answerable prompts "
            f"{percent(history.of(names.EVASION_ANSWERABLE, objective).last(3))}",
        ],
        "Raise the limit, or refuse records that do not fit; the pre-flight counts those that lose "
        "their answer.",
        confidence=0.9,
        patch={"rollout.max_prompt_tokens": int(4 * limit)},
        samples=history.pick(objective),
    )


def completion_truncation(history: History, objective: str) -> Iterator[Finding]:
    """Completions end at the limit, not where they would."""
    unfinished = history.of(names.COMPLETION_TRUNC_FRAC, objective)
    severity = cut(unfinished)
    if severity is None:
        return
    limit = history.number("rollout.sampling.max_new_tokens") or 0
    length = history.of(names.GEN_LEN, objective)
    grown = (length.last(3) or 0.0) > 1.3 * (length.first(3) or 0.0)
    yield finding(
        "completion-truncation",
        objective,
        severity,
        "Completions are cut by the limit, and what they would have said is judged as missing.",
        [
            f"{percent(unfinished.last(3))} of the completions reach {_limit(limit)} without an "
            f"EOS (warn above {percent(LIMITS.cut_warn)}, act above {percent(LIMITS.cut_act)}; "
            f"at the start {percent(unfinished.first(3))})",
            f"mean length {show(length.first(3))} tokens at the start, {show(length.last(3))} now",
        ],
        "Raise the limit, and look first whether EOS is sampled at all (repetition penalty, chat "
        "template).",
        # Completions that have grown to the limit have another cause.
        confidence=0.5 if grown else 0.85,
        patch={"rollout.sampling.max_new_tokens": int(4 * limit)},
        samples=history.pick(objective),
    )


def parser_mismatch(history: History, objective: str) -> Iterator[Finding]:
    """No answer is found in what the policy writes."""
    unparsed = history.of(health.UNPARSED_FRAC, objective)
    if not in_a_row(unparsed, lambda u: u >= LIMITS.unparsed):
        return
    from_the_start = (unparsed.first(3) or 0.0) >= LIMITS.unparsed
    cut = history.of(names.COMPLETION_TRUNC_FRAC, objective).last(3) or 0.0
    yield finding(
        "parser-mismatch",
        objective,
        Severity.ACT,
        "Answers are not found in the completions: wording, parser and chat template do not agree.",
        [
            f"{percent(unparsed.last(3))} of the completions hold no answer in the asked form, "
            f"{percent(unparsed.first(3))} at the start",
            f"completions cut by the limit {percent(cut)}",
            f"entropy {show(history.of(names.ENTROPY, objective).last(3))} nats per token",
        ],
        "Read two completions: if they answer, mend the wording or the parser (prompts/); if they "
        "are garbage, mend the chat template or the learning rate.",
        confidence=0.85 if from_the_start and cut < LIMITS.cut_act else 0.4,
        samples=history.pick(objective, verdicts=("unparsed",)),
    )


def wrong_chat_template(history: History, objective: str) -> Iterator[Finding]:
    """From the first step on hardly anything is right, in no objective."""
    if objective != history.objectives[0] or len(history.objectives) < 2:
        return
    starts = [history.of(health.RIGHT_FRAC, o).first(1) for o in history.objectives]
    if any(s is None or s > 0.1 for s in starts):
        return
    forced = history.number("rollout.sampling.min_new_tokens") or 0
    templates = [history.of(health.TEMPLATE_FRAC, o).first(1) or 0.0 for o in history.objectives]
    evades = [history.of(names.EVASION_ANSWERABLE, o).first(1) or 0.0 for o in history.objectives]
    if forced > LIMITS.min_new_tokens or max(templates) >= LIMITS.template:
        return
    if max(evades) >= LIMITS.evasion:
        return  # it was asked in a form that it knows: it declines
    unparsed = history.of(health.UNPARSED_FRAC, objective).first(1)
    named = zip(history.objectives, starts, strict=True)
    yield finding(
        "wrong-chat-template",
        None,
        Severity.ACT,
        "Nearly nothing was right before the first update, in any objective: the model does not "
        "see the chat format that it knows.",
        [
            "right at step 1: " + ", ".join(f"{name} {percent(share)}" for name, share in named),
            f"unparsed at step 1: {percent(unparsed)}",
            f"entropy at step 1: {show(history.of(names.ENTROPY, objective).first(1))} nats per "
            "token",
        ],
        "Use the tokenizer that came with the model, template included.",
        confidence=0.6,
        samples=history.pick(objective),
    )


def condition_imbalance(history: History, objective: str) -> Iterator[Finding]:
    """Only one of the two conditions of BBQ is trained."""
    ambiguous = history.of(health.AMBIGUOUS_FRAC, objective)
    prompts = history.number(f"objectives.{objective}.prompts_per_step") or 0
    seen = prompts * len(ambiguous.known)
    share = ambiguous.first(len(ambiguous.known) or 1)
    if share is None or len(ambiguous.known) < 3:
        return
    if not (share < LIMITS.balance or share > 1 - LIMITS.balance):
        return
    if abs(share - 0.5) <= p_chart_limit(0.5, seen):
        return
    yield finding(
        "condition-imbalance",
        objective,
        Severity.ACT,
        "One condition is hardly trained: "
        + (
            "almost all contexts are ambiguous, so always saying unknown is right."
            if share > 0.5
            else "almost no context is ambiguous, so naming somebody is always right."
        ),
        [
            f"{percent(share)} of {seen:.0f} prompts were ambiguous (chance around 50 % reaches "
            f"{percent(0.5 + p_chart_limit(0.5, seen))})",
        ],
        "Draw both conditions alike.",
        confidence=0.9,
        patch={f"objectives.{objective}.data.ambiguous_fraction": 0.5},
    )


def noisy_general(history: History, objective: str) -> Iterator[Finding]:
    """HaluEval's general subset, unfiltered or without anybody who could judge it."""
    share = history.of(health.GENERAL_FRAC, objective)
    seen = share.first(len(share.known) or 1)
    if not seen or seen < 0.05:
        return
    prefix = f"objectives.{objective}.data."
    off = history.setting(f"{prefix}general_filter") == "off"
    unscored = history.of(names.UNSCORED, objective).total(5)
    if not off:
        return
    yield finding(
        "noisy-general",
        objective,
        Severity.ACT if seen >= 0.25 else Severity.WARN,
        'General answers are trained on without the filter: there, "hallucination" mixes errors, '
        "incompleteness, disclaimers and form.",
        [
            f"{percent(seen)} of the prompts are of the general subset, general_filter is off",
            f"{unscored:.0f} completions of the last 5 steps could not be judged",
        ],
        "Filter general and lower its weight (B1, B3).",
        confidence=0.85,
        patch={f"{prefix}general_filter": "handoff", f"{prefix}subsets.general": 0.5},
    )


def starved_objective(history: History, objective: str) -> Iterator[Finding]:
    """One objective hardly counts: by weight, by prompts, or by tokens."""
    if len(history.objectives) < 2 or len(history) < 3:
        return
    if history.number(f"objectives.{objective}.weight") == 0:
        return  # it is only watched, on purpose
    even = 1 / len(history.objectives)
    weight = history.of(names.WEIGHT, objective).last(5)
    prompts = {
        o: history.number(f"objectives.{o}.prompts_per_step") or 0.0 for o in history.objectives
    }
    tokens = {o: (history.of(names.GEN_LEN, o).last(5) or 0.0) * n for o, n in prompts.items()}
    shares = {
        "weight in the loss": weight,
        "prompts of a step": _share(prompts, objective),
        "completion tokens of a step": _share(tokens, objective),
    }
    low = {what: s for what, s in shares.items() if s is not None and s < LIMITS.share * 2 * even}
    if not low:
        return
    own = f"objectives.{objective}"
    patch: dict[str, object] = {}
    if "weight in the loss" in low:
        patch[f"{own}.weight"] = max(
            history.number(f"objectives.{o}.weight") or 1.0 for o in history.objectives
        )
    if "prompts of a step" in low:
        patch[f"{own}.prompts_per_step"] = int(max(prompts.values()))
    yield finding(
        "starved-objective",
        objective,
        Severity.ACT if len(low) > 1 or "completion tokens of a step" not in low else Severity.WARN,
        "This objective hardly takes part: the others drown it.",
        [
            *(f"share of {what}: {percent(s)}" for what, s in shares.items()),
            f"right {percent(history.of(health.RIGHT_FRAC, objective).first(5))} at the start, "
            f"{percent(history.of(health.RIGHT_FRAC, objective).last(5))} now",
        ],
        "Give it weight and prompts like the others'.",
        confidence=0.9,
        patch=patch,
    )


def gradient_conflict(history: History, objective: str) -> Iterator[Finding]:
    """The objectives' gradients point apart, by more than their noise."""
    if objective != history.objectives[0] or len(history.objectives) != 2:
        return
    cosine = history.run(names.GRAD_COSINE)
    halves = [history.of(health.HALF_COSINE, o) for o in history.objectives]
    rows = min(len(history), 10)
    measured, a, b = cosine.last(rows), halves[0].last(rows), halves[1].last(rows)
    if measured is None or a is None or b is None or len(cosine.known) < 5:
        return
    reliable = [full_batch_reliability(a), full_batch_reliability(b)]
    corrected = corrected_cosine(measured, reliable[0], reliable[1])
    if corrected is None or min(reliable) < LIMITS.reliability:
        return
    settled = in_a_row(cosine.smoothed(), lambda c: c < LIMITS.cosine, rows=5)
    if corrected >= LIMITS.cosine or not settled:
        return
    yield finding(
        "gradient-conflict",
        None,
        Severity.ACT,
        f"{' and '.join(history.objectives)} pull the policy apart: what one update teaches the "
        "other takes back.",
        [
            f"cosine between their gradients {show(measured)}, freed of noise {show(corrected)} "
            f"(act below {LIMITS.cosine:g})",
            f"reliability of the two gradients {show(reliable[0])}, {show(reliable[1])} (at least "
            f"{LIMITS.reliability:g}; pure noise is negative half the time)",
            f"combined gradient {show(history.run(names.GRAD_NORM).last(rows))}, alone "
            + ", ".join(
                show(history.of(names.OBJECTIVE_GRAD_NORM, o).last(rows))
                for o in history.objectives
            ),
        ],
        "Look for rewards that contradict each other; else shift the weights, or train one after "
        "the other.",
        confidence=0.92,
        patch={
            f"objectives.{o}.custom_rewards": []
            for o in history.objectives
            if history.setting(f"objectives.{o}.custom_rewards")
        },
    )


def _limit(tokens: float) -> str:
    """A limit in words; it is 0 where no configuration says it."""
    return f"{tokens:.0f} tokens" if tokens else "the limit"


def _share(values: dict[str, float], objective: str) -> float | None:
    total = sum(values.values())
    return values[objective] / total if total else None


RULES = (
    prompt_truncation,
    completion_truncation,
    parser_mismatch,
    wrong_chat_template,
    condition_imbalance,
    noisy_general,
    starved_objective,
    gradient_conflict,
)
