"""Prompts and replies over their limits: what is said of them, and how gravely."""

import dataclasses
from collections.abc import Sequence

import pytest

from grpo_dual.diagnosis.preflight_prompts import completion_truncation, prompt_truncation
from grpo_dual.prompts.truncation import Fate, Fit, Loss
from grpo_dual.records import synthetic
from grpo_dual.types import Condition, Record, Severity

BBQ = list(synthetic.bbq_records("train", 25, 0))
AMBIGUOUS = [r for r in BBQ if r.condition is Condition.AMBIGUOUS]
TOLD = [r for r in BBQ if r.condition is Condition.DISAMBIGUATED]
QA = list(synthetic.halueval_records("train", "qa", 100, 0))


def fits(
    records: Sequence[Record],
    lost: int = 0,
    *,
    fate: Fate = Fate.LEFT_OUT,
    answer: Loss = Loss.NONE,
    tokens: int = 130,
) -> list[Fit]:
    """The first ``lost`` records over the limit of 100, the others at 90."""
    whole = [Fit(record=r, tokens=90, fate=Fate.WHOLE, answer=Loss.NONE) for r in records]
    over = [Fit(record=r, tokens=tokens, fate=fate, answer=answer) for r in records[:lost]]
    return [*over, *whole[lost:]]


def test_what_fits_is_no_finding() -> None:
    assert prompt_truncation("fairness", fits([*AMBIGUOUS, *TOLD]), limit=100, room=200) == ()
    assert prompt_truncation("fairness", [], limit=100, room=None) == ()


@pytest.mark.parametrize(
    ("lost", "severity"), [(1, Severity.NOTE), (3, Severity.WARN), (13, Severity.ACT)]
)
def test_answer_sentences_without_room(lost: int, severity: Severity) -> None:
    sample = [*fits(AMBIGUOUS), *fits(TOLD, lost, answer=Loss.PART)]
    (found,) = prompt_truncation("fairness", sample, limit=100, room=300)
    assert (found.code, found.severity) == ("prompt-truncation", severity)
    assert f"{lost} of 50 drawn disambiguated items are over 100 tokens" in found.evidence[0]
    # 50 ambiguous ones are left beside 50 - lost.
    assert (
        f"of what is left, {50 / (100 - lost):.0%} is ambiguous; before, 50%" in found.evidence[1]
    )
    assert TOLD[0].record_id in found.evidence[-1]
    assert found.patch == {"rollout.max_prompt_tokens": 160}, "130, in steps of 32"


def test_the_records_are_named_and_the_rest_counted() -> None:
    sample = [*fits(AMBIGUOUS), *fits([TOLD[0], *TOLD], 8, answer=Loss.ALL)]
    (found,) = prompt_truncation("fairness", sample, limit=100, room=None)
    # Eight draws, of which the first two are one record.
    assert found.evidence[-1] == (f"records: {', '.join(r.record_id for r in TOLD[:5])} and 2 more")
    assert "8 of them with no word of their answer sentence within" in found.evidence[0]


def test_other_prompts_left_out() -> None:
    (found,) = prompt_truncation("fairness", fits(AMBIGUOUS, 30), limit=100, room=None)
    assert found.severity is Severity.ACT
    assert found.says == "60.0% of the prompts drawn are over the limit and are left out."


def test_documents_shortened() -> None:
    some = fits(QA, 60, fate=Fate.SHORTENED, answer=Loss.PART)
    (found,) = prompt_truncation("hallucination", some, limit=100, room=None)
    assert found.severity is Severity.NOTE, "what the answers rest on is there, in part"
    assert found.says == "60.0% of the documents are shortened."
    gone = fits(QA, 60, fate=Fate.SHORTENED, answer=Loss.ALL)
    (found,) = prompt_truncation("hallucination", gone, limit=100, room=None)
    assert found.severity is Severity.ACT
    assert "60.0% of the items have lost what their answer rests on" in found.says
    assert found.evidence[1].startswith("all words of the right text that the document held")
    assert QA[0].record_id in found.evidence[-1]


def test_the_window_bounds_the_remedy() -> None:
    sample = fits(QA, 50, fate=Fate.SHORTENED, answer=Loss.ALL, tokens=500)
    (found,) = prompt_truncation("hallucination", sample, limit=100, room=150)
    assert found.patch == {"rollout.max_prompt_tokens": 150}
    assert "(512), as far as the model's window allows" in found.remedy
    (found,) = prompt_truncation("hallucination", sample, limit=100, room=100)
    assert found.patch == {}
    assert "window has no room" in found.remedy


def test_a_limit_beyond_the_window() -> None:
    (found,) = prompt_truncation("hallucination", fits(QA), limit=100, room=80)
    assert found.severity is Severity.ACT
    assert "100 of 100 drawn prompts are longer than the 80 tokens" in found.evidence[0]
    assert found.patch == {"rollout.max_prompt_tokens": 80}
    assert prompt_truncation("hallucination", fits(QA), limit=100, room=90) == ()


def replies(lengths: Sequence[int | None]) -> list[Fit]:
    return [
        dataclasses.replace(fit, reply_tokens=n)
        for fit, n in zip(fits(QA[: len(lengths)]), lengths, strict=True)
    ]


@pytest.mark.parametrize(
    ("long", "severity"), [(1, Severity.NOTE), (5, Severity.WARN), (50, Severity.ACT)]
)
def test_right_replies_over_the_completion_limit(long: int, severity: Severity) -> None:
    sample = replies([30] * long + [10] * (100 - long))
    (found,) = completion_truncation("hallucination", sample, max_new_tokens=24, room=100)
    assert (found.code, found.severity) == ("completion-truncation", severity)
    assert f"{long} of 100 right replies have more than 24 tokens" in found.evidence[0]
    assert found.patch == {"rollout.sampling.max_new_tokens": 32}


def test_the_95th_percentile_is_proposed_and_not_one_very_long_reply() -> None:
    sample = replies([400] + [30] * 9 + [10] * 90)
    (found,) = completion_truncation("hallucination", sample, max_new_tokens=24, room=500)
    assert found.patch == {"rollout.sampling.max_new_tokens": 32}
    assert found.evidence[0].endswith("95th percentile 30, longest 400")


def test_replies_that_fit_or_are_absent() -> None:
    sample = replies([24, None, 3])
    assert completion_truncation("h", sample, max_new_tokens=24, room=None) == ()
    assert completion_truncation("h", replies([None]), max_new_tokens=24, room=None) == ()
    (found,) = completion_truncation("h", sample, max_new_tokens=20, room=20)
    assert found.patch == {}, "the window has no room for 24"
