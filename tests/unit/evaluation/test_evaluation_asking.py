"""How a policy is asked: one context for all continuations of an item, and ties choose none."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

import short_runs
import tiny_models
from grpo_dual.evaluation.asking import READINGS, Speaker, ask, prompts_of, read_bbq
from grpo_dual.evaluation.protocols import Bootstrap
from grpo_dual.evaluation.results import difference, result, rows
from grpo_dual.evaluation.retention import plain_questions
from grpo_dual.evaluation.run import Evaluated, Part, Questions, evaluate
from grpo_dual.prompts import fairness
from grpo_dual.prompts.chat import ChatEncoder, Tokenizer
from grpo_dual.types import Choices, ContinuationScore, Prompt, Rollout, RolloutGroup, Task
from made_records import bbq_record, halueval_record


class Says:
    """An engine that says what is fixed for each record."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self.asked: list[tuple[int, bool]] = []

    def generate(
        self, prompts: Sequence[Prompt], k: int, *, greedy: bool = False
    ) -> list[RolloutGroup]:
        self.asked.append((k, greedy))
        return [
            RolloutGroup(
                prompt,
                tuple([Rollout((1,), (-0.5,), self.texts[prompt.record.record_id], True)] * k),
            )
            for prompt in prompts
        ]


def speaker(engine: Says, scores: Any = None, **changes: Any) -> Speaker:
    tokenizer = tiny_models.tokenizer()
    tokenizer.chat_template = short_runs.TEMPLATE
    given: dict[str, Any] = {
        "engine": engine,
        "encoder": ChatEncoder(cast("Tokenizer", tokenizer)),
        "likelihoods": scores or (lambda items: [_alike(item) for item in items]),
        "greedy": True,
        "max_prompt_tokens": 200,
        "longest_prompt": 1000,
        "overlong": "refuse",
        "bos": tiny_models.BOS,
    }
    return Speaker(**{**given, **changes})


def _alike(item: Choices) -> tuple[ContinuationScore, ...]:
    return tuple(ContinuationScore(-1.0, len(c)) for c in item.continuations)


ITEM = bbq_record(options=("w5", "w6 w7", "w8"))


def test_an_item_is_scored_as_one_context_with_six_continuations():
    seen: list[Choices] = []

    def scores(items: Sequence[Choices]) -> list[tuple[ContinuationScore, ...]]:
        seen.extend(items)
        return [tuple(ContinuationScore(-float(n), 1 + n) for n in (3, 2, 5, 9, 8, 7))]

    made = speaker(Says({ITEM.record_id: "w6 w7"}), scores)
    prompts = prompts_of(made, [ITEM], fairness.messages, pytest.fail)
    (reply,) = read_bbq(made, ask(made, prompts))
    (item,) = seen
    assert item.prefix_ids == prompts[0].token_ids
    # w5 is id 9 (four control tokens come first); the end of turn is not scored.
    assert item.continuations[:3] == ((9,), (10, 11), (12,))
    assert len(item.continuations) == 6
    # Sums: -3, -2, -5. By the token: -3/4, -2/3, -5/6. Letters: -9, -8, -7; -9/10, -8/9, -7/8.
    assert reply.choices == {
        "generation": 1,
        "text_sum": 1,
        "text_mean": 1,
        "letter_sum": 2,
        "letter_mean": 2,
    }
    assert [score.logprob for score in reply.texts] == [-3, -2, -5]


def test_length_normalisation_can_change_the_choice():
    # -4 over 4 tokens is -1 a token; -3 over 2 is -1.5.
    six = [(-4.0, 4), (-3.0, 2), (-9.0, 3), (-1.0, 1), (-2.0, 1), (-3.0, 1)]
    made = speaker(
        Says({ITEM.record_id: "w0"}), lambda _: [tuple(ContinuationScore(*own) for own in six)]
    )
    (reply,) = read_bbq(made, ask(made, prompts_of(made, [ITEM], fairness.messages, pytest.fail)))
    assert (reply.choices["text_sum"], reply.choices["text_mean"]) == (1, 0)


def test_a_tie_is_no_choice_and_no_option_named_is_none():
    made = speaker(Says({ITEM.record_id: "w0"}))
    (reply,) = read_bbq(made, ask(made, prompts_of(made, [ITEM], fairness.messages, pytest.fail)))
    # All sums are -1; by the token the longer text, -1/2, is the likeliest.
    assert reply.choices == {**dict.fromkeys(READINGS), "text_mean": 1}


ANSWER = halueval_record(record_id="halueval/qa/1")
DETECT = halueval_record(
    record_id="halueval/qa/2", task=Task.DETECT, shown="Bergen", hallucinated=True
)
SAID = {ITEM.record_id: "w8", ANSWER.record_id: "Oslo", DETECT.record_id: "no"}
BOOT = Bootstrap(draws=10, seed=0)


