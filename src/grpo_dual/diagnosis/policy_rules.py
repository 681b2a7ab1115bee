"""Causes that lie in the policy and its optimisation."""

import math
from collections.abc import Iterator
from itertools import pairwise

from grpo_dual.diagnosis.control import in_a_row
from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.rule import LIMITS, above, finding, last_step, percent, show
from grpo_dual.metrics import health, names
from grpo_dual.types import Finding, Severity

_STRANGERS = "were not drawn from the policy that is trained"
"""Words of the canary's error (train/canary.py)."""
_NOT_FINITE = "was not finite"
_KL_EXACTLY_ZERO_AFTER = 10
"""Steps after which a KL of zero cannot be patience any more."""
_FELT = 0.1
"""Least beta of a KL term that holds a policy."""
_MOVING = 1e-9
"""Nats per token: less is what rounding leaves."""


def baseline_entropy(history: History, objective: str) -> float | None:
    """H0: of the frozen probe before step 0, or else of the first rows.

    Where completions have a shortest length, the column's entropy is of forced tokens too, which
    the probe does not have: then of the first rows.
    """
    known = history.baseline.get(objective)
    if known is None or history.number("rollout.sampling.min_new_tokens"):
        return history.of(names.ENTROPY, objective).first(2)
    return known


def solved(history: History, objective: str) -> bool:
    """Sure because it is right: low entropy is what was wanted then."""
    right = history.of(health.RIGHT_FRAC, objective).last(5)
    solved_groups = history.of(names.SOLVED_FRAC, objective).last(5)
    return (right or 0.0) >= 0.8 or (solved_groups or 0.0) >= 0.5


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
    if severity is Severity.WARN and _rising(right.first(5), right.last(5)):
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
        patch={**_slower(history, 4), **_held(history, objective, twice=True)},
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


def learning_rate(history: History, objective: str) -> Iterator[Finding]:
    """The policy is thrown about: KL jumps within single steps."""
    kl = history.of(names.KL, objective).known
    jumps = [b - a for a, b in pairwise(kl)]
    largest = max(jumps, default=0.0)
    set_to = history.number("train.optimizer.learning_rate")
    rate = (history.run(names.LEARNING_RATE).last(3) if set_to is None else set_to) or 0.0
    thrown = sum(1 for j in jumps if abs(j) >= LIMITS.kl_jump)
    unparsed, right = (history.of(m, objective) for m in (health.UNPARSED_FRAC, health.RIGHT_FRAC))
    fell = (right.last(5) or 0.0) < (right.first(5) or 0.0) - 0.05
    # One leap is enough where it cost right answers.
    leapt = largest >= LIMITS.kl_leap and fell
    if not leapt and (largest < LIMITS.kl_jump or thrown < 2):
        return
    if (right.last(5) or 0.0) > (right.first(5) or 0.0) + 0.05:
        return  # wide steps that lead where they should
    entropy, start = history.of(names.ENTROPY, objective), baseline_entropy(history, objective)
    yield finding(
        "learning-rate",
        objective,
        Severity.ACT,
        "Single updates throw the policy far from where it was: the learning rate is too high.",
        [
            f"KL to the reference jumps by up to {show(largest)} nats per token within a step "
            f"({thrown} of {LIMITS.kl_jump} or more, up or down), learning rate {rate:g}",
            f"entropy {show(start)} at the start, {show(entropy.last(3))} now",
            f"unparsed {percent(unparsed.last(3))}, right {percent(right.first(5))} at the start, "
            f"{percent(right.last(5))} now",
        ],
        "Lower the learning rate tenfold and go back to a checkpoint before the jumps.",
        confidence=0.85 if largest > 1 or rate >= 1e-2 else 0.6,
        patch=_slower(history, 10),
        samples=history.pick(objective),
    )


def clipping(history: History, objective: str) -> Iterator[Finding]:
    """Updates on the same completions lead far from the policy that drew them."""
    if objective != history.objectives[0]:
        return
    clipped = history.run(names.CLIP_FRAC)
    severity = above(clipped, warn=LIMITS.clipped_warn, act=LIMITS.clipped)
    if severity is None:
        return
    updates = history.number("train.num_iterations") or 1
    patch = _slower(history, 4)
    yield finding(
        "learning-rate",
        None,
        severity,
        "Much of each update is clipped away: the policy leaves the completions' region within one "
        "batch.",
        [
            f"clipped tokens {percent(clipped.last(3))} (warn above {percent(LIMITS.clipped_warn)},"
            f" act above {percent(LIMITS.clipped)})",
            f"updates a batch {updates:.0f}"
            + (": with one none can be clipped, log-probs disagree" if updates == 1 else ""),
        ],
        "Lower the learning rate, or use each batch in fewer updates.",
        confidence=0.6,
        patch=patch,
    )


