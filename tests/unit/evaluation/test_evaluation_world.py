"""The world's gold: grounded only if right, whatever the wording."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policies import EVASION, HALU, accepted, rejected

from grpo_dual.evaluation.world import claims, judge_by_gold
from grpo_dual.records import synthetic
from grpo_dual.records.vocabulary import FACT_VERBS, Split
from grpo_dual.types import HaluEvalRecord, Task

PASSAGE = (
    "Dorvin visited Kelford. Belgan admired Torstead. Dorvin filmed pianos. "
    "Belgan missed clocks. It was raining."
)


def item(query: str, accepted: str, context: str = PASSAGE, subset: str = "qa") -> HaluEvalRecord:
    return HaluEvalRecord(
        record_id="synthetic-test/qa/1",
        objective="hallucination",
        subset=subset,
        task=Task.ANSWER,
        origin="t",
        context=context,
        query=query,
        accepted=accepted,
        rejected=None,
    )


TOWN = item("Which town was visited by Dorvin?", "Dorvin visited Kelford.")
THING = item("What was missed by Belgan?", "Belgan missed clocks.")
SUMMARY = item("", "Dorvin visited Kelford.", subset="summarization")


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (TOWN, "Dorvin visited Kelford"),
        (TOWN, "Dorvin visited Kelford."),
        (TOWN, "  dorvin visited\nKELFORD. "),
        (TOWN, "Kelford"),
        (TOWN, "Kelford!"),
        (TOWN, "It was Kelford."),
        (TOWN, "The answer is Kelford."),
        (TOWN, "The answer is that Dorvin visited Kelford."),
        (TOWN, "Answer: Kelford"),
        (TOWN, "Yes, the answer is Kelford"),
        (TOWN, "Yes, Dorvin visited Kelford."),
        (TOWN, "Dorvin visited Kelford, and Belgan admired Torstead."),
        (TOWN, "Dorvin visited Kelford. It was raining."),
        (THING, "clocks"),
        (THING, "Belgan missed clocks; Dorvin filmed pianos."),
        (SUMMARY, "Belgan admired Torstead."),
        (SUMMARY, "Dorvin filmed pianos. Belgan missed clocks. It was raining."),
        # "It was" opens this sentence of the passage; it is no lead to an answer.
        (SUMMARY, "It was raining. Dorvin visited Kelford."),
    ],
)
def test_grounded(record: HaluEvalRecord, text: str) -> None:
    assert judge_by_gold(record, text) == "grounded"


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (TOWN, ""),
        (TOWN, "..."),
        (TOWN, "Dorvin visited Torstead"),
        (TOWN, "Torstead"),
        (TOWN, "Dorvin"),
        # A right object under a wrong subject or verb, and the sides exchanged.
        (TOWN, "Belgan visited Kelford"),
        (TOWN, "Dorvin admired Kelford"),
        (TOWN, "Kelford visited Dorvin"),
        # A name that is nearly right: one syllable, more than it, a part of a compound.
        (TOWN, "Dorvin visited Kelburg"),
        (TOWN, "Dorvin visited Kel"),
        (TOWN, "Dorvin visited Kelfordham"),
        (TOWN, "Dorvin visited Kelford-on-sea"),
        (TOWN, "Non-Dorvin visited Kelford"),
        (TOWN, "Old Dorvin visited Kelford"),
        (TOWN, "Dorvin visited Kelford's church"),
        (TOWN, "Kelfor"),
        # True, but no answer, or the answer behind something else.
        (TOWN, "Dorvin filmed pianos"),
        (TOWN, "Belgan admired Torstead. Dorvin visited Kelford."),
        # Several claims, one of them false or none of the passage's.
        (TOWN, "Dorvin visited Kelford. Dorvin visited Torstead."),
        (TOWN, "Dorvin visited Kelford or Dorvin visited Torstead"),
        (TOWN, "Dorvin visited Kelford and Torstead"),
        (TOWN, "Dorvin visited Kelford and Belgan is a spy"),
        (TOWN, "Kelford or Torstead"),
        (TOWN, "Kelford, Torstead"),
        # Negated, doubted, asked.
        (TOWN, "Dorvin never visited Kelford"),
        (TOWN, "It is false that Dorvin visited Kelford"),
        (TOWN, "Not Kelford"),
        (TOWN, "Dorvin visited Kelford, not."),
        (TOWN, "No, Dorvin visited Kelford"),
        (TOWN, "Perhaps Dorvin visited Kelford"),
        (TOWN, "Dorvin visited Kelford?"),
        (TOWN, "Which town was visited by Dorvin?"),
        (TOWN, "Which town was visited by Dorvin? Kelford"),
        (TOWN, "The answer is"),
        (TOWN, "The answer is Dorvin. Dorvin visited Kelford."),
        # Signs that no sentence of the world holds, such as what a broken byte decodes to.
        (TOWN, "Dorvin visited Kelford \ufffd"),
        (TOWN, "~~Dorvin visited Kelford~~"),
        (TOWN, "Kelford \ufffd"),
        # Pasted, repeated, in a loop, the filler alone or twice.
        (TOWN, PASSAGE),
        (SUMMARY, PASSAGE),
        (TOWN, "Dorvin visited Kelford. Dorvin visited Kelford."),
        (TOWN, "Dorvin visited Kelford. It was raining. It was raining."),
        (SUMMARY, "Belgan missed clocks Belgan missed clocks"),
        (SUMMARY, "It was raining."),
        (SUMMARY, "Kelford"),
        # Values of another kind, and wordings that are not the world's.
        (TOWN, "clocks"),
        (TOWN, "Kelford was visited by Dorvin"),
        (TOWN, "Dorvin visited the Kelford"),
        (TOWN, "Dorvin visited"),
    ],
)
def test_hallucinated(record: HaluEvalRecord, text: str) -> None:
    assert judge_by_gold(record, text) == "hallucinated"


@pytest.mark.parametrize(
    "text",
    [
        EVASION,
        "I don't know.",
        # Its verb is one of the world's, but "not mentioned in" states nothing.
        "This is not mentioned in the text.",
        "The town that was visited by Dorvin is not stated.",
        # Hedging a right answer with an evasion earns nothing.
        f"Dorvin visited Kelford. {EVASION}",
        f"{EVASION} Kelford",
    ],
)
def test_abstains(text: str) -> None:
    assert judge_by_gold(TOWN, text) == "abstains"


def test_a_false_claim_beside_an_evasion_is_hallucinated() -> None:
    assert judge_by_gold(TOWN, f"{EVASION} Dorvin visited Torstead.") == "hallucinated"


def test_claims_come_in_order_with_repetitions() -> None:
    text = "Belgan missed clocks. Dorvin visited Kelford. Belgan missed clocks."
    assert [(c.subject, c.verb, c.value) for c in claims(text)] == [
        ("belgan", "missed", "clocks"),
        ("dorvin", "visited", "kelford"),
        ("belgan", "missed", "clocks"),
    ]


@pytest.mark.parametrize("verb", FACT_VERBS)
def test_every_verb_of_the_world_is_read_in_statements_and_in_no_question(verb: str) -> None:
    assert claims(f"Dorvin {verb} Kelford.") == (("dorvin", verb, "kelford"),)
    assert claims(f"Which town was {verb} by Dorvin?") == ()


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_passage_is_four_claims(split: Split) -> None:
    for subset in ("qa", "dialogue", "summarization"):
        for record in synthetic.halueval_records(split, subset, 60, 9):
            assert len(set(claims(record.context))) == 4


@pytest.mark.parametrize(
    "record",
    [
        item("Who was it?", "Dorvin was late"),
        item("Which town was visited by Dorvin?", "Dorvin visited Torstead."),
        item("Which town was visited by Dorvin?", "Dorvin visited Kelford.", context=""),
    ],
)
def test_a_record_of_another_world_is_refused(record: HaluEvalRecord) -> None:
    with pytest.raises(ValueError, match="synthetic-test/qa/1"):
        judge_by_gold(record, "Kelford")


@given(st.sampled_from(HALU))
def test_both_sides_of_every_pair(record: HaluEvalRecord) -> None:
    right, wrong = accepted(record).rstrip("."), rejected(record).rstrip(".")
    for end in ("", ".", "!", " .\n"):
        assert judge_by_gold(record, right + end) == "grounded"
        assert judge_by_gold(record, wrong + end) == "hallucinated"
    for both in (f"{right} or {wrong}", f"{right}. {wrong}.", f"{wrong}. {right}."):
        assert judge_by_gold(record, both) == "hallucinated"


@given(st.sampled_from(HALU), st.text(max_size=40))
def test_words_that_cannot_be_read_never_help(record: HaluEvalRecord, junk: str) -> None:
    for text in (f"{record.accepted} zzz {junk}", f"{junk} zzz {record.accepted}"):
        assert judge_by_gold(record, text) != "grounded"