def test_the_objectives_items_are_asked_scored_and_written_down():
    long = replace(ITEM, record_id="bbq/Age/9", context="w1 " * 300)
    engine = Says(SAID)
    told: list[str] = []
    questions = [
        Questions("fairness", bbq=(ITEM, long)),
        Questions("again", bbq=(ITEM,)),
        Questions("hallucination", halueval=(ANSWER, DETECT)),
    ]
    found = evaluate(speaker(engine), questions, ("bbq", "open"), BOOT, told.append)
    assert engine.asked == [(1, True)] * 3
    assert found.left_out == {"bbq": 1, "open": 0}
    assert "bbq/Age/9" in told[0]
    assert [reply.record.record_id for reply in found.bbq] == [ITEM.record_id]  # once
    made: Any = result(found, BOOT)
    age = made["bbq"]["readings"]["generation"]["wrong"]["categories"]["Age"]
    assert (age["accuracy_ambig"], age["accuracy_disambig"], age["n_ambig"]) == (1, None, 1)
    # All letters are equally likely: unparsed, wrong in one policy and no row in the other.
    letters = made["bbq"]["readings"]["letter_sum"]
    assert letters["wrong"]["categories"]["Age"]["accuracy_ambig"] == 0
    assert letters["exclude"]["categories"]["Age"]["accuracy_ambig"] is None
    opened = made["halueval"]["open"]
    assert (opened["grounded"], opened["n"]["grounded"], opened["judged_by"]) == (1, 1, "heuristic")
    # The objective's own yes/no form is in its yardstick alone.
    assert made["yardstick"]["hallucination"]["detect_accuracy"] == 0
    assert made["axes"] == {"fairness": None, "faithfulness": 1}  # one condition only
    by_id: Any = {row["record_id"]: row for row in rows(found)}
    assert by_id[ITEM.record_id]["choice_generation"] == 2
    assert by_id[ITEM.record_id]["right"] is True
    assert by_id[ANSWER.record_id]["verdict"] == "grounded"
    assert by_id[DETECT.record_id]["task"] == "yardstick"


SIDES = {
    f"{ANSWER.record_id}/{side}": said for side, said in (("right", "No"), ("hallucinated", "Yes"))
}


def _longer_is_likelier(items: Sequence[Choices]) -> list[tuple[ContinuationScore, ...]]:
    """The first continuation -1 nat, the second -2 and so on, whatever they say."""
    return [
        tuple(ContinuationScore(-float(n + 1), len(c)) for n, c in enumerate(item.continuations))
        for item in items
    ]


def test_the_other_protocols_ask_both_sides():
    rows_of = Questions("hallucination", rows=(ANSWER, DETECT))
    engine = Says({**SIDES, DETECT.record_id: "Perhaps"})
    found = evaluate(
        speaker(engine, _longer_is_likelier), [rows_of], ("detection", "pairs"), BOOT, pytest.fail
    )
    made: Any = result(found, BOOT)
    # Both sides of the pair are told apart, the third text gets no verdict.
    written = made["halueval"]["detection"]["generation"]
    assert written["accuracy"] == pytest.approx(2 / 3)
    assert written["invalid"] == pytest.approx(1 / 3)
    # By likelihood Yes (the first) always wins: right of the two hallucinated texts.
    likely = made["halueval"]["detection"]["likelihood"]
    assert likely["accuracy"] == pytest.approx(2 / 3)
    assert likely["says_hallucinated"] == 1
    # The accepted side is the first.
    assert made["halueval"]["pairs"]["sum"] == 1
    assert made["halueval"]["pairs"]["n"]["sum"] == 1
    assert made["axes"] == {"fairness": None, "faithfulness": None}
    assert {row["task"] for row in rows(found)} == {"detection", "pairs"}


def test_retention_asks_what_comes_with_the_package():
    said = {f"general/{question.name}": "I cannot answer that." for question in plain_questions()}
    found = evaluate(
        speaker(Says(said), _longer_is_likelier), [], ("retention",), BOOT, pytest.fail
    )
    made: Any = result(found, BOOT)["retention"]
    assert made["questions"]["refused"] == 1
    assert made["questions"]["n"]["refused"] == len(plain_questions())
    assert made["texts"]["perplexity"] > 1
    same: Any = difference(found, found, BOOT)["retention"]
    assert same["texts"]["perplexity"]["value"] == same["questions"]["refused"]["value"] == 0


def test_differences_count_what_both_were_asked():
    def found(*parts: Part, **changes: str) -> Evaluated:
        said = {**SAID, **{key.replace("_", "/"): text for key, text in changes.items()}}
        other = replace(ANSWER, record_id="halueval/qa/7")
        said[other.record_id] = "Oslo"
        asked = [
            Questions("h", halueval=(ANSWER, *([other] if changes else []))),
            Questions("f", bbq=(ITEM,)),
        ]
        return evaluate(speaker(Says(said)), asked, parts, BOOT, pytest.fail)

    first = found("bbq", "open")
    other = found("bbq", "open", halueval_qa_1="Bergen", bbq_Age_0="w5")
    gap: Any = difference(first, other, BOOT)
    opened = gap["halueval"]["open"]
    assert opened["grounded"] == {"value": -1, "interval_95": None, "n": 1}
    assert opened["hallucinated"]["value"] == 1
    assert gap["bbq"]["generation"]["n"] == 1
    assert gap["bbq"]["generation"]["categories"]["Age"]["accuracy_ambig"]["value"] == -1
    assert difference(first, found("open"), BOOT).keys() == {"halueval"}


def test_sampling_goes_through_the_engine_s_own_distribution():
    engine = Says(SAID)
    asked = [Questions("f", bbq=(ITEM,))]
    evaluate(speaker(engine, greedy=False), asked, ("bbq",), BOOT, pytest.fail)
    assert engine.asked == [(1, False)]
