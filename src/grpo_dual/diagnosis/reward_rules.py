"""Causes that lie in rewards and judges."""

from collections.abc import Iterator

from grpo_dual.diagnosis.control import in_a_row
from grpo_dual.diagnosis.history import History, Series
from grpo_dual.diagnosis.reward_table import shipped
from grpo_dual.diagnosis.rule import LIMITS, finding, percent, show
from grpo_dual.metrics import health, names
from grpo_dual.types import Finding, Severity

_EVADING = ("evades", "abstains")


def dead_rewards(history: History, objective: str) -> Iterator[Finding]:
    """No part of the reward tells completions apart, though they differ."""
    spread = history.of(health.PART_STD, objective)
    twins = history.of(health.DUPLICATE_FRAC, objective)
    right = history.of(health.RIGHT_FRAC, objective)
    if not in_a_row(spread, lambda s: s < 1e-6) or (twins.last(3) or 0.0) > 0.9:
        return
    known = right.last(3)
    if known is None or not 0.02 < known < 0.98:
        return  # all alike is right then
    own = f"objectives.{objective}"
    yield finding(
        "dead-rewards",
        objective,
        Severity.ACT,
        "Every completion earns the same, right or wrong: advantages are 0.",
        [
            f"largest standard deviation of a reward part within a group {show(spread.last(3))}, "
            f"while {percent(known)} are right and {percent(1 - known)} are not",
            f"equal completions within a group {percent(twins.last(3))}: they do differ",
            f"gradient signal {show(history.of(names.GRADIENT_SIGNAL, objective).last(3))}",
        ],
        f"Give right and wrong answers different rewards ({own}.reward).",
        confidence=0.95,
        patch=_default_table(history, objective),
        samples=history.pick(objective),
    )


def dead_groups(history: History, objective: str) -> Iterator[Finding]:
    """Most groups earn one and the same, and it is not the best: nothing is learnt from them."""
    dead = history.of(health.DEAD_FRAC, objective)
    act = in_a_row(dead, lambda d: d > LIMITS.dead, rows=5)
    if not act and not in_a_row(dead, lambda d: d > LIMITS.dead_warn, rows=5):
        return
    twins = history.of(health.DUPLICATE_FRAC, objective).last(5) or 0.0
    right = history.of(health.RIGHT_FRAC, objective).last(5) or 0.0
    own = f"objectives.{objective}"
    says, remedy, patch = (
        "Nearly every group is dead: its completions earn the same, so advantages are 0.",
        f"Look at the parts of the reward: none tells these completions apart ({own}.reward).",
        {},
    )
    if right <= 0.02:
        says = (
            "Nothing is right, so all completions of a group earn the same: advantages are 0 and "
            "nothing can be learnt from them."
        )
        remedy = (
            "Warm up by supervised steps until some completions are right, or train on easier "
            "items; if the samples do look right, the parser or the gold is wrong."
        )
        steps = history.number("sft.steps")
        patch = {} if steps is None else {"sft.steps": max(50, int(2 * steps))}
    elif twins > 0.9:
        says = (
            "The completions of a group are the same text, so they earn the same: advantages are 0 "
            "and nothing can be learnt from them."
        )
        remedy = (
            "Go back to a checkpoint in which the candidates of a prompt still differ; rewards "
            "cannot rescue a policy that says one thing."
        )
    yield finding(
        "dead-rewards",
        objective,
        Severity.ACT if act else Severity.WARN,
        says,
        [
            f"dead groups {percent(dead.last(5))} of the last 5 steps (warn above "
            f"{percent(LIMITS.dead_warn)}, act above {percent(LIMITS.dead)}; solved ones are not "
            "counted)",
            f"right {percent(right)}, equal completions within a group {percent(twins)}",
            f"gradient signal {show(history.of(names.GRADIENT_SIGNAL, objective).last(5))}",
        ],
        remedy,
        confidence=0.7,
        patch=patch,
        samples=history.pick(objective),
    )


def cancelling_rewards(history: History, objective: str) -> Iterator[Finding]:
    """Parts spread, their sum does not."""
    parts, total = history.of(health.PART_STD, objective), history.of(names.REWARD_STD, objective)
    if not in_a_row(parts, lambda s: s > 0.1):
        return
    if not in_a_row(total, lambda s: s < 0.1 * (parts.last(3) or 0.0)):
        return
    yield finding(
        "cancelling-rewards",
        objective,
        Severity.ACT,
        "Reward parts take each other back: each tells completions apart, their sum does not.",
        [
            f"standard deviation within a group: largest part {show(parts.last(3))}, total "
            f"{show(total.last(3))}",
            f"dead groups {percent(history.of(health.DEAD_FRAC, objective).last(3))}, gradient "
            f"signal {show(history.of(names.GRADIENT_SIGNAL, objective).last(3))}",
        ],
        "Take one of the parts out, or change its weight.",
        confidence=0.95,
        patch={f"objectives.{objective}.custom_rewards": []},
        samples=history.pick(objective),
    )


