"""The contrastive part of an answer's score: nearer to the accepted text or to the rejected one?"""

from collections.abc import Callable
from dataclasses import replace

from grpo_dual.judges.lexical import content, first_yes_no, token_f1, words
from grpo_dual.rewards.compose import Outcome
from grpo_dual.types import HaluEvalRecord, Task

PART = "contrast"
DECLINED = frozenset({"evades", "abstains"})
"""Verdicts of completions that name neither side, whatever words they share with one."""


def contrast(text: str, accepted: str, rejected: str, query: str, *, weight: float) -> float:
    """``weight (F1(y, y+) - F1(y, y-))`` over words, clipped to [-1, 1].

    Words are the content words that the query lacks: hallucinated answers repeat the question, so a
    completion that restates it would else lose to one that says nothing. Where the query has all
    words of a side ("A or B?") its words count; where the accepted text begins with yes or no, the
    first yes or no of each text is all that counts. A completion that holds no word by which the
    sides differ names neither and gets 0; where the accepted side has no word of its own, all of
    its words name it.

    It counts words and reads nothing: ``not Delft`` is as near to ``Delft`` as ``Delft`` is, roles
    may be swapped, a paraphrase without common words gets 0, and nearness to the accepted wording
    is rewarded as such.

    Args:
        text: The completion y.
        accepted: y+.
        rejected: y-.
        query: The question, or the dialogue so far; empty for a summary.
        weight: Of the part.

    Returns:
        A number in [-1, 1]; ``weight`` for the accepted text where the sides share no word.
    """
    read = _reader(accepted, rejected, query)
    said, right, wrong = read(text), read(accepted), read(rejected)
    own = set(right) - set(wrong) or set(right)
    if not set(said) & (own | (set(wrong) - set(right))):
        return 0.0
    value = weight * (token_f1(said, right) - token_f1(said, wrong))
    return max(-1.0, min(1.0, value))


def _reader(accepted: str, rejected: str, query: str) -> Callable[[str], list[str]]:
    """What of a text is compared."""
    if first_yes_no(words(accepted)[:1]):
        return _yes_or_no
    asked = frozenset(words(query))

    def new(text: str) -> list[str]:
        return [word for word in _claimed(text) if word not in asked]

    return new if new(accepted) and new(rejected) else _claimed


def _claimed(text: str) -> list[str]:
    """Content words; all words of a text without any (``The Who``)."""
    spoken = words(text)
    return content(spoken) or spoken


def _yes_or_no(text: str) -> list[str]:
    said = first_yes_no(words(text))
    return [said] if said else []


def contrasted(record: HaluEvalRecord, text: str, outcome: Outcome, *, weight: float) -> Outcome:
    """The outcome with its part ``contrast``, where the item has one.

    Args:
        record: The item.
        text: The completion.
        outcome: What the task made of it.
        weight: Of the part; 0 adds none.

    Returns:
        As it was for detection, for an item without both sides and for a completion that could not
        be judged; with a part of 0 for one that declines.
    """
    if not weight or record.task is Task.DETECT or outcome.value is None:
        return outcome
    if record.accepted is None or record.rejected is None:
        return outcome
    value = 0.0
    if outcome.verdict not in DECLINED:
        value = contrast(text, record.accepted, record.rejected, record.query, weight=weight)
    return replace(outcome, parts={**outcome.parts, PART: value})
