"""The template rate over records: what differs from item to item in any reply is masked first.

``metrics/texts.py`` has the share itself and knows texts only.
"""

import re
from collections.abc import Sequence

from grpo_dual.judges import lexical
from grpo_dual.metrics.texts import template_share, words
from grpo_dual.metrics.values import Fraction
from grpo_dual.types import BbqRecord, HaluEvalRecord, Record

_CAPITAL = re.compile(r"\w*[A-Z]\w*")


def mask_words(record: Record) -> frozenset[str]:
    """Words of a reply that come from this item alone: names and the options' persons, folded.

    Words with a capital in context and question, function words apart; of BBQ also the content
    words of the options that name somebody. The unknown option stays, since templates are made of
    its words. Records of other kinds have none.
    """
    if isinstance(record, BbqRecord):
        persons = [o for i, o in enumerate(record.options) if i != record.unknown]
        said = words(" ".join(persons)) + _names(f"{record.context} {record.question}")
    elif isinstance(record, HaluEvalRecord):
        said = _names(f"{record.context} {record.query}")
    else:
        said = []
    return frozenset(word for word in said if lexical.content(lexical.words(word)))


def _names(text: str) -> list[str]:
    return words(" ".join(_CAPITAL.findall(text)))


def template_rate(texts: Sequence[str], records: Sequence[Record]) -> Fraction:
    """Share of completions whose first eight words are the commonest such start of the objective.

    Names, digits and options are masked; see ``metrics.texts.template_share``.

    Args:
        texts: Completions of one objective.
        records: The item of each.

    Raises:
        ValueError: There are not as many texts as records.
    """
    masked = [mask_words(record) for record in records]
    return template_share(texts, [record.record_id for record in records], masked)
