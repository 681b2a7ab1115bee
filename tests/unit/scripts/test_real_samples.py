"""The samples that the small real-data model is pretrained on: what is asked can be looked up."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

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
