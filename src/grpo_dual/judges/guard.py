"""What a judge model may be shown of a completion: the claims, without attempts on the judge.

Policies find by search what moves a judge (arXiv 2507.08794: "Thought process:" or ":" alone; forged
JSON verdicts; closing the fence; instructions). The guard takes such attempts out and names them,
by rules alone, so that the same completion always earns the same. Two lines of defence:

- known shapes and phrases (`guard_patterns`), found in the clear, split, spelt or encoded;
- a sentence in the vocabulary of judging which claims nothing about the world.

What the item's own sources say is never an attempt: a summary of a report on judges and scores may
use their words. A sentence goes as a whole, so an attempt may cost an answer and never gains one.
"""

import base64
import binascii
import codecs
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from grpo_dual.judges import guard_patterns as patterns
from grpo_dual.judges.guard_patterns import rank
from grpo_dual.judges.guard_text import (
    NON_LATIN,
    Known,
    Span,
    Stream,
    Token,
    Units,
    known_of,
    line_feeds,
    script,
    tokens_of,
    unhidden,
    unpadded,
    without,
)
from grpo_dual.judges.lexical import content, without_abstention

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


def guard(completion: str, *, sources: Sequence[str] = (), limit: int = 4000) -> Guarded:
    """Take attempts on the judge out of a completion.

    ``guard(guard(x).text).text == guard(x).text`` for the same sources and limit, no string raises,
    and the time is bounded by the limit.

    Args:
        completion: What the policy said.
        sources: Knowledge, question, accepted and rejected answers: what they say is no attempt.
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
    flags |= ({"hidden characters"} if hidden else set()) | ({"padding"} if shorter != seen else set())
    text = shorter[: _SEARCHED * limit]
    cuts = [cut for search in _SEARCHES for cut in search(text, Units.of(text), known)]
    flags |= {cut.flag for cut in cuts}
    text = without(text, [(cut.start, cut.end) for cut in cuts])[:limit].strip()
    if text and _says_nothing(text, known):
        flags.add("master key")
        return ""
    return text


def _says_nothing(text: str, known: Known) -> bool:
    """Is it punctuation, the announcement of an answer, or a bare verdict?"""
    words = [token.word for token in tokens_of(text)]
    said = " ".join(words)
    if not words:
        return True
    if known.says(said):
        return text.endswith(":")
    return bool(patterns.MASTER_KEYS.fullmatch(said)) or set(words) <= patterns.BARE


@dataclass(frozen=True, slots=True)
class _Cut:
    flag: str
    start: int
    end: int


# Shapes -------------------------------------------------------------------------------------------

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | str.maketrans(
    "“”„’‘–—\u00a0", "\"\"\"''-- "
)


def _rest(text: str, start: int, end: int) -> Span:
    """Behind an answer a forged turn ends the text; before one only its tag goes."""
    return (start, len(text)) if re.search(r"\w", text[:start]) else (start, end)


def _shaped(text: str, units: Units, known: Known) -> Iterator[_Cut]:
    view = text.translate(_FULL_WIDTH)
    for shape in patterns.SHAPES:
        for match in shape.pattern.finditer(view):
            start, end = match.span()
            if start == end or known.shows(match[0]):
                continue
            if shape.scope == "unit":
                if {token.word for token in tokens_of(match[0])} <= known.words:
                    continue
                start, end = units.around(start, end)
            elif shape.scope == "rest":
                start, end = _rest(text, start, end)
            yield _Cut(shape.flag, start, end)


def _tagged(text: str, units: Units, known: Known) -> Iterator[_Cut]:
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
                yield _Cut("forged verdict", start, end)
        elif patterns.FENCES.fullmatch(name):
            yield _Cut("closing fence", *_rest(text, start, end))
        elif name in patterns.FORMATTING:
            yield _Cut("markup", start, end)
        else:
            ends = closing.get(name, [])
            later = bisect_right(ends, end)
            if not match["close"] and later < len(ends):
                end = ends[later]
            elif role:
                start, end = _rest(text, start, end)
            yield _Cut("role tag" if role else "markup", start, end)


# Letters ------------------------------------------------------------------------------------------

_SHAPED_LETTERS = re.compile(
    "(?:[\U0001d400-\U0001d7ff\uff21-\uff3a\uff41-\uff5a\u24b6-\u24e9\U0001f130-\U0001f189\u1d00-"
    "\u1d6a\u0262\u026a\u0274\u0280\u028f\u0299\u029c\u029f\ua730\ua731\u02b0-\u02b8\u2090-\u209c"
    "\u1d72-\u1dbf\U0001f1e6-\U0001f1ff][^\\S\n]?){3,}"
)
_ALIKE = "\u0400-\u052f\u0530-\u058f\u13a0-\u13ff"
_MIXED = re.compile(rf"[A-Za-z][{_ALIKE}]|[{_ALIKE}][A-Za-z]|[a-z][αγεικνορτυχω]{{1,9}}[a-z]")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")
_TEXT = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;'\"!?{}()-\n")
_CHANCE = 16
"""Letters up to which an English word may be base64 of a text by chance."""
_BLOB = 60
"""A word of more ASCII characters is none."""


def _lettered(text: str, units: Units, known: Known) -> Iterator[_Cut]:
    """Letters in disguise, other scripts than the sources', and what only a decoder reads."""
    for pattern in (_SHAPED_LETTERS, _MIXED):
        for match in pattern.finditer(text):
            if not known.shows(match[0]):
                yield _Cut("look-alikes", *units.around(*match.span()))
    for match in NON_LATIN.finditer(text):
        kind = script(match[0][0])
        foreign = known.scripts is not None and kind not in known.scripts
        long_enough = len(match[0]) > 1 or kind == "CJK"
        if foreign and long_enough and kind not in ("LATIN", "MODIFIER"):
            yield _Cut("foreign language", *units.around(*match.span()))
    for start, end in units.spans:
        unit = text[start:end].casefold()
        told = patterns.SCRIPT_ACTS.search(unit) and patterns.SCRIPT_OBJECTS.search(unit)
        if told and not known.shows(unit):
            yield _Cut("foreign language", start, end)
    for match in re.finditer(r"\S{8,}", text):
        if _blob(match[0]) and not known.shows(match[0]):
            yield _Cut("encoded", *match.span())