def judge_outage(history: History, objective: str) -> Iterator[Finding]:
    """Many completions are left unscored because judges fail."""
    failures = history.of(names.JUDGE_FAILURES, objective)
    scored = _scored(history, objective)
    lost = failures.total(3)
    if not failures or len(failures.known) < 3 or lost == 0:
        return
    share = lost / (lost + scored)
    if share < LIMITS.cut_warn:
        return
    yield finding(
        "judge-outage",
        objective,
        Severity.ACT if share >= LIMITS.unscored else Severity.WARN,
        "Judges fail: what they should have scored is left out, and groups grow too small to "
        "teach.",
        [
            f"{lost:.0f} of {lost + scored:.0f} completions of the last 3 steps have no score "
            f"({percent(share)}; act from {percent(LIMITS.unscored)})",
            f"groups the offline judge took over "
            f"{show(history.run(names.JUDGES_OFFLINE_GROUPS).last(3))}",
        ],
        "Mend the judge, name a second one, or let the offline judge take over; the run never "
        "trains on a failure.",
        confidence=0.95,
        patch={"judge.outage.action": "heuristic"},
    )


def judge_noise(history: History, objective: str) -> Iterator[Finding]:
    """Equal completions of one prompt are paid differently."""
    conflict = history.of(health.VERDICT_CONFLICT, objective)
    recent = conflict.last(5)
    agreement = history.run(names.JUDGES_AGREEMENT).last(5)
    noisy = recent is not None and recent > LIMITS.conflict and len(conflict.known) >= 3
    apart = agreement is not None and agreement < 0.7
    if not noisy and not apart:
        return
    yield finding(
        "judge-noise",
        objective,
        Severity.ACT,
        "The scorer contradicts itself: the same completion of the same prompt is paid "
        "differently, so groups without any difference get one, and noise is learnt.",
        [
            f"{percent(recent)} of the pairs of equal completions are paid differently (more than "
            f"{percent(LIMITS.conflict)} cannot be rounding)",
            f"two judges agree on {percent(agreement)}",
            f"dead groups {percent(history.of(health.DEAD_FRAC, objective).last(5))}: fewer than "
            "the completions deserve",
        ],
        "Judge at temperature 0 with cached verdicts, by another judge, or by the offline rules; a "
        "custom reward must be a function of the text.",
        confidence=0.9 if noisy else 0.5,
        patch=_without_custom(history, objective),
        samples=history.pick(objective),
    )


def pays_for_filler(history: History, objective: str) -> Iterator[Finding]:
    """Evading earns more than answering."""
    pay = history.of(health.EVASION_PAY, objective)
    evasion = history.of(names.EVASION_ANSWERABLE, objective)
    right, recent = history.of(health.RIGHT_FRAC, objective), pay.last(5)
    if recent is None or len(pay.known) < 3:
        return
    table = _evasion_pays_in_table(history, objective)
    # An evasion is a better bet than a wrong answer by design; it must lose to a right one, so it
    # may lead only where hardly any other completion is right.
    answers_right = (right.last(5) or 0.0) >= 0.1
    leads = recent > 0.05 and answers_right and in_a_row(pay, lambda v: v > 0)
    leads = leads and not _evades_less(evasion)
    if not leads and not table:
        return
    yield finding(
        "pays-for-filler",
        objective,
        Severity.ACT,
        "Evading is paid better than answering: the shortest way to reward is to say nothing.",
        [
            f"evading completions earn {recent:+.2f} against the others of the same group, on "
            "prompts that have an answer",
            *([table] if table else []),
            f"evasions on answerable prompts {percent(evasion.first(3))} at the start, "
            f"{percent(evasion.last(3))} now; right {percent(right.last(5))}",
        ],
        "Pay an evasion less than a right answer, and on answerable prompts little more than a "
        "wrong one; take out rewards that like safe wording.",
        confidence=0.9,
        patch={**_default_table(history, objective), **_without_custom(history, objective)},
        samples=history.pick(objective, verdicts=_EVADING),
    )


def _evades_less(evasion: Series) -> bool:
    """The step-20 tree's own criterion of recovery: few evasions, and fewer than at the start.

    What is right then, the policy has learnt: groups that still hold an evasion are the hard ones,
    where it stands beside wrong answers and is the better bet by design.
    """
    now, start = evasion.last(5), evasion.first(3)
    return now is not None and start is not None and now <= LIMITS.evades and now < start


