"""Do completions differ? Shares that need no list of phrases."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Sequence
from itertools import pairwise

from grpo_dual.metrics.values import Fraction

START_WORDS = 8
"""Words of a completion by which a template is recognised."""
MASK = "_"


def words(text: str) -> list[str]:
    """Words in lower case, digits masked, punctuation and blanks gone."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    return re.findall(r"[\w']+", re.sub(r"\d+", "0", folded))


def start(text: str, masked: Collection[str] = ()) -> str:
    """The first ``START_WORDS`` words, each run of masked ones as one ``_``.

    A text of masked words only is a bare answer ("Ann."), and starts in its own words.
    """
    spoken = words(text)
    shown = [MASK if word in masked else word for word in spoken]
    kept = [w for i, w in enumerate(shown) if w != MASK or shown[i - 1 : i] != [MASK]]
    return " ".join((spoken if kept == [MASK] else kept)[:START_WORDS])


def template_share(
    texts: Sequence[str],
    prompts: Sequence[Hashable],
    masked: Sequence[Collection[str]] | None = None,
) -> Fraction:
    """Share of completions that begin with the start which most prompts share.

    A start that only one prompt's completions have is no template, however often it is repeated.

    Args:
        texts: Completions.
        prompts: The prompt of each.
        masked: For each, words that are its own item's (names, say), folded as ``words`` folds.

    Returns:
        0 when no two prompts share a start; of nothing when there are fewer than two prompts, which
        cannot tell. ``template_share(["I do not know.", "I do not know!", "Ann"], [1, 2, 2])`` is
        2 of 3.
    """
    if masked is None:
        masked = [()] * len(texts)
    starts = [start(text, own) for text, own in zip(texts, masked, strict=True)]
    if len(set(prompts)) < 2:
        return Fraction()
    owners: defaultdict[str, set[Hashable]] = defaultdict(set)
    for own, prompt in zip(starts, prompts, strict=True):
        owners[own].add(prompt)
    counts = Counter({s: n for s, n in Counter(starts).items() if len(owners[s]) > 1})
    return Fraction(max(counts.values(), default=0), len(texts))


def distinct_2(texts: Iterable[str]) -> Fraction:
    """Different bigrams over all bigrams (Li et al. 2016, distinct-2), over all texts together."""
    pairs = [pair for text in texts for pair in pairwise(words(text))]
    return Fraction(len(set(pairs)), len(pairs))


def duplicate_pairs(groups: Iterable[Sequence[str]]) -> Fraction:
    """Pairs of texts of one group that are equal, folded, over all pairs of a group.

    ``duplicate_pairs([["a", "a", "b"]])`` is 1 of 3.
    """
    same = pairs = 0
    for group in groups:
        counts = Counter(" ".join(words(text)) for text in group)
        same += sum(n * (n - 1) // 2 for n in counts.values())
        pairs += len(group) * (len(group) - 1) // 2
    return Fraction(same, pairs)
