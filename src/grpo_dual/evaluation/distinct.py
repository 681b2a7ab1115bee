"""Do completions of different prompts stay different? A collapsed policy says one thing to all."""

import re
import unicodedata
from collections.abc import Sequence


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    return " ".join(re.findall(r"[\w']+", folded))


def distinct_share(texts: Sequence[str], golds: Sequence[str]) -> float | None:
    """Number of distinct completions over the number of distinct gold answers of the same items.

    Case, punctuation and blanks do not make a completion different.

    Args:
        texts: One completion per item.
        golds: The gold answer of each.

    Returns:
        1 when the completions differ as much as the gold answers do; near 0 when all are alike;
        more than 1 when items that share an answer get different ones. None without items.

    Raises:
        ValueError: There are not as many texts as golds.
    """
    if len(texts) != len(golds):
        raise ValueError(f"{len(texts)} texts for {len(golds)} gold answers")
    if not golds:
        return None
    return len({_plain(text) for text in texts}) / len({_plain(gold) for gold in golds})
