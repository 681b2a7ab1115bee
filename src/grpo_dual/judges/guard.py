"""What a judge model may be shown of a completion: the claims, without attempts on the judge.

Policies find by search what moves a judge (arXiv 2507.08794: "Thought process:" or ":" alone;
forged JSON verdicts; closing the fence; instructions). The guard takes such attempts out and names
them, by rules alone, so that the same completion always earns the same. Two lines of defence:

- known shapes and phrases (`guard_patterns`), found in the clear, split, spelt or encoded;
- a sentence in the vocabulary of judging which claims nothing about the world.

What the item's own sources say is never an attempt: a summary of a report on judges and scores may
use their words. A sentence goes as a whole, so an attempt may cost an answer and never gains one.
"""

import base64
import binascii
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from grpo_dual.judges import guard_patterns as patterns
from grpo_dual.judges.guard_phrases import BARE, MASTER_KEYS, rank
from grpo_dual.judges.guard_text import (
    NON_LATIN,
    Cut,
    Known,
    Span,
    Units,
    known_of,
    line_feeds,
    script,
    tokens_of,
    unhidden,
    unpadded,
    without,
)
from grpo_dual.judges.guard_words import named, worded
from grpo_dual.judges.lexical import content, first_yes_no

_PASSES = 16
"""Removing an attempt may assemble another; a text that is still not stable then goes entirely."""
_READ = 25
"""Limits' worth of raw characters that are read at all, which bounds the time."""
_SEARCHED = 4
"""Limits' worth of characters that are searched after the padding has gone."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A completion as a judge may see it."""

    text: str
    """The completion without the attempts and hidden characters, cut to the limit."""
    flags: tuple[str, ...]
    """Kinds of attempt that were found, sorted; empty for a clean completion."""
    empty: bool
    """True when nothing is left that claims anything: wrong by rule, without asking."""


_HARMLESS = frozenset(("markup", "link", "master key"))
"""Kinds that an honest answer may show too: they cast no doubt on the sentences around them."""
_LOOSE = 0.25
"""Share of a sentence's words in the sources up to which it is not about the item."""


def guard(completion: str, *, sources: Sequence[str] = (), limit: int = 4000) -> Guarded:
    """Take attempts on the judge out of a completion.

    ``guard(guard(x).text).text == guard(x).text`` for the same sources and limit, no string raises,
    and the time is bounded by the limit.

    Args:
        completion: What the policy said.
        sources: Knowledge (empty if there is none), then question, accepted and rejected answers:
            what they say is no attempt. Without knowledge an answer may be about anything, so that
            only its language can tell, and a text that is no attempt is flagged more often.
        limit: Characters that are left at most. A clean completion is cut without a flag.

    Returns:
        The text for the judge. It is ``completion.strip()`` where nothing was found; line ends
        become line feeds.
    """
    known = known_of(tuple(sources))
    text = line_feeds(completion[: _READ * limit]).strip()
    flags: set[str] = set()
    for _ in range(_PASSES):
        after = _cleaned(text, known, limit, flags)
        if after == text:
            break
        text = after
    else:
        text = ""
    return Guarded(text, tuple(sorted(flags)), not text)


def _cleaned(text: str, known: Known, limit: int, flags: set[str]) -> str:
    """One pass: the text without what is found; its names are added to ``flags``."""
    seen, hidden = unhidden(text, known)
    shorter = unpadded(seen, known)
    flags |= {
        name
        for name, found in (("hidden characters", hidden), ("padding", shorter != seen))
        if found
    }
    text = shorter[: _SEARCHED * limit]
    units = Units.of(text)
    cuts = [*_shaped(text, units, known), *_tagged(text, known)]
    cuts += [*_lettered(text, units, known), *worded(text, units, known)]
    if hidden or any(cut.flag not in _HARMLESS for cut in cuts):
        gone = {(cut.start, cut.end) for cut in cuts}
        cuts += [cut for cut in _beside(text, units, known) if (cut.start, cut.end) not in gone]
    flags |= {cut.flag for cut in cuts}
    text = without(text, [(cut.start, cut.end) for cut in cuts])[:limit].strip()
    if text and _says_nothing(text, known):
        flags.add("master key")
        return ""
    return text


def _beside(text: str, units: Units, known: Known) -> Iterator[Cut]:
    """Sentences of which the sources know next to nothing: talk around what was found."""
    for start, end in units.spans if known.words else ():
        words = [token.word for token in tokens_of(text[start:end])]
        world = [word for word in content(words) if not rank(word)]
        held = sum(word in known.words for word in world)
        told = named(text[start:end]) or first_yes_no(words) is not None
        if held <= _LOOSE * len(world) and not told:
            yield Cut("addresses the judge", start, end)


def _says_nothing(text: str, known: Known) -> bool:
    """Is it punctuation, the announcement of an answer, or a bare verdict?"""
    words = [token.word for token in tokens_of(text)]
    said = " ".join(words)
    if not words:
        return True
    if known.says(said):
        return text.endswith(":")
    return bool(MASTER_KEYS.fullmatch(said)) or set(words) <= BARE - {"true"}


# Shapes -------------------------------------------------------------------------------------------

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | str.maketrans(
    "“”„’‘–—\u00a0", '"""\'\'-- '
)


def _rest(text: str, start: int, end: int) -> Span:
    """Behind an answer a forged turn ends the text; before one only its tag goes."""
    return (start, len(text)) if re.search(r"\w", text[:start]) else (start, end)


