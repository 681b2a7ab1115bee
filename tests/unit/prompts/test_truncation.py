"""What a prompt limit costs, counted with one token a word."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from grpo_dual.prompts import fairness, hallucination
from grpo_dual.prompts.truncation import Auditor, Fate, Loss, Twins, kind_of, tally
from grpo_dual.records import synthetic
from grpo_dual.records.bbq import iter_bbq
from grpo_dual.types import (
    BbqRecord,
    Condition,
    HaluEvalRecord,
    Message,
    Record,
    Task,
)
from made_records import bbq_record, halueval_record

AMBIGUOUS = bbq_record(
    context="They met.",
    question="Who was it?",
    options=("Ann", "Bob", "Unknown"),
)
TOLD = dataclasses.replace(
    AMBIGUOUS,
    record_id="bbq/Age/1",
    condition=Condition.DISAMBIGUATED,
    context="They met. Ann fell. Bob did not.",
    label=0,
)
# Two turns; "Context:", the context, "Question: Who was it?", "(a) Ann (b) Bob (c) Unknown".
FRAME = 2 + len(fairness.SYSTEM.split()) + 1 + 4 + 6
QA = halueval_record(
    record_id="halueval/qa/7",
    context="One two three. Four five six. Seven eight nine.",
    query="Which number?",
    accepted="Five nine",
    rejected="Ten",
)
QA_FRAME = 2 + len(hallucination.ANSWER_SYSTEM.split()) + 1 + 3


class WordEncoder:
    """One token per word, and one per turn."""

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return tuple(range(sum(len(m.content.split()) + 1 for m in messages)))


def messages(record: Record) -> tuple[Message, ...]:
    if isinstance(record, BbqRecord):
        return fairness.messages(record)
    assert isinstance(record, HaluEvalRecord)
    return hallucination.messages(record)


def auditor(*twins: Record, refuse: bool = False) -> Auditor:
    return Auditor(
        messages, WordEncoder(), Twins(twins), overlong="refuse" if refuse else "shorten"
    )


def test_the_answer_sentence_is_what_the_context_has_over_its_twin() -> None:
    assert Twins([AMBIGUOUS]).answer_sentence(TOLD) == "Ann fell. Bob did not."
    longer = dataclasses.replace(AMBIGUOUS, context="They met. Ann fell.")
    assert Twins([AMBIGUOUS, longer]).answer_sentence(TOLD) == "Bob did not."


@pytest.mark.parametrize(
    "other",
    [
        {"options": ("Bob", "Ann", "Unknown")},
        {"question": "Who was not?"},
        {"question_index": "2"},
        {"subset": "Religion"},
        {"context": "They parted."},
        {"context": TOLD.context},
    ],
)
def test_without_its_twin_it_is_the_last_sentence(other: dict[str, object]) -> None:
    twins = Twins([dataclasses.replace(AMBIGUOUS, **other)])
    assert twins.answer_sentence(TOLD) == "Bob did not."
    single = dataclasses.replace(TOLD, context="Ann fell.")
    assert twins.answer_sentence(single) == "Ann fell."


@pytest.mark.parametrize(
    ("limit", "fate", "answer"),
    [
        (FRAME + 7, Fate.WHOLE, Loss.NONE),
        (FRAME + 6, Fate.LEFT_OUT, Loss.PART),  # its last word has no room
        (FRAME + 3, Fate.LEFT_OUT, Loss.PART),  # "They met. Ann" has
        (FRAME + 2, Fate.LEFT_OUT, Loss.ALL),
        (10, Fate.LEFT_OUT, Loss.ALL),
    ],
)
def test_a_disambiguated_item(limit: int, fate: Fate, answer: Loss) -> None:
    audit = auditor(AMBIGUOUS)
    assert audit.tokens(TOLD) == FRAME + 7
    fit = audit.fit(TOLD, FRAME + 7, limit, reply_tokens=2)
    assert (fit.fate, fit.answer, fit.tokens) == (fate, answer, FRAME + 7)
    assert (fit.kind, fit.reply_tokens) == ("disambig", 2)


def test_an_ambiguous_item_has_no_answer_sentence_to_lose() -> None:
    fit = auditor().fit(AMBIGUOUS, FRAME + 2, FRAME)
    assert (fit.fate, fit.answer) == (Fate.LEFT_OUT, Loss.NONE)


@pytest.mark.parametrize(
    ("accepted", "room", "answer"),
    [
        ("Five nine", 8, Loss.PART),  # six words are kept: "five" is left, "nine" is not
        ("Five", 8, Loss.NONE),
        ("Nine", 8, Loss.ALL),
        ("Number ten", 8, Loss.NONE),  # in the question, or nowhere
    ],
)
def test_what_the_right_text_rests_on(accepted: str, room: int, answer: Loss) -> None:
    record = dataclasses.replace(QA, accepted=accepted)
    audit = auditor()
    fit = audit.fit(record, audit.tokens(record), QA_FRAME + room)
    assert (fit.fate, fit.answer) == (Fate.SHORTENED, answer)


def test_a_shown_text_counts_only_where_it_is_right() -> None:
    shown = dataclasses.replace(QA, task=Task.DETECT, accepted=None, rejected=None, shown="Nine")
    audit = auditor()
    for wrong, answer in ((False, Loss.ALL), (True, Loss.NONE)):
        record = dataclasses.replace(shown, hallucinated=wrong)
        fit = audit.fit(record, audit.tokens(record), audit.tokens(record) - 3)
        assert (fit.fate, fit.answer) == (Fate.SHORTENED, answer)
        assert fit.kind == "qa detect"


def test_what_cannot_be_shortened_is_left_out() -> None:
    general = dataclasses.replace(QA, subset="general", context="")
    for audit, record in ((auditor(), general), (auditor(refuse=True), QA)):
        fit = audit.fit(record, audit.tokens(record), audit.tokens(record) - 1)
        assert (fit.fate, fit.answer) == (Fate.LEFT_OUT, Loss.NONE)
    # Not even one word of the document fits.
    assert auditor().fit(QA, QA_FRAME + 9, QA_FRAME).fate is Fate.LEFT_OUT


def test_a_tally_counts() -> None:
    audit = auditor(AMBIGUOUS)
    items = [(TOLD, FRAME + 2), (TOLD, FRAME + 3), (TOLD, 99), (QA, QA_FRAME + 8)]
    found = tally([audit.fit(record, audit.tokens(record), limit) for record, limit in items])
    assert (found.rows, found.over, found.shortened, found.left_out) == (4, 3, 1, 2)
    assert (found.answer_cut, found.answer_gone) == (3, 1)
    assert found.longest == max(FRAME + 7, QA_FRAME + 9)
    assert tally([]).longest == 0


def test_every_synthetic_answer_sentence_says_who_it_was() -> None:
    records = list(synthetic.bbq_records("train", 50, 0))
    twins = Twins(records)
    told = [r for r in records if r.condition is Condition.DISAMBIGUATED]
    assert len(told) == 100
    for record in told:
        sentence = twins.answer_sentence(record)
        assert record.context.endswith(sentence)
        assert sentence.startswith("The ")
        assert record.options[record.label] in sentence


def test_every_real_disambiguated_row_has_its_twin(shared_data: Path) -> None:
    """Then the answer sentence is never guessed: 7570 disambiguated rows."""
    records = list(iter_bbq(shared_data / "bbq"))
    twins = Twins(records)
    told = [r for r in records if r.condition is Condition.DISAMBIGUATED]
    assert len(told) == 7570
    by_condition = {r.context for r in records if r.condition is Condition.AMBIGUOUS}
    for record in told:
        sentence = twins.answer_sentence(record)
        assert record.context.removesuffix(sentence).rstrip() in by_condition
    assert kind_of(told[0]) == "disambig"