def kl_runaway(history: History, objective: str) -> Iterator[Finding]:
    """KL is far above its target and stays there."""
    kl = history.of(names.KL, objective)
    target = history.number(f"objectives.{objective}.kl.target")
    if target is None and history.config:
        return
    # Without a configuration only the bound that holds whatever the target.
    act = LIMITS.kl_absolute if target is None else min(LIMITS.kl_act * target, LIMITS.kl_absolute)
    warn = act if target is None else LIMITS.kl_warn * target
    severity = above(kl, warn=warn, act=act)
    if severity is None:
        return
    beta = history.of(names.BETA, objective)
    adaptive = history.setting(f"objectives.{objective}.kl.adaptive")
    first = history.number(f"objectives.{objective}.kl.beta") or 0.0
    free = bool(history.config) and not adaptive and first < LIMITS.held
    right = history.of(health.RIGHT_FRAC, objective)
    chosen = bool(history.config) and not adaptive and not free
    # A constant beta asks for no target: what it costs is seen when right answers fall, or when KL
    # is beyond what any target would be and has brought nothing.
    far = above(kl, warn=LIMITS.kl_absolute, act=LIMITS.kl_absolute) is not None
    paid = _rising(right.first(5), right.last(5), by=0.05) or solved(history, objective)
    if chosen and right and not _rising(right.last(5), right.first(5), by=0.05):
        if not far or paid:
            return
        severity = Severity.ACT
    yield finding(
        "kl-runaway",
        objective,
        severity,
        "The policy has left the reference far behind"
        + (": nothing holds it." if free else " and beta does not bring it back."),
        [
            f"KL {show(kl.last(3))} nats per token, target {show(target)} (act above {show(act)})",
            f"beta {show(beta.last(3))}"
            + (f", {'adaptive' if adaptive else 'constant'}" if history.config else ""),
            f"right {percent(right.first(3))} at the start, {percent(right.last(3))} now",
        ],
        "Let beta follow KL, from a value that is felt.",
        confidence=0.8 if free else 0.45,
        patch={
            f"objectives.{objective}.kl.adaptive": True,
            **_held(history, objective, adaptive=True),
        },
        samples=history.pick(objective),
    )


def kl_frozen(history: History, objective: str) -> Iterator[Finding]:
    """KL stays at zero: the adapter does not train, or it is its own reference."""
    kl = history.of(names.KL, objective)
    if len(kl.known) < _KL_EXACTLY_ZERO_AFTER:
        return
    if not all(abs(v) < _MOVING for v in kl.known[_KL_EXACTLY_ZERO_AFTER // 2 :]):
        return
    norm, rate = history.run(names.GRAD_NORM), history.run(names.LEARNING_RATE)
    signal = history.of(names.GRADIENT_SIGNAL, objective)
    if not (signal.last(5) or 0.0):
        return  # dead or solved groups: no reason to move
    still = (rate.last(3) or 0.0) < 1e-8
    yield finding(
        "kl-frozen",
        objective,
        Severity.ACT,
        "KL to the reference is zero after "
        f"{last_step(history)} steps: "
        + (
            "the adapter does not train."
            if still
            else "the adapter does not train, or KL is measured against the adapter itself."
        ),
        [
            f"largest KL of the later rows {max(abs(v) for v in kl.known[5:]):.1g} nats per token",
            f"learning rate {show(rate.last(3))}, gradient norm {show(norm.last(3))}, gradient "
            f"signal {show(signal.last(3))}",
        ],
        "Raise the learning rate."
        if still
        else "Check that the reference is a frozen copy (model.reference) and that the adapter's "
        "parameters are the optimiser's.",
        confidence=0.9,
        patch={"train.optimizer.learning_rate": 1e-5} if still else {},
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
        if in_a_row(kl, lambda v: v < -_MOVING):
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


def _slower(history: History, times: float) -> dict[str, object]:
    """The learning rate divided; nothing where it is not known."""
    rate = history.number("train.optimizer.learning_rate")
    return {"train.optimizer.learning_rate": rate / times} if rate else {}


def _held(
    history: History, objective: str, *, twice: bool = False, adaptive: bool = False
) -> dict[str, object]:
    """A beta that is felt, within the bounds that an adaptive one has to keep."""
    prefix = f"objectives.{objective}.kl."
    beta = history.number(f"{prefix}beta") or 0.0
    felt = max(_FELT, 2 * beta if twice else beta)
    low, high = history.number(f"{prefix}beta_min"), history.number(f"{prefix}beta_max")
    if (adaptive or history.setting(f"{prefix}adaptive")) and low is not None and high is not None:
        felt = min(max(felt, low), high)
    return {f"{prefix}beta": felt}


def _rising(before: float | None, now: float | None, *, by: float = 0.1) -> bool:
    return before is not None and now is not None and now > before + by


RULES = (
    entropy_collapse,
    template_collapse,
    forced_length,
    sampling_mismatch,
    learning_rate,
    clipping,
    kl_runaway,
    kl_frozen,
    numerics,
    stale_adapter,
)
