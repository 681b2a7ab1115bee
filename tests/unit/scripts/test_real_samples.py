"""The samples that the small real-data model is pretrained on: what is asked can be looked up."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from grpo_dual.records import synthetic
from grpo_dual.types import HaluEvalRecord, Task

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
KNOWLEDGE = (
    "Marnie is a 1964 American thriller film directed by Alfred Hitchcock. The screenplay by Jay "
    "Presson Allen was based on a novel published in 1961 by Winston Graham. Jay Presson Allen was "
    "born in Texas. Marnie stars the actress Tippi Hedren, featuring Diane Baker."
)
RECORD = HaluEvalRecord(
    record_id="halueval/qa/0",
    objective="hallucination",
    subset="qa",
    task=Task.ANSWER,
    origin="qa_data.json:1",
    context=KNOWLEDGE,
    query="Who directed the thriller that Jay Presson Allen wrote?",
    accepted="Alfred Hitchcock",
    rejected="It was directed by Winston Graham.",
)


@pytest.fixture(scope="module")
def made() -> Iterator[ModuleType]:
    sys.path.insert(0, str(SCRIPTS))
    import real_samples

    yield real_samples
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def sources(made: ModuleType) -> object:
    return made.gathered([], [RECORD], ["The Danube is a river of Europe. It passes Vienna."])


def test_a_word_becomes_the_same_word_wherever_it_stands(made: ModuleType, sources: object) -> None:
    change = made.substitution(random.Random(1), sources, names=1.0, words=1.0)
    first, second = change(KNOWLEDGE), change("Jay Presson Allen was born in Texas.")
    assert second in first
    assert first != KNOWLEDGE


def test_numbers_keep_their_length(made: ModuleType, sources: object) -> None:
    change = made.substitution(random.Random(1), sources, names=1.0, words=0.0)
    numbers = [w.strip(".") for w in change("From 1964 to 1961.").split() if w[0].isdigit()]
    assert [len(n) for n in numbers] == [4, 4]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_asked_stands_in_the_knowledge(
    made: ModuleType, sources: object, seed: int
) -> None:
    rng = random.Random(seed)
    for make in (made.span, made.fact):
        asked = make(rng, RECORD, sources)
        assert asked is not None
        changed = made.scrambled(rng, asked, sources, (0.0, 0.8))
        for record in (asked, changed):
            assert record.accepted.rstrip(".") in record.context
            assert record.query.endswith("?")


def test_facts_are_asked_in_a_questions_words(made: ModuleType, sources: object) -> None:
    rng = random.Random(0)
    queries = {made.fact(rng, RECORD, sources).query for _ in range(200)}
    assert {"Who directed Marnie?", "In what year was Marnie released?"} <= queries
    assert any("the 1964 American thriller film" in q for q in queries)


def test_an_answer_is_exchanged_in_knowledge_and_reply(made: ModuleType, sources: object) -> None:
    rng = random.Random(3)
    found = {made.exchanged(rng, RECORD, sources) for _ in range(50)}
    for record in found:
        assert record.accepted in record.context
    assert len({r.accepted for r in found}) > 3


def test_a_reworded_item_can_be_looked_up_and_keeps_its_unknown_option(
    made: ModuleType, sources: object
) -> None:
    (record, *_) = synthetic.bbq_records("train", 1, 0)
    told = next(r for r in synthetic.bbq_records("train", 4, 0) if r.condition.value == "disambig")
    compared = 0
    for item in (record, told):
        changed = made.reworded(random.Random(2), item, sources, 1.0)
        assert changed.options[item.unknown] == item.options[item.unknown]
        assert (changed.label, changed.unknown) == (item.label, item.unknown)
        assert changed.context != item.context
        # What stood in the context as in an option or the question still does.
        for old, new in (
            (item.question, changed.question),
            *zip(item.options, changed.options, strict=True),
        ):
            shared = [
                w in changed.context
                for w, was in zip(new.split(), old.split(), strict=True)
                if was in item.context
            ]
            assert all(shared)
            compared += len(shared)
    assert compared > 10


@pytest.mark.parametrize(
    ("before", "span", "words"),
    [
        (["born", "in"], "1964", {"when", "what year"}),
        (["has"], "1,250", {"how many"}),
        (["born", "in"], "Texas", {"where"}),
        (["directed", "by"], "Jay Allen", {"who", "whom"}),
        (["called"], "Marnie", {"what", "which"}),
    ],
)
def test_a_question_word_asks_for_what_the_span_is(
    made: ModuleType, before: list[str], span: str, words: set[str]
) -> None:
    """Four draws in five; the fifth may be any."""
    drawn = [made._question_words(random.Random(n), before, span) for n in range(100)]
    fitting = [own for own in drawn if own != made._ANY]
    assert 70 <= len(fitting) <= 90
    assert all(words <= set(own) for own in fitting)


def test_other_numbers_keep_their_form(made: ModuleType) -> None:
    for text in ("7", "1964", "1,250", "19 January 1990"):
        other = made.other_number(random.Random(1), text)
        assert [c.isdigit() for c in other] == [c.isdigit() for c in text]
        assert other[0] != "0"


def test_the_right_reply_of_a_row_is_its_gold(made: ModuleType) -> None:
    prompt, reply = made.right(RECORD)
    assert (KNOWLEDGE in prompt, reply) == (True, "Alfred Hitchcock")
    (item, *_) = synthetic.bbq_records("train", 1, 0)
    assert made.right(item)[1] == item.options[item.label]
