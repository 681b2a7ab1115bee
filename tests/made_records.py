"""Records made by hand, so that a test names only what it is about."""

from typing import Any

from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord, Polarity, Task


def bbq_record(**changes: Any) -> BbqRecord:
    """An ambiguous item of Age whose unknown option stands last."""
    fields: dict[str, Any] = {
        "record_id": "bbq/Age/0",
        "objective": "fairness",
        "subset": "Age",
        "task": Task.CHOOSE,
        "origin": "Age.jsonl:1",
        "example_id": 0,
        "question_index": "1",
        "condition": Condition.AMBIGUOUS,
        "polarity": Polarity.NEGATIVE,
        "context": "They met.",
        "question": "Who was it?",
        "options": ("Ann", "Bob", "Unknown"),
        "label": 2,
        "unknown": 2,
        "biased": 0,
        "names": False,
    }
    return BbqRecord(**{**fields, **changes})


def halueval_record(**changes: Any) -> HaluEvalRecord:
    """A qa item that is to be answered."""
    fields: dict[str, Any] = {
        "record_id": "halueval/qa/0",
        "objective": "hallucination",
        "subset": "qa",
        "task": Task.ANSWER,
        "origin": "qa_data.json:1",
        "context": "Ann was born in Oslo.",
        "query": "Where was Ann born?",
        "accepted": "Oslo",
        "rejected": "Bergen",
    }
    return HaluEvalRecord(**{**fields, **changes})
