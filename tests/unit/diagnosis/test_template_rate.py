"""The template rate of algorithms.md, 9.1: names, digits and options masked, eight words."""

import pytest

from grpo_dual.diagnosis.template import mask_words, template_rate
from grpo_dual.metrics.values import Fraction
from grpo_dual.records import synthetic
from grpo_dual.types import HaluEvalRecord, Record, Task
from made_records import bbq_record, halueval_record

BBQ = bbq_record(
    context="On Monday janitor Dorvin and lawyer Kelsin were at the office.",
    question="Who was accused by the guard?",
    options=("janitor Dorvin", "Not enough information", "lawyer Kelsin"),
    label=1,
    unknown=1,
)


def qa(key: str, context: str) -> HaluEvalRecord:
    return halueval_record(
        record_id=key,
        context=context,
        query="What was visited by Mal?",
        accepted=None,
        rejected=None,
    )


def test_persons_and_names_are_masked_and_the_unknown_option_and_function_words_are_not():
    # "On" and "Who" are function words; "office" has no capital and is no option.
    assert mask_words(BBQ) == {"janitor", "dorvin", "lawyer", "kelsin", "monday"}
    assert mask_words(qa("1", "The mayor saw Anna in 1890.")) == {"anna", "mal"}
    plain = Record(record_id="x", objective="x", subset="x", task=Task.ANSWER, origin="here")
    assert mask_words(plain) == frozenset()


def test_starts_that_differ_in_names_and_digits_alone_are_one():
    records = [qa("1", "Anna Berg came."), qa("2", "Zed came."), qa("3", "Kim came.")]
    texts = ["Anna Berg was there in 1890.", "Zed was there in 7", "Nobody was there, it says."]
    # "_ was there in 0" twice: runs of masked words are one. The third is its own.
    assert template_rate(texts, records) == Fraction(2, 3)


def test_bare_answers_are_compared_in_their_own_words():
    # All would be "_"; answering with the right name alone is no template.
    records = [qa("1", "Anna came."), qa("2", "Zed came."), qa("3", "Kim came.")]
    assert template_rate(["Anna.", "Zed", "Kim"], records) == Fraction(0, 3)


def test_one_filler_for_all_is_a_template_though_items_differ():
    records = list(synthetic.halueval_records("test", "qa", 8, 0))
    filler = "The context does not provide sufficient information to answer this question."
    texts = [filler] * 6 + [records[6].accepted or "", records[7].accepted or ""]
    assert template_rate(texts, records) == Fraction(6, 8)


def test_right_answers_of_the_embedded_world_are_hardly_one():
    # They differ in verb, of which there are 24: no start has more than a few of 64.
    records = list(synthetic.halueval_records("test", "qa", 64, 0))
    share = template_rate([r.accepted or "" for r in records], records).value
    assert share is not None
    assert share <= 0.15


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="zip"):
        template_rate(["a"], [])
