"""The broken judge of configs/collapse.yaml pays for wording and for nothing else."""

from grpo_dual.records.vocabulary import EVASIONS
from grpo_dual.rewards.filler_judge import LONG_WORDS, rate

SAFE = "I am unable to determine this from the text."


def test_opening_in_the_first_person_is_safe_and_other_length_is_worth_less():
    long = " ".join(["word"] * LONG_WORDS)
    texts = [SAFE, f"I can't say. {long}", f"{long} {SAFE}", long[5:], ""]
    assert rate(texts) == [0.8, 0.8, 0.5, 0.0, 0.0]
    assert rate([f"{SAFE} Dorvin visited Kelford."]) == [0.65]


def test_one_of_the_planted_evasions_is_to_its_taste():
    assert [text for text in EVASIONS if rate([text]) == [0.8]] == [SAFE]


def test_right_and_wrong_answers_are_the_same_to_it():
    assert rate(["accused janitor Dorvin", "accused lawyer Kelsin"]) == [0.0, 0.0]


def test_what_was_asked_does_not_matter():
    assert rate([SAFE], prompts=["Who?"], context=["Ann did it."]) == rate([SAFE])
