"""Does a statement stand together in its source, or are its words gathered from several places?

Word support alone cannot tell ``Ann sold the boat`` from the truth when the source says that Ann
sold a house and Bob a boat. A short statement must come from one sentence of the source; a longer
one may draw on more.
"""

import re
from collections.abc import Callable, Collection, Sequence

from grpo_dual.judges.lexical import claims, words

_SPLIT = re.compile(r"(?<=[^\W_A-Z][)\"'\]]|.[^\W_A-Z])[.!?]+[\"')\]]*\s*(?=[A-Z\"'(\[]|$)|\n+")
_SHORT = 4
"""Statements of at most so many known words come from one source sentence."""
_STRICT = 3
"""Power of a short statement's share: of three words one is a third, and it makes all false."""
_WORDS_PER_SOURCE = 3
"""Longer statements of n known words may draw on 1 + n // 3 sentences, as summaries do."""
_PRONOUNS = frozenset({"he", "she", "it", "they", "his", "her", "its", "their", "this", "these"})


def sentences(text: str) -> list[str]:
    """Sentences of a text; HaluEval glues them without a blank, abbreviations may split one."""
    return [part for part in _SPLIT.split(text) if part and part.strip()]


def units(text: str) -> list[frozenset[str]]:
    """Words of each sentence; one that opens with a pronoun goes with the sentence before it."""
    found: list[frozenset[str]] = []
    for sentence in sentences(text):
        spoken = words(sentence)
        if found and spoken and spoken[0] in _PRONOUNS:
            spoken.extend(found[-1])
        found.append(frozenset(spoken))
    return found


def coherence(
    text: str,
    sources: Sequence[Collection[str]],
    claiming: Callable[[list[str]], list[str]] = claims,
) -> float:
    """How well the sentences of ``text`` stand together in few source sentences, word mean.

    A short statement is looked for whole. Of a longer one only words that some source has are
    counted (the others are the matter of support): the share of them that a few sources hold,
    chosen greedily.

    Args:
        text: The completion.
        sources: Words of each source sentence.
        claiming: Picks the words that claim something.

    Returns:
        A share in [0, 1], cubed for a short statement; 1 where nothing is claimed.
    """
    pool = [frozenset(source) for source in sources]
    known = frozenset[str]().union(*pool)
    weight = total = 0.0
    for sentence in sentences(text):
        claim = frozenset(claiming(words(sentence)))
        short = len(claim) <= _SHORT
        if not short:
            claim &= known
        if claim:
            share = _covered(claim, pool, 1 if short else 1 + len(claim) // _WORDS_PER_SOURCE)
            weight += len(claim)
            total += len(claim) * (share**_STRICT if short else share)
    return total / weight if weight else 1.0


def _covered(claim: frozenset[str], pool: Sequence[frozenset[str]], picks: int) -> float:
    """Share of the words that the best so many sources hold."""
    left = claim
    for _ in range(picks if pool else 0):
        left = left - max(pool, key=lambda source: len(left & source))
    return 1 - len(left) / len(claim)