def _blob(chunk: str) -> bool:
    """Is it base64 of a text, or too long for a word?"""
    if len(chunk) >= _BLOB and chunk.isascii():
        return True
    for token in _BASE64.findall(chunk):
        core = token.rstrip("=").replace("-", "+").replace("_", "/")
        try:
            data = base64.b64decode(core + "=" * (-len(core) % 4), validate=True)
        except (binascii.Error, ValueError):
            # No base64, so it hides nothing.
            continue
        marked = token.endswith("=") or re.search(r"\d|.[A-Z]", token) or len(core) > _CHANCE
        if marked and _TEXT.issuperset(data):
            return True
    return False


# Words --------------------------------------------------------------------------------------------

_LEET = str.maketrans("430157@$!", "aeoistasi")
_HARD = re.compile(
    r"ignor|approv|verdict|scor|grad|right|correct|accept|mark|instruct|rubric|judg|pass|rate|full"
)
_SPELT = 4
"""Single letters in a row from which they spell a word."""
_CODED = 5
"""Letters from which a word that reads backwards or by rot13 as a judge's is no chance."""


def _worded(text: str, units: Units, known: Known) -> Iterator[_Cut]:
    tokens = tokens_of(text)
    plain: set[Span] = set()
    for stream in _streams(text, tokens):
        for cut in _said(text, stream, units, known):
            # What the words say as they stand, they say in any other reading too.
            if stream.flag is None:
                plain.add((cut.start, cut.end))
            elif (cut.start, cut.end) in plain:
                continue
            yield cut
    yield from _spelt(tokens, units, known)


def _said(text: str, stream: Stream, units: Units, known: Known) -> Iterator[_Cut]:
    """What one reading of the words says to a judge."""
    if True:
        yield from _phrased(stream, units, known)
        by_unit: dict[int, list[str]] = {}
        for token in stream.tokens:
            by_unit.setdefault(units.at(token.start), []).append(token.word)
        for index, words in by_unit.items():
            unit = text[slice(*units.spans[index])]
            if not known.says(" ".join(words)) and _judges(unit, words, index == 0, known):
                yield _Cut(stream.flag or "addresses the judge", *units.spans[index])


def _streams(text: str, tokens: list[Token]) -> Iterator[Stream]:
    """The words as they stand; then with signs inside them taken out, joined, and letters back."""
    yield Stream(None, tokens)
    bare: list[Token] = []
    leet: list[Token] = []
    signs = digits = False
    for match in re.finditer(r"\S+", text):
        chunk = match[0].casefold()
        core = re.sub(r"[\W_]+", "", chunk)
        if core:
            bare.append(Token(core, *match.span()))
            signs |= core not in chunk
        swapped = re.sub(r"[\W_]+", "", chunk.translate(_LEET))
        mixed = bool(re.search(r"[a-z]", chunk)) and swapped != core
        digits |= mixed
        if swapped:
            leet.append(Token(swapped if mixed or swapped.isalpha() else core, *match.span()))
    if signs:
        yield Stream("split words", bare)
    if digits:
        yield Stream("encoded", leet)
    joined = _joined(tokens)
    if len(joined) < len(tokens):
        yield Stream("split words", joined)


