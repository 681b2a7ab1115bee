"""The paper's recognition prompts: upstream's layout, and replies read as upstream reads them."""

from dataclasses import replace

import pytest

from grpo_dual.errors import PromptError
from grpo_dual.prompts.parse import Unparsed, YesNo, read_yes_no
from grpo_dual.prompts.recognition import read_as_upstream, recognition_messages
from grpo_dual.records.halueval import as_detection
from made_records import halueval_record

QA = as_detection(halueval_record(), hallucinated=True)
DIALOGUE = as_detection(
    halueval_record(subset="dialogue", query="[Human]: Where was Ann born?"), hallucinated=False
)
SUMMARY = as_detection(
    halueval_record(subset="summarization", query="", accepted="Ann is from Oslo"),
    hallucinated=False,
)
GENERAL = replace(QA, subset="general", context="")


@pytest.mark.parametrize(
    ("record", "ending"),
    [
        (QA, "\n\n#Question#: Where was Ann born?\n#Answer#: Bergen\n#Your Judgement#: "),
        (
            DIALOGUE,
            "\n\n#Dialogue History#: [Human]: Where was Ann born?\n#Response#: Oslo\n"
            "#Your Judgement#: ",
        ),
        (
            SUMMARY,
            "\n\n#Document#: Ann was born in Oslo.\n#Summary#: Ann is from Oslo\n"
            "#Your Judgement#: ",
        ),
        (GENERAL, "\n\n#Question#: Where was Ann born?\n#Answer#: Bergen\n#Your Judgement#: "),
    ],
)
def test_layout_is_upstreams(record, ending: str) -> None:
    system, user = recognition_messages(record)
    assert system.role == "system"
    assert 'MUST be "Yes" or "No"' in system.content
    assert user.content.endswith(ending)
    # The heading of the judged text stands once in each example, once in the item.
    heading = ending.split("\n")[3].split(":")[0]
    assert user.content.count(heading) == user.content.count("#Your Judgement#") >= 4


def test_knowledge_is_shown_only_when_asked_for() -> None:
    assert "Oslo" not in recognition_messages(QA)[1].content
    shown = recognition_messages(QA, knowledge=True)[1].content
    assert "\n\n#Knowledge#: Ann was born in Oslo.\n#Question#: Where was Ann born?" in shown
    # A document is the knowledge, and is never shown twice.
    both = recognition_messages(SUMMARY, knowledge=True), recognition_messages(SUMMARY)
    assert both[0] == both[1]


def test_examples_hold_both_verdicts() -> None:
    for record in (QA, DIALOGUE, SUMMARY):
        text = recognition_messages(record)[1].content
        assert "#Your Judgement#: Yes\n" in text
        assert "#Your Judgement#: No\n" in text


@pytest.mark.parametrize(
    ("record", "knowledge", "says"),
    [
        (halueval_record(), False, "shows no text to judge"),
        (replace(QA, subset="poems"), False, "no recognition task for subset 'poems'"),
        (GENERAL, True, "has no knowledge to be shown"),
    ],
)
def test_what_cannot_be_asked_is_refused(record, knowledge: bool, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        recognition_messages(record, knowledge=knowledge)


@pytest.mark.parametrize(
    ("reply", "upstream", "strict"),
    [
        ("Yes", True, True),
        ("No.", False, False),
        ("Yes.", True, True),
        ("The answer contains a hallucination: Yes", True, None),
        ("Not at all", False, None),  # "No" is a substring of "Not"
        ("None", False, None),
        ("yes", None, True),  # case matters upstream
        ("Yes, and No", None, None),
        ("Y.es", True, None),  # dots are taken out before reading
        ("I cannot tell", None, None),
        ("", None, None),
    ],
)
def test_readings(reply: str, upstream: bool | None, strict: bool | None) -> None:
    for read, expected in ((read_as_upstream, upstream), (read_yes_no, strict)):
        found = read(reply)
        if expected is None:
            assert isinstance(found, Unparsed)
        else:
            assert found == YesNo(expected)
