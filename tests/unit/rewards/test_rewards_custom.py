"""Users' own rewards, and how the parts of a score are put together."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_reward_table import AMBIGUOUS, GENERAL, QA, group

from grpo_dual.config.objectives import (
    CustomReward,
    FairnessConfig,
    HallucinationConfig,
    LengthConfig,
)
from grpo_dual.errors import RewardError
from grpo_dual.rewards.custom import load_function
from grpo_dual.rewards.fairness import FairnessReward
from grpo_dual.rewards.hallucination import HallucinationReward

MODULE = "my_rewards_under_test"
SOURCE = """
    seen = {}

    def shorter(prompts, completions, **columns):
        seen.update(columns, prompts=prompts, completions=completions)
        return [-float(len(text)) for text in completions]

    def some(prompts, completions, **columns):
        return [None if "The" in text else 1 for text in completions]

    def nan(completions, **columns):
        return [float("nan")] * len(completions)

    def words(completions, **columns):
        return ["good"] * len(completions)

    def few(completions, **columns):
        return [1.0]

    def scalar(completions, **columns):
        return 1.0

    def text(completions, **columns):
        return "11"

    def broken(completions, **columns):
        raise KeyError("missing")

    def narrow(completions):
        return [0.0] * len(completions)

    async def later(completions, **columns):
        return [0.0]

    class Holder:
        @staticmethod
        def shorter(completions, **columns):
            return [0.5] * len(completions)

    number = 3
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / f"{MODULE}.py").write_text(textwrap.dedent(SOURCE), encoding="utf-8")
    (tmp_path / "broken_module_under_test.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop(MODULE, None)


def fair(
    *functions: str, weight: float = 1.0, length: LengthConfig | None = None
) -> FairnessReward:
    return FairnessReward(
        FairnessConfig(
            custom_rewards=tuple(
                CustomReward(function=f"{MODULE}:{name}", weight=weight) for name in functions
            ),
            length=length or LengthConfig(),
        ),
        max_new_tokens=128,
    )


def test_its_value_is_a_part_times_its_weight() -> None:
    path_before = list(sys.path)
    first, second = fair("shorter", weight=0.1).score(group(AMBIGUOUS, "(c)", "(b) x"))
    assert sys.path == path_before
    # Lengths 3 and 5, times -.1.
    assert first.parts == {"task": 1.0, "length": 0.0, "custom:shorter": pytest.approx(-0.3)}
    assert first.total == pytest.approx(0.7)
    assert second.total == pytest.approx(-1.5)


def test_it_is_called_as_trl_calls_it_with_the_records_fields_as_columns() -> None:
    fair("shorter").score(group(AMBIGUOUS, "(c)", "(b)"))
    seen = sys.modules[MODULE].seen
    assert seen["prompts"] == ["Q", "Q"]
    assert seen["completions"] == ["(c)", "(b)"]
    assert seen["completion_ids"] == [[7, 7, 7], [7, 7, 7]]
    assert seen["messages"][0] == [{"role": "user", "content": "Q"}]
    assert seen["label"] == [2, 2]
    assert seen["options"][1] == AMBIGUOUS.options
    assert all(len(column) == 2 for column in seen.values())


def test_none_leaves_the_completion_unscored_and_says_whose_opinion_is_missing() -> None:
    missing, there = fair("some").score(group(AMBIGUOUS, "The grandson", "(c)"))
    assert missing.total is None
    assert missing.failure == "custom:some has no opinion"
    assert missing.verdict == "wrong"
    assert "task" not in missing.parts
    assert there.total == 2.0
    assert there.failure is None


def test_the_tasks_own_failure_is_kept() -> None:
    reward = HallucinationReward(
        HallucinationConfig(custom_rewards=(CustomReward(function=f"{MODULE}:some"),)),
        max_new_tokens=128,
    )
    (score,) = reward.score(group(GENERAL, "The light scatters."))
    assert score.total is None
    assert score.failure == "there is no knowledge to judge by"


def test_functions_of_one_name_are_told_apart_and_twice_the_same_is_refused() -> None:
    (score,) = fair("shorter", "Holder.shorter").score(group(AMBIGUOUS, "(c)"))
    assert set(score.parts) == {"task", "length", "custom:shorter", "custom:Holder.shorter"}
    with pytest.raises(RewardError, match="listed twice"):
        fair("shorter", "shorter")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nan", "returned nan; every value must be a finite float"),
        ("words", "returned 'good'; every value must be a finite float"),
        ("few", "returned 1 values for 2 completions"),
        ("scalar", "returned float, not a list"),
        ("text", "returned str, not a list"),
        ("broken", "raised KeyError: 'missing'.*bbq/Age/0"),
        ("narrow", "raised TypeError: .*unexpected keyword"),
    ],
)
def test_a_wrong_function_is_named_with_what_it_did(name: str, message: str) -> None:
    with pytest.raises(RewardError, match=f"{MODULE}:{name} {message}") as caught:
        fair(name).score(group(AMBIGUOUS, "(c)", "(b)"))
    if "raised" in message:
        assert isinstance(caught.value.__cause__, KeyError | TypeError)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_colon", "not of the form module:function"),
        (":f", "not of the form module:function"),
        ("absent_module_under_test:f", "importing absent_module_under_test failed"),
        ("broken_module_under_test:f", "ZeroDivisionError"),
        (f"{MODULE}:absent", "has no absent"),
        (f"{MODULE}:number", "not callable"),
        (f"{MODULE}:later", "coroutine"),
    ],
)
def test_what_cannot_be_loaded_is_refused_before_the_run(spec: str, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        load_function(spec)


def test_length_is_a_part_of_its_own() -> None:
    # 112 of 128 tokens at a margin of 32: -.5, times the scale 2.
    reward = fair(length=LengthConfig(scale=2.0))
    (score,) = reward.score(group(AMBIGUOUS, "(c)", tokens=112))
    assert score.parts == {"task": 1.0, "length": -1.0}
    assert score.total == 0.0
    assert score.shaping == -1.0
    assert score.judged == 1.0
    (off,) = fair(length=LengthConfig(scale=0.0)).score(group(AMBIGUOUS, "(c)", tokens=128))
    assert str(off.parts["length"]) == "0.0"


def test_length_counts_for_hallucination_too() -> None:
    reward = HallucinationReward(HallucinationConfig(), max_new_tokens=128)
    (score,) = reward.score(group(QA, "Delhi", tokens=128))
    assert score.parts == {"task": 1.0, "length": -1.0}