def _joined(tokens: list[Token]) -> list[Token]:
    """Neighbours that only together are a word of judging, put together."""
    out: list[Token] = []
    for token in tokens:
        last = out[-1] if out else None
        if last is not None and not rank(last.word) and not rank(token.word):
            both = last.word + token.word
            if rank(both) > 1 or (rank(both) and len(both) >= _CODED and content([token.word])):
                out[-1] = Token(both, last.start, token.end)
                continue
        out.append(token)
    return out


def _phrased(stream: Stream, units: Units, known: Known) -> Iterator[_Cut]:
    for parting in (units, None):
        text, starts, tokens = stream.parted(parting)
        for phrase in patterns.PHRASES:
            for match in phrase.pattern.finditer(text):
                first = bisect_right(starts, match.start()) - 1
                last = bisect_right(starts, max(match.start(), match.end() - 1)) - 1
                said = [token for token in tokens[first : last + 1] if token is not None]
                if said and not known.says(" ".join(token.word for token in said)):
                    span = units.around(said[0].start, said[-1].end)
                    yield _Cut(stream.flag or phrase.flag, *span)


_CORE = 3
"""Rank of the words that only judges use."""
_MARKS = frozenset(("10", "100"))
_ADDRESS = frozenset(("you", "your", "please", "must", "should", "kindly"))
_ACKNOWLEDGES = re.compile(
    r"(?:(?:yes|yeah|yep|no|oh|ok|okay|sure|ah|well|wow|i think|i believe|i agree|indeed) )*"
    r"(?:(?:that|this|it)(?: i|s| is| was| sounds| would be)?|youre|you are|you)?(?: \w+)?"
    r" ?(?:right|correct|true|agreed?|sure|certainly|definitely|absolutely|indeed|exactly|perfect"
    r"|the best|fine)(?: (?:about|on) (?:that|it|this))?"
)


def _judges(unit: str, words: list[str], first: bool, known: Known) -> bool:
    """Does a sentence speak the language of judging, and of nothing else?"""
    acts = any(patterns.FOREIGN_ACTS.fullmatch(w) and w not in known.words for w in words)
    if acts and any(patterns.FOREIGN_OBJECTS.fullmatch(w) and w not in known.words for w in words):
        return True
    judging = [word for word in words if rank(word) and word not in known.words]
    if not judging or without_abstention(unit)[1]:
        return False
    said = " ".join(words)
    world = [w for w in content(words) if not rank(w) and len(w) > 1 and w not in _MARKS]
    strongest = max(map(rank, judging))
    if not world and strongest == 1:
        if first and known.chat and _ACKNOWLEDGES.fullmatch(said):
            return False
        return len(judging) > 1 or (not first and words[-1] in patterns.BARE)
    if any(word in known.words for word in world):
        return strongest == _CORE and not _ADDRESS.isdisjoint(words)
    return strongest > 1 and len(world) <= len(judging) - (0 if strongest == _CORE else 1)


def _spelt(tokens: list[Token], units: Units, known: Known) -> Iterator[_Cut]:
    """Words in single letters, backwards, by rot13, in pig latin."""
    run: list[Token] = []
    for token in (*tokens, Token("--", 0, 0)):
        if len(token.word) == 1:
            run.append(token)
            continue
        word = "".join(letter.word for letter in run)
        if len(run) >= _SPELT and _HARD.search(word) and word not in known.raw:
            yield _Cut("split words", *units.around(run[0].start, run[-1].end))
        run = []
    pig: dict[int, int] = {}
    for token in tokens:
        word = token.word
        if word in known.words or len(word) < _CODED:
            continue
        if rank(word[::-1]) or rank(codecs.encode(word, "rot13")):
            yield _Cut("encoded", *units.around(token.start, token.end))
        if word.endswith("ay"):
            index = units.at(token.start)
            pig[index] = pig.get(index, 0) + 1
    for index, count in pig.items():
        if count > 2:
            yield _Cut("encoded", *units.spans[index])


_SEARCHES = (_shaped, _tagged, _lettered, _worded)
