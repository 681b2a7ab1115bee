"""The contrastive part: worked numbers, what gets nothing, and what it cannot see."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.config.objectives import HallucinationConfig, HallucinationRewardConfig
from grpo_dual.judges.client import Cause, Failure, GroupVerdicts, Opinion, Question, Verdict
from grpo_dual.judges.lexical import token_f1
from grpo_dual.records.halueval import as_answer, as_detection, iter_halueval
from grpo_dual.rewards.contrast import contrast
from grpo_dual.rewards.hallucination import HallucinationReward
from grpo_dual.types import HaluEvalRecord, Message, Prompt, Rollout, RolloutGroup, Score, Task

QA = HaluEvalRecord(
    record_id="halueval/qa/1",
    objective="hallucination",
    subset="qa",
    task=Task.ANSWER,
    origin="tests",
    context="The mill stands in Delft. It was built by Jan Visser in 1844.",
    query="Who built the mill in Delft?",
    accepted="Jan Visser",
    rejected="The mill in Delft was built by Piet Mulder senior",
)


def of(text: str, record: HaluEvalRecord = QA, weight: float = 1.0) -> float:
    assert record.accepted
    assert record.rejected
    return contrast(text, record.accepted, record.rejected, record.query, weight=weight)


def test_f1_by_hand():
    # Shared: b once (the other b has no partner) and c: 2 x 2 / (4 + 3)
    assert token_f1(["a", "b", "b", "c"], ["b", "c", "d"]) == 4 / 7
    assert token_f1(["a"], ["a"]) == 1.0
    assert token_f1(["a"], ["b"]) == token_f1([], ["b"]) == token_f1([], []) == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # built, mill, Delft are the question's: y+ is {jan, visser}, y- {piet, mulder, senior}.
        ("Jan Visser", 1.0),
        ("The mill in Delft was built by Jan Visser.", 1.0),
        ("Visser", 2 / 3),  # 2 x 1 / (1 + 2)
        ("Jan Visser did, a famous carpenter", 2 / 3),  # 2 x 2 / (4 + 2): famous, carpenter
        ("Piet Mulder senior", -1.0),
        ("Piet Mulder", -4 / 5),  # 2 x 2 / (2 + 3)
        ("Jan Visser, not Piet Mulder", 2 / 3 - 4 / 7),  # 2 x 2 / (4 + 2) - 2 x 2 / (4 + 3)
        # Neither side is named.
        ("Kees de Boer", 0.0),
        ("The mill in Delft", 0.0),
        ("Who built the mill in Delft?", 0.0),
        ("", 0.0),
        ("I don't know.", 0.0),
        # What it cannot see.
        ("It was not Jan Visser", 1.0),
    ],
)
def test_worked_numbers(text: str, expected: float):
    assert of(text) == pytest.approx(expected, abs=1e-12)


def test_words_that_both_sides_share_name_neither():
    # y+ {kelford, harbour}, y- {marlow, harbour, old}: "harbour" tells nothing, and without that
    # rule it would win 2/3 - 2/4 by the lengths alone.
    sides = ("Kelford harbour", "Marlow old harbour", "Which place?")
    assert contrast("The harbour", *sides, weight=1.0) == 0.0
    # {kelford, harbour} against {marlow, harbour, old}: 1 - 2 x 1 / (2 + 3)
    assert contrast("Kelford harbour", *sides, weight=1.0) == pytest.approx(0.6, abs=1e-12)


def test_a_noisy_pair_whose_rejected_side_holds_the_answer():
    # y+ {kelford}, y- {kelford, river, town}: 1 - 2 x 1 / (1 + 3)
    value = contrast("Kelford", "Kelford", "Kelford is a river town", "Where?", weight=1.0)
    assert value == pytest.approx(0.5, abs=1e-12)


def test_a_choice_that_the_question_offers_is_named_by_the_question_s_words():
    sides = ("Visser", "Mulder", "Who was it, Visser or Mulder?")
    assert contrast("Visser", *sides, weight=1.0) == 1.0
    assert contrast("Mulder", *sides, weight=1.0) == -1.0


@pytest.mark.parametrize(
    ("text", "value"), [("No", 1.0), ("No, they did not.", 1.0), ("Yes", -1.0), ("Perhaps", 0.0)]
)
def test_yes_and_no(text: str, value: float):
    # "did" and "they" of the rejected side must not count for it.
    assert contrast(text, "no", "Yes, they did", "Did they?", weight=1.0) == value


def test_weight_and_clip():
    assert of("Visser", weight=0.3) == pytest.approx(0.2, abs=1e-12)
    assert of("Jan Visser", weight=3.0) == 1.0
    assert of("Piet Mulder senior", weight=3.0) == -1.0
    assert of("Visser", weight=3.0) == 1.0  # 2 clipped


@given(st.text(), st.text(min_size=1), st.text(min_size=1), st.text(), st.floats(0, 10))
def test_always_within_bounds(text: str, accepted: str, rejected: str, query: str, weight: float):
    value = contrast(text, accepted, rejected, query, weight=weight)
    assert -1 <= value <= 1


# --- in the score


def group(record: HaluEvalRecord, *texts: str) -> RolloutGroup:
    prompt = Prompt(record, (Message("user", "Q"),), (1, 2), shortened=False)
    return RolloutGroup(
        prompt, tuple(Rollout((7,), (-1.0,), text, finished=True) for text in texts)
    )


def reward(weight: float) -> HallucinationReward:
    values = HallucinationRewardConfig(contrast=weight)
    return HallucinationReward(HallucinationConfig(reward=values), max_new_tokens=128)


def scores(weight: float, record: HaluEvalRecord, *texts: str) -> tuple[Score, ...]:
    return reward(weight).score(group(record, *texts))


def test_it_is_off_by_default():
    assert HallucinationRewardConfig().contrast == 0.0
    (score,) = scores(0.0, QA, "Jan Visser")
    assert "contrast" not in score.parts
    assert score.total == 1.0


def test_it_is_a_judged_part_beside_the_task_and_never_shaping():
    right, wrong, near = scores(0.3, QA, "Jan Visser", "Piet Mulder", "Visser")
    assert right.parts == {"task": 1.0, "contrast": 0.3, "length": 0.0}
    assert wrong.parts["contrast"] == pytest.approx(-0.24, abs=1e-12)  # .3 x 4 / 5
    assert near.parts["contrast"] == pytest.approx(0.2, abs=1e-12)
    for score in (right, wrong, near):
        assert score.shaping == 0.0
        assert score.judged == score.total
        assert score.total == pytest.approx(score.parts["task"] + score.parts["contrast"])


@pytest.mark.parametrize(
    "text",
    [
        "I don't know.",
        "It cannot be determined who built it, Jan Visser or Piet Mulder.",
        "The context does not say that it was Jan Visser.",
    ],
)
def test_an_evasion_gets_nothing_for_the_words_in_it(text: str):
    (score,) = scores(0.3, QA, text)
    assert score.verdict in ("evades", "abstains")
    assert score.parts["contrast"] == 0.0


@pytest.mark.parametrize(
    "record",
    [
        as_detection(QA, hallucinated=True),
        as_answer(as_detection(QA, hallucinated=False)),
        dataclasses.replace(QA, rejected=None),
    ],
)
def test_an_item_without_both_sides_has_no_such_part(record: HaluEvalRecord):
    for score in scores(0.3, record, "Jan Visser", "yes", "Piet Mulder"):
        assert "contrast" not in score.parts


class Judge:
    """A judge that gives one answer to everything."""

    def __init__(self, answer: Opinion | Failure) -> None:
        self.answer = answer

    def submit(self, questions: Sequence[Question], offline: object) -> "Judge":
        del offline
        self.count = len(questions)
        return self

    def result(self) -> GroupVerdicts:
        return GroupVerdicts("judge", (self.answer,) * self.count)


@pytest.mark.parametrize(
    ("answer", "contrasts"),
    [
        (Opinion(Verdict.WRONG, 1.0, "false"), True),
        (Opinion(Verdict.ABSTAINS, 1.0, "declines"), False),
        (Failure("judge", Cause.TIMEOUT, 1, "late"), None),
    ],
)
def test_with_a_judge_behind_an_api(answer: Opinion | Failure, contrasts: bool | None):
    config = HallucinationConfig(reward=HallucinationRewardConfig(contrast=0.3))
    judged = HallucinationReward(config, max_new_tokens=128, judging=Judge(answer))
    (score,) = judged.score(group(QA, "Mulder or so, they say"))
    if contrasts is None:
        # A failure is no number, and no part makes it one.
        assert score.total is None
        assert "contrast" not in score.parts
    else:
        assert (score.parts["contrast"] < 0) == contrasts


def test_it_orders_within_a_verdict_below_a_half():
    # The worst case of each verdict at .49: grounded 1 - .49, an abstention -.5, a hallucination
    # -1 + .49; their order stays.
    config = HallucinationRewardConfig()
    weight = 0.49
    assert config.grounded - weight > config.abstains > config.hallucinated + weight


def test_real_rows(shared_data: Path):
    """The numbers of docs/decisions/0014-pairs.md."""
    rows = list(iter_halueval(shared_data / "halueval", subsets=["qa"]))
    assert len(rows) == 1700

    def signs(text: Callable[[HaluEvalRecord], str]) -> tuple[int, int, int]:
        """Rows above, at and below 0."""
        values = [of(text(row), row) for row in rows]
        above, below = sum(v > 0 for v in values), sum(v < 0 for v in values)
        return above, len(rows) - above - below, below

    assert signs(lambda r: f"The answer is {r.accepted}.") == (1664, 36, 0)
    assert signs(lambda r: r.rejected or "") == (0, 106, 1594)
    assert signs(lambda _: "I don't know.") == (0, 1700, 0)
    assert signs(lambda r: f"It is not {r.accepted}.") == (1664, 36, 0)
    restated = signs(lambda r: f"The answer to the question {r.query} is {r.accepted}.")
    assert restated == (1465, 45, 190)