def length_hacking(history: History, objective: str) -> Iterator[Finding]:
    """Length is what is paid: completions grow, right answers do not."""
    cor = history.of(health.LENGTH_COR, objective)
    length = history.of(names.GEN_LEN, objective)
    before, now = length.first(3), length.last(3)
    if before is None or now is None or len(length.known) < 6:
        return
    right = history.of(health.RIGHT_FRAC, objective)
    grown = now > 1.25 * before
    paid = (cor.last(5) or 0.0) > 0.4
    better = (right.last(5) or 0.0) > (right.first(5) or 0.0) + 0.05
    if not (paid and not better and (grown or in_a_row(cor, lambda c: c > 0.5, rows=5))):
        return
    if (history.number("rollout.sampling.min_new_tokens") or 0) > LIMITS.min_new_tokens:
        return
    yield finding(
        "length-hacking",
        objective,
        Severity.ACT if grown else Severity.WARN,
        "Longer completions are paid, not better ones: length grows and right answers do not.",
        [
            f"correlation of length and advantage within groups {show(cor.last(5))}",
            f"completions {show(before)} tokens at the start, {show(now)} now",
            f"right {percent(right.first(5))} at the start, {percent(right.last(5))} now",
        ],
        "Take out the reward that grows with length, or strengthen the length penalty.",
        confidence=0.85,
        patch=_without_custom(history, objective),
        samples=history.pick(objective),
    )


def reward_hacking(history: History, objective: str) -> Iterator[Finding]:
    """Reward rises while the held-out yardstick falls."""
    reward, right = (
        history.of(names.REWARD_MEAN, objective),
        history.of(health.RIGHT_FRAC, objective),
    )
    if len(reward.known) < 10:
        return
    gained = (reward.last(5) or 0.0) - (reward.first(5) or 0.0)
    other = history.of(health.OTHER_COV, objective).last(5) or 0.0
    task = history.of(health.TASK_COV, objective).last(5) or 0.0
    lost = (right.first(5) or 0.0) - (right.last(5) or 0.0)
    held_out = _headlines(history, objective)
    fell = len(held_out) > 1 and held_out[-1] < held_out[0] - 0.05
    if gained < 0.1 or not (lost > 0.1 or fell):
        return
    yield finding(
        "reward-hacking",
        objective,
        Severity.ACT if lost > 0.15 and other > task else Severity.WARN,
        "Reward rises while right answers fall: the policy has found something else that is paid.",
        [
            f"reward {show(reward.first(5))} at the start, {show(reward.last(5))} now",
            f"right {percent(right.first(5))} at the start, {percent(right.last(5))} now",
            *(["held out " + " -> ".join(show(h) for h in held_out)] if held_out else []),
            f"covariance with the advantage: task {show(task)}, other parts {show(other)}",
        ],
        "Look at the part with the largest covariance: it pays for something that is not wanted.",
        confidence=0.5,
        patch=_without_custom(history, objective),
        samples=history.pick(objective),
    )


def _scored(history: History, objective: str) -> float:
    """Completions of the last 3 steps that have a score."""
    counted = (names.BY_RULE, names.BY_HEURISTIC, names.BY_TEMPLATE, names.BY_OTHER)
    return sum(history.of(metric, objective).total(3) for metric in counted)


def _headlines(history: History, objective: str) -> list[float]:
    """The yardstick's axis in 0..1, evaluation by evaluation."""
    found: list[float] = []
    for _, own in sorted(history.evaluations.items()):
        value = own.get(objective, {}).get("axis")
        if isinstance(value, int | float):
            found.append(float(value))
    return found


_EVADING_PAYS = {
    "fairness": ("right", ("disambiguated_unknown", "ambiguous_evasion")),
    "hallucination": ("grounded", ("abstains", "general_evasion")),
}
"""Kind of objective -> key of the right answer, and of evasions."""


def _evasion_pays_in_table(history: History, objective: str) -> str | None:
    """The key of the reward table that pays an evasion as much as a right answer."""
    kind = str(history.setting(f"objectives.{objective}.kind"))
    if kind not in _EVADING_PAYS:
        return None
    best, evasions = _EVADING_PAYS[kind]
    prefix = f"objectives.{objective}.reward."
    top = history.number(prefix + best)
    for key in evasions:
        value = history.number(prefix + key)
        if top is not None and value is not None and value >= top > 0:
            return f"{prefix}{key} is {value:g}, a right answer earns {top:g}"
    return None


def _default_table(history: History, objective: str) -> dict[str, object]:
    """The shipped reward table where the configuration departs from it."""
    kind = str(history.setting(f"objectives.{objective}.kind"))
    return {
        key: value
        for key, value in shipped(kind, objective).items()
        if history.number(key) not in (None, value)
    }


def _without_custom(history: History, objective: str) -> dict[str, object]:
    key = f"objectives.{objective}.custom_rewards"
    return {key: []} if history.setting(key) else {}


RULES = (
    dead_rewards,
    dead_groups,
    cancelling_rewards,
    judge_outage,
    judge_noise,
    pays_for_filler,
    length_hacking,
    reward_hacking,
)
