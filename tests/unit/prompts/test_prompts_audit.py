"""Prompts are shortened openly or refused, never cut."""

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.errors import PromptError
from grpo_dual.prompts import fairness, hallucination
from grpo_dual.prompts.audit import build_prompt
from grpo_dual.types import (
    BbqRecord,
    Condition,
    HaluEvalRecord,
    Message,
    Polarity,
    Task,
)


class WordEncoder:
    """One token per word, and one per turn: limits can be counted by hand."""

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return tuple(range(sum(len(m.content.split()) + 1 for m in messages)))


QA = HaluEvalRecord(
    record_id="halueval/qa/7",
    objective="hallucination",
    subset="qa",
    task=Task.ANSWER,
    origin="qa_data.json:8",
    context="One two three. Four five six. Seven eight nine.",
    query="Which number?",
    accepted="One",
    rejected="Ten",
)
SYSTEM_WORDS = len(hallucination.ANSWER_SYSTEM.split())
# Turns 2, "Knowledge:" 1, "Question: Which number?" 3.
FRAME = SYSTEM_WORDS + 2 + 1 + 3


def shorten(record: HaluEvalRecord, limit: int):
    return build_prompt(
        record, hallucination.messages, WordEncoder(), max_tokens=limit, overlong="shorten"
    )


def test_a_prompt_that_fits_is_untouched() -> None:
    prompt = shorten(QA, FRAME + 9)
    assert not prompt.shortened
    assert prompt.messages == hallucination.messages(QA)
    assert prompt.record is QA
    assert len(prompt.token_ids) == FRAME + 9


@pytest.mark.parametrize(
    ("room", "kept"),
    [
        (8, "One two three. Four five six."),  # 8 words fit; the sentence's end keeps 6 of them
        (6, "One two three. Four five six."),
        (5, "One two three."),  # 14 of 24 characters
        (2, "One two"),
        (1, "One"),
    ],
)
def test_the_document_is_shortened_at_words_or_sentences(room: int, kept: str) -> None:
    prompt = shorten(QA, FRAME + room)
    assert prompt.shortened
    assert f"Knowledge: {kept}\nQuestion: Which number?" in prompt.messages[1].content
    assert len(prompt.token_ids) <= FRAME + room


def test_no_room_for_one_word_is_refused_with_the_lengths() -> None:
    # Without a document the line "Knowledge:" goes too: FRAME - 1 tokens remain.
    with pytest.raises(
        PromptError, match=rf"halueval/qa/7 \(qa_data.json:8\).* {FRAME - 1} remain"
    ):
        shorten(QA, FRAME)
    with pytest.raises(PromptError, match=f"has {FRAME + 9} tokens, the limit is 10"):
        shorten(QA, 10)


def test_refuse_names_the_record_and_both_lengths() -> None:
    with pytest.raises(PromptError, match=f"halueval/qa/7.*{FRAME + 9} tokens, the limit is 20"):
        build_prompt(QA, hallucination.messages, WordEncoder(), max_tokens=20, overlong="refuse")


def test_a_query_without_a_document_is_never_cut() -> None:
    general = dataclasses.replace(QA, subset="general", context="", query="why " * 99)
    with pytest.raises(PromptError, match="no document that could be shortened"):
        shorten(general, 40)


def test_a_detection_item_keeps_the_text_under_judgement() -> None:
    record = dataclasses.replace(
        QA, task=Task.DETECT, shown="Ten is named there.", hallucinated=True
    )
    whole = len(WordEncoder().encode(hallucination.messages(record)))
    prompt = shorten(record, whole - 4)
    assert prompt.shortened
    assert "Answer: Ten is named there." in prompt.messages[1].content


def test_a_bbq_context_is_refused_not_shortened() -> None:
    record = BbqRecord(
        record_id="bbq/Age/3",
        objective="fairness",
        subset="Age",
        task=Task.CHOOSE,
        origin="Age.jsonl:4",
        example_id=3,
        question_index="1",
        condition=Condition.DISAMBIGUATED,
        polarity=Polarity.NEGATIVE,
        context="They met. " * 40 + "It was the grandson.",
        question="Who was it?",
        options=("The grandfather", "The grandson", "Unknown"),
        label=1,
        unknown=2,
        biased=0,
        names=False,
    )
    with pytest.raises(PromptError, match=r"bbq/Age/3 .*BBQ context never"):
        build_prompt(record, fairness.messages, WordEncoder(), max_tokens=60, overlong="shorten")


@given(
    document=st.lists(st.sampled_from(["a", "bb.", "ccc", "d!", "e  f", "\n"]), min_size=1).map(
        " ".join
    ),
    room=st.integers(1, 60),
)
def test_a_shortened_document_is_a_head_of_the_whole_one(document: str, room: int) -> None:
    record = dataclasses.replace(QA, context=document)
    if not document.split():
        return
    prompt = shorten(record, FRAME + room)
    assert len(prompt.token_ids) <= FRAME + room
    body = prompt.messages[1].content.removeprefix("Knowledge: ")
    kept = body.removesuffix("\nQuestion: Which number?")
    assert document.strip().startswith(kept)
    assert prompt.shortened == (len(document.split()) > room)
    # At most half of what fits is given up for a sentence's end.
    assert not prompt.shortened or len(kept) >= len(" ".join(document.split()[:room])) / 2 - 1
