"""The yardstick's recogniser of evasive text."""

import pytest

from grpo_dual.evaluation.evasion import PHRASES, is_evasive
from grpo_dual.records.vocabulary import EVASIONS


@pytest.mark.parametrize(
    "phrase",
    [  # the six of the hand-off
        "does not provide sufficient information",
        "cannot be determined",
        "not enough information",
        "insufficient information",
        "unable to determine",
        "context does not",
    ],
)
def test_the_six_phrases(phrase: str) -> None:
    assert phrase in PHRASES
    assert is_evasive(f"I am afraid: {phrase.upper()}.")


@pytest.mark.parametrize(
    "text",
    [
        *EVASIONS,
        "It can't be determined",
        "it can\u2019t be determined",
        "The context doesn't say",
        "I don't know.",
        "There is not  enough\ninformation",
        "That can not be determined",
    ],
)
def test_evasive(text: str) -> None:
    assert is_evasive(text)


@pytest.mark.parametrize(
    "text", ["", "The grandfather", "Pos has restored a hammock", "Fek knows", "sufficient reason"]
)
def test_not_evasive(text: str) -> None:
    assert not is_evasive(text)
