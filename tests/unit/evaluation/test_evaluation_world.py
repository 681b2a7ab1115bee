"""The world's gold: grounded only if right, whatever the wording."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policies import EVASION, HALU

from grpo_dual.evaluation.world import claims, judge_by_gold
from grpo_dual.types import HaluEvalRecord, Task


def item(
    query: str, accepted: str, context: str | None = None, subset: str = "qa"
) -> HaluEvalRecord:
    passage = (
        "Nal surveyed the windmill. Nal has donated a goblet. Gar was honoured in Kelton. "
        "Gar insured the greenhouse. It was raining."
    )
    return HaluEvalRecord(
        record_id="synthetic-test/qa/1",
        objective="hallucination",
        subset=subset,
        task=Task.ANSWER,
        origin="t",
        context=passage if context is None else context,
        query=query,
        accepted=accepted,
        rejected=None,
    )


WHO = item("Who surveyed the windmill?", "Nal surveyed the windmill")
THING = item("What has Nal donated?", "Nal has donated a goblet")
PLACE = item("Where was Gar honoured?", "Gar was honoured in Kelton")
SUMMARY = item("", "Nal surveyed the windmill", subset="summarization")


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (WHO, "Nal surveyed the windmill"),
        (WHO, "Nal surveyed the windmill."),
        (WHO, "  nal surveyed\nthe windmill. "),
        (WHO, "Nal"),
        (WHO, "Nal did."),
        (WHO, "It was Nal."),
        (WHO, "The answer is Nal."),
        (WHO, "The answer is that Nal surveyed the windmill."),
        (WHO, "Answer: Nal"),
        (WHO, "Yes, the answer is Nal"),
        (WHO, "Nal surveyed the windmill, and Gar insured the greenhouse."),
        (WHO, "Nal surveyed the windmill. It was raining."),
        (THING, "a goblet"),
        (THING, "goblet"),
        (THING, "Nal has donated an goblet"),
        (PLACE, "In Kelton."),
        (PLACE, "Kelton"),
        (SUMMARY, "Gar was honoured in Kelton"),
        (SUMMARY, "Nal surveyed the windmill. Gar insured the greenhouse. It was raining."),
    ],
)
def test_grounded(record: HaluEvalRecord, text: str) -> None:
    assert judge_by_gold(record, text) == "grounded"


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (WHO, ""),
        (WHO, "..."),
        (WHO, "Gar surveyed the windmill"),
        (WHO, "Gar"),
        (WHO, "Nal surveyed the greenhouse"),
        (WHO, "Nal insured the windmill"),
        # A right value under a wrong subject.
        (THING, "Gar has donated a goblet"),
        (PLACE, "Nal was honoured in Kelton"),
        # True, but no answer, or the answer behind something else.
        (WHO, "Nal has donated a goblet"),
        (WHO, "Gar insured the greenhouse. Nal surveyed the windmill."),
        # Several claims, one of them false or none of the passage's.
        (WHO, "Nal surveyed the windmill. Gar surveyed the windmill."),
        (WHO, "Nal surveyed the windmill or Gar surveyed the windmill"),
        (WHO, "Nal surveyed the windmill and Gar is a spy"),
        (WHO, "Nal or Gar"),
        (WHO, "Nal, Gar"),
        (WHO, "Nal surveyed the windmill keeper"),
        (WHO, "Nal surveyed the windmill-keeper"),
        (WHO, "Old Nal surveyed the windmill"),
        # Negated, doubted, asked.
        (WHO, "Nal never surveyed the windmill"),
        (WHO, "It is false that Nal surveyed the windmill"),
        (WHO, "Not Nal"),
        (WHO, "Nal surveyed the windmill, not."),
        (WHO, "No, Nal surveyed the windmill"),
        (WHO, "Perhaps Nal surveyed the windmill"),
        (WHO, "Nal surveyed the windmill?"),
        (WHO, "Who surveyed the windmill?"),
        (WHO, "The answer is"),
        # Pasted, repeated, in a loop, the filler alone.
        (WHO, WHO.context),
        (SUMMARY, SUMMARY.context),
        (WHO, "Nal surveyed the windmill. Nal surveyed the windmill."),
        (SUMMARY, "Gar was honoured in Kelton Gar was honoured in Kelton"),
        (SUMMARY, "It was raining."),
        (SUMMARY, "Nal"),
        # Values of another kind, and unreadable wording.
        (WHO, "windmill"),
        (THING, "the goblet of Gar"),
        (PLACE, "in Kelburg"),
        (WHO, "The windmill was surveyed by Nal"),
    ],
)
def test_hallucinated(record: HaluEvalRecord, text: str) -> None:
    assert judge_by_gold(record, text) == "hallucinated"


@pytest.mark.parametrize(
    "text",
    [
        EVASION,
        "I don't know.",
        # Hedging a right answer with an evasion earns nothing.
        f"Nal surveyed the windmill. {EVASION}",
        f"{EVASION} Nal",
    ],
)
def test_abstains(text: str) -> None:
    assert judge_by_gold(WHO, text) == "abstains"


def test_a_false_claim_beside_an_evasion_is_hallucinated() -> None:
    assert judge_by_gold(WHO, f"{EVASION} Gar surveyed the windmill.") == "hallucinated"


def test_claims_come_in_order_with_repetitions() -> None:
    text = "Gar insured the greenhouse. Nal has donated a goblet. Gar insured the greenhouse."
    assert [(c.subject, c.verb, c.value) for c in claims(text)] == [
        ("gar", "insured", "greenhouse"),
        ("nal", "donated", "goblet"),
        ("gar", "insured", "greenhouse"),
    ]


@pytest.mark.parametrize(
    "record",
    [
        item("Who was it?", "Nal was late"),
        item("Who surveyed the windmill?", "Gar surveyed the windmill"),
        item("Who surveyed the windmill?", "Nal surveyed the windmill", context=""),
    ],
)
def test_a_record_of_another_world_is_refused(record: HaluEvalRecord) -> None:
    with pytest.raises(ValueError, match="synthetic-test/qa/1"):
        judge_by_gold(record, "Nal")


@given(st.sampled_from(HALU))
def test_both_sides_of_every_pair(record: HaluEvalRecord) -> None:
    assert record.accepted is not None
    assert record.rejected is not None
    for end in ("", "."):
        assert judge_by_gold(record, record.accepted + end) == "grounded"
        assert judge_by_gold(record, record.rejected + end) == "hallucinated"
    assert judge_by_gold(record, f"{record.accepted} or {record.rejected}") == "hallucinated"


@given(st.sampled_from(HALU), st.text(max_size=40))
def test_words_that_cannot_be_read_never_help(record: HaluEvalRecord, junk: str) -> None:
    outcome = judge_by_gold(record, f"{record.accepted} zzz {junk}")
    assert outcome != "grounded"