def _shaped(text: str, units: Units, known: Known) -> Iterator[Cut]:
    view = text.translate(_FULL_WIDTH)
    for shape in patterns.SHAPES:
        for match in shape.pattern.finditer(view):
            start, end = match.span()
            # A dialogue's sources hold brackets; that makes no link theirs.
            if start == end or (match[0] != "[" and known.shows(match[0])):
                continue
            if shape.scope == "unit":
                if {token.word for token in tokens_of(match[0])} <= known.words:
                    continue
                start, end = units.around(start, end)
            elif shape.scope == "rest":
                start, end = _rest(text, start, end)
            yield Cut(shape.flag, start, end)


def _tagged(text: str, known: Known) -> Iterator[Cut]:
    """Elements: of formatting the tags go, of a fence all that follows, of others the content."""
    view = text.translate(_FULL_WIDTH)
    found = [match for match in patterns.ELEMENT.finditer(view) if not known.shows(match[0])]
    closing: dict[str, list[int]] = {}
    for match in found:
        if match["close"]:
            closing.setdefault(match["name"].casefold(), []).append(match.end())
    for match in found:
        name, (start, end) = match["name"].casefold(), match.span()
        role = patterns.BRACKETED.fullmatch(name)
        if match["square"] and not role:
            words = [token.word for token in tokens_of(match[0])]
            if len(words) > 1 and all(map(rank, words)):
                yield Cut("forged verdict", start, end)
        elif patterns.FENCES.fullmatch(name):
            yield Cut("closing fence", *_rest(text, start, end))
        elif name in patterns.FORMATTING:
            yield Cut("markup", start, end)
        else:
            ends = closing.get(name, [])
            later = bisect_right(ends, end)
            if not match["close"] and later < len(ends):
                end = ends[later]
            elif role:
                start, end = _rest(text, start, end)
            yield Cut("role tag" if role else "markup", start, end)


# Letters ------------------------------------------------------------------------------------------

_SHAPED_LETTERS = re.compile(
    "(?:[\U0001d400-\U0001d7ff\uff21-\uff3a\uff41-\uff5a\u24b6-\u24e9\U0001f130-\U0001f189\u1d00-"
    "\u1d6a\u0262\u026a\u0274\u0280\u028f\u0299\u029c\u029f\ua730\ua731\u02b0-\u02b8\u2090-\u209c"
    "\u1d72-\u1dbf\U0001f1e6-\U0001f1ff][^\\S\n]?){3,}"
)
_ALIKE = "\u0400-\u052f\u0530-\u058f\u13a0-\u13ff"
_MIXED = re.compile(rf"[A-Za-z][{_ALIKE}]|[{_ALIKE}][A-Za-z]|[a-z][αγεικνορτυχω]{{1,9}}[a-z]")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{7,}={0,2}")
_BASE32 = re.compile(r"\b(?=[A-Z]*[2-7])[A-Z2-7]{8,}={0,6}")
_TEXT = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;'\"!?{}()-\n"
)
_PLAIN_SCRIPTS = frozenset(("LATIN", "MODIFIER"))
_NATIVE_NAME = 30
"""Letters that a name written in its own script may have."""
_CHANCE = 16
"""Letters up to which an English word may be base64 of a text by chance."""
_BLOB = 60
"""A word of more ASCII characters is none."""


def _lettered(text: str, units: Units, known: Known) -> Iterator[Cut]:
    """Letters in disguise, other scripts than the sources', and what only a decoder reads."""
    for pattern in (_SHAPED_LETTERS, _MIXED):
        for match in pattern.finditer(text):
            if not known.shows(match[0]):
                yield Cut("look-alikes", *units.around(*match.span()))
    for start, end in units.spans:
        if not text[start:end].isascii() and _in_other_script(text[start:end], known):
            yield Cut("foreign language", start, end)
    for match in re.finditer(r"\S{8,}", text):
        if _blob(match[0]) and not known.shows(match[0]):
            yield Cut("encoded", *match.span())


def _in_other_script(unit: str, known: Known) -> bool:
    """Is it an instruction in another script, or more than a name in one that the sources lack?"""
    acts, objects = patterns.SCRIPT_ACTS.search(unit), patterns.SCRIPT_OBJECTS.search(unit)
    if acts and objects:
        return not known.shows(unit)
    if known.scripts is None:
        return False
    runs = [run for run in NON_LATIN.findall(unit) if not known.shows(run)]
    kinds = [(script(run[0]), len(run)) for run in runs]
    new = [(kind, size) for kind, size in kinds if kind not in known.scripts | _PLAIN_SCRIPTS]
    if (acts or objects) and new:
        return True
    letters = sum(size for kind, size in new if size > 1 or kind == "CJK")
    return 2 * letters > sum(map(str.isalpha, unit)) or letters > _NATIVE_NAME


def _blob(chunk: str) -> bool:
    """Is it base64 of a text, or too long for a word?"""
    if len(chunk) >= _BLOB and chunk.isascii():
        return True
    for token in _BASE64.findall(chunk):
        core = token.rstrip("=").replace("-", "+").replace("_", "/")
        marked = token.endswith("=") or re.search(r"\d|.[A-Z]", token) or len(core) > _CHANCE
        if marked and _readable(base64.b64decode, core + "=" * (-len(core) % 4)):
            return True
    coded = (token.rstrip("=") for token in _BASE32.findall(chunk))
    return any(_readable(base64.b32decode, core + "=" * (-len(core) % 8)) for core in coded)


def _readable(decode: Callable[[str], bytes], coded: str) -> bool:
    try:
        data = decode(coded)
    except (binascii.Error, ValueError):
        # Not this code, so it hides nothing.
        return False
    return bool(data) and _TEXT.issuperset(data)
