"""Memory, judges, money: what a run needs of others."""

import pytest

from grpo_dual.diagnosis.preflight_means import Bill, judge_cost, judge_unreachable, memory
from grpo_dual.types import Severity

GIB = 2**30


def fit(
    total: float,
    halved: float,
    *,
    prompts: int = 4,
    checkpointing: bool = False,
    rollouts: int | None = None,
):
    return memory(
        total=total * GIB,
        halved=halved * GIB,
        available=80 * GIB,
        device="card",
        microbatch_prompts=prompts,
        checkpointing=checkpointing,
        rollouts=rollouts,
    )


def test_memory() -> None:
    assert fit(80, 60) == ()
    (found,) = fit(90, 70)
    assert (found.code, found.severity) == ("memory", Severity.WARN)
    assert found.evidence == (
        "90.0 GiB of 80.0 on card at most; 70.0 with passes of half the size",
    )
    assert found.patch == {"train.microbatch_prompts": 2}
    (found,) = fit(150, 100)
    assert found.severity is Severity.ACT
    assert found.patch == {"train.microbatch_prompts": 2, "model.gradient_checkpointing": True}
    (found,) = fit(150, 100, prompts=1, checkpointing=True)
    assert found.patch == {}
    assert "larger device" in found.remedy
    (found,) = fit(150, 150, rollouts=256)
    assert found.patch == {"rollout.max_sequences": 128}


def test_judges_that_are_there() -> None:
    assert judge_unreachable({"a": None, "b": None}, outage="stop", judges=2) == ()
    assert judge_unreachable({}, outage="stop", judges=1) == ()


@pytest.mark.parametrize(
    ("outage", "severity", "then"),
    [
        ("heuristic", Severity.WARN, "the offline judge would score everything"),
        ("unscored", Severity.WARN, "nothing that needs a judge would be scored"),
        ("pause", Severity.ACT, "the run would wait"),
        ("stop", Severity.ACT, "the run would stop"),
    ],
)
def test_nobody_is_there(outage: str, severity: Severity, then: str) -> None:
    (found,) = judge_unreachable({"a": "refused"}, outage=outage, judges=1)
    assert (found.code, found.severity) == ("judge-unreachable", severity)
    assert then in found.says
    assert found.evidence == ("a: refused",)


def test_one_of_two_is_there() -> None:
    (found,) = judge_unreachable({"a": "refused", "b": None}, outage="stop", judges=2)
    assert found.severity is Severity.WARN
    (found,) = judge_unreachable({"a": "refused"}, outage="stop", judges=2)
    assert found.severity is Severity.WARN, "a judge on this machine is"


def test_no_run_starts_without_a_key() -> None:
    reached = {"a": "KEY is not set", "b": None}
    (found,) = judge_unreachable(reached, outage="heuristic", judges=2, unusable=["a"])
    assert found.severity is Severity.ACT
    assert found.says == "a cannot be had: the run cannot start."


def test_cost() -> None:
    assert judge_cost([], steps=9, ends=None) == ()
    assert judge_cost([Bill("a", 0, 0, 0.0)], steps=9, ends=None) == ()
    bills = [Bill("a", 1000, 250_000, 1.25), Bill("b", 10, 2500, 0.5)]
    (found,) = judge_cost(bills, steps=9, ends=None)
    assert (found.code, found.severity) == ("judge-cost", Severity.NOTE)
    assert "up to 1.75 USD" in found.says
    assert found.evidence[0] == "a: at most 1,000 calls, 250,000 tokens, 1.25 USD"
    (found,) = judge_cost([*bills, Bill("c", 1, 1, None)], steps=9, ends=None)
    assert "an unknown price" in found.says
    (found,) = judge_cost(bills, steps=9, ends=("usd", 4))
    assert found.severity is Severity.WARN
    assert "may end at step 4 of 9 (judge.budget.usd)" in found.says
