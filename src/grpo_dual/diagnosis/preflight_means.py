"""Before step 0: what the run needs of others: the device's memory, its judges, money."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from grpo_dual.types import Finding, Severity

_GIB = 2**30


def memory(
    *,
    total: float,
    halved: float,
    available: int,
    device: str,
    microbatch_prompts: int,
    checkpointing: bool,
    rollouts: int | None = None,
) -> tuple[Finding, ...]:
    """Will the run fit the device?

    Args:
        total: Bytes of the plan.
        halved: Bytes with its passes halved, which a run does by itself, once.
        available: Bytes of the device that are free, or the process's already.
        device: Its name.
        microbatch_prompts: Prompts a pass.
        checkpointing: Activations are recomputed.
        rollouts: ``rollout.max_sequences``, where the keys of the rollouts take more than a pass.
    """
    if total <= available:
        return ()
    patch: dict[str, object] = {}
    if rollouts is not None and rollouts > 1:
        patch["rollout.max_sequences"] = rollouts // 2
    elif rollouts is None and microbatch_prompts > 1:
        patch["train.microbatch_prompts"] = max(1, microbatch_prompts // 2)
    if rollouts is None and halved > available and not checkpointing:
        patch["model.gradient_checkpointing"] = True
    return (
        Finding(
            code="memory",
            objective=None,
            severity=Severity.ACT if halved > available else Severity.WARN,
            says="The run may take more memory than the device has.",
            evidence=(
                f"{total / _GIB:.1f} GiB of {available / _GIB:.1f} on {device} at most; "
                f"{halved / _GIB:.1f} with passes of half the size",
            ),
            confidence=0.8,
            remedy="Draw fewer completions at once, make passes smaller, or recompute activations."
            if patch
            else "Make prompts or groups smaller, or take a smaller model or a larger device.",
            patch=patch,
        ),
    )


def judge_unreachable(
    reached: Mapping[str, str | None],
    *,
    outage: str,
    judges: int,
    unusable: Collection[str] = (),
) -> tuple[Finding, ...]:
    """Can the judges be had?

    Args:
        reached: Judge behind an API -> why it cannot be had; None: it can.
        outage: ``judge.outage.action``.
        judges: All judges of the run, those on this machine too.
        unusable: Of those that cannot be had, the ones without key or SDK: no run starts so.
    """
    absent = {name: why for name, why in reached.items() if why is not None}
    if not absent:
        return ()
    nobody = len(absent) == judges
    stops = bool(unusable) or (nobody and outage in ("pause", "stop"))
    then = {
        "heuristic": "the offline judge would score everything",
        "unscored": "nothing that needs a judge would be scored",
        "pause": "the run would wait for them",
        "stop": "the run would stop at its first question",
    }[outage]
    if unusable:
        then = "the run cannot start"
    elif not nobody:
        then = "the others would judge in its place"
    return (
        Finding(
            code="judge-unreachable",
            objective=None,
            severity=Severity.ACT if stops else Severity.WARN,
            says=f"{', '.join(absent)} cannot be had: {then}.",
            evidence=tuple(f"{name}: {why}" for name, why in absent.items()),
            confidence=0.9,
            remedy=(
                "Look at address, key and network of the judge; `--offline` (or `--doctor off`) "
                "skips this question."
            ),
        ),
    )


@dataclass(frozen=True, slots=True)
class Bill:
    """The most that one judge can take."""

    judge: str
    calls: float
    tokens: float
    usd: float | None
    """None where the price is unknown."""


def judge_cost(
    bills: Sequence[Bill], *, steps: int, ends: tuple[str, int] | None
) -> tuple[Finding, ...]:
    """What may the judges take, and does the budget last?

    Args:
        bills: Of the judges that are paid.
        steps: Of the run.
        ends: The budget that may be passed, and in which step; None: none.
    """
    asked = [bill for bill in bills if bill.calls]
    if not asked:
        return ()
    known = [bill.usd for bill in asked if bill.usd is not None]
    money = f"{sum(known):.2f} USD" if len(known) == len(asked) else "an unknown price"
    told = tuple(
        f"{b.judge}: at most {b.calls:,.0f} calls, {b.tokens:,.0f} tokens, "
        + ("unknown price" if b.usd is None else f"{b.usd:.2f} USD")
        for b in asked
    )
    if ends is None:
        says = f"The judges may take up to {money}, if every completion is asked about."
        remedy = "`grpo-dual judge estimate` tells what is to be expected, and --ask measures it."
    else:
        says = (
            f"The judges' budget may end at step {ends[1]} of {steps} (judge.budget.{ends[0]}); "
            "from there on the offline judge scores, and rewards change in the middle of the run."
        )
        remedy = (
            f"Raise judge.budget.{ends[0]}, or look at `grpo-dual judge estimate` for what is to "
            "be expected."
        )
    return (
        Finding(
            code="judge-cost",
            objective=None,
            severity=Severity.NOTE if ends is None else Severity.WARN,
            says=says,
            evidence=told,
            confidence=0.5,
            remedy=remedy,
        ),
    )
