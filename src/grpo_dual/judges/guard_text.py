"""The guard's view of a text: folded words, what the sources say, hidden characters, padding."""

import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from grpo_dual.judges.guard_patterns import LANGUAGES
from grpo_dual.judges.lexical import source_words

Span = tuple[int, int]

NON_LATIN = re.compile(r"[^\W\d_A-Za-z\u00aa-\u024f]+")
"""A run of letters of another script."""
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_PLAIN = str.maketrans({"ı": "i", "ø": "o", "ł": "l", "đ": "d", "'": "", "’": ""})
# Initials and a few abbreviations end no sentence.
_UNIT_END = re.compile(
    r"(?:(?<!\b[A-Z])(?<!\b(?:No|Mr|Dr|St|Jr|Sr))(?<!\b(?:Mrs|lit))[.!?…]+|(?<=\w);)"
    r"[\"')\]*_»”]{0,4}(?:\s+|$)|[。！？；]+|\n+"
)


@dataclass(frozen=True, slots=True)
class Cut:
    """A span that goes, and the kind of attempt that it is."""

    flag: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Token:
    """One word."""

    word: str
    """Folded: lower case, no accents, no apostrophe."""
    start: int
    end: int


@lru_cache(maxsize=50_000)
def _fold(word: str) -> str:
    plain = unicodedata.normalize("NFKD", word.casefold().translate(_PLAIN))
    return "".join(c for c in plain if not unicodedata.combining(c))


def tokens_of(text: str) -> list[Token]:
    """All words in order."""
    return [Token(_fold(m[0]), m.start(), m.end()) for m in _TOKEN.finditer(text)]


def squeeze(text: str) -> str:
    """Lower case without white space."""
    return re.sub(r"\s+", "", text).casefold()


@lru_cache(maxsize=10_000)
def script(char: str) -> str:
    """First word of a character's Unicode name: LATIN, CYRILLIC, CJK..."""
    return unicodedata.name(char, "UNKNOWN").split()[0]


@dataclass(frozen=True, slots=True)
class Known:
    """The sources, in the forms in which they are asked."""

    words: frozenset[str]
    stream: str
    """All words in order, blanks between and around them."""
    raw: str
    """The characters, in lower case, without white space."""
    scripts: frozenset[str] | None
    """Scripts of other letters than Latin ones; None where any script will do."""
    open: bool
    """There is no knowledge: an answer may be about anything."""
    chat: bool
    """A dialogue: there "That's right." is small talk."""

    def says(self, phrase: str) -> bool:
        """Do these folded words stand in the sources, in this order?"""
        return f" {phrase} " in self.stream

    def shows(self, stretch: str) -> bool:
        """Do these characters stand in the sources?"""
        return squeeze(stretch) in self.raw


@lru_cache(maxsize=256)
def known_of(sources: tuple[str, ...]) -> Known:
    """The sources of one item; the K completions of a prompt share them."""
    whole = "\n".join(sources)
    words = [token.word for token in tokens_of(whole)]
    vocabulary = frozenset(words) | source_words(whole)
    scripts = frozenset(script(run[0]) for run in NON_LATIN.findall(whole))
    return Known(
        words=vocabulary,
        stream=f" {' '.join(words)} ",
        raw=squeeze(whole),
        scripts=None if not whole.strip() or vocabulary & LANGUAGES else scripts,
        open=not sources or not sources[0].strip(),
        chat="[Human]:" in whole,
    )


# Hidden characters and padding --------------------------------------------------------------------

_SYMBOLS = "\u2190-\u2bff\u3030\u303d\U0001f000-\U0001faff"
_HIDDEN = re.compile(
    "\x1b\\[[0-9;]{0,20}[A-Za-z]"
    "|[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u0334-\u0338\u034f\u061c\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0d\ufeff"
    "\uffa0\ufff0-\ufffb\ud800-\udfff\ue000-\uf8ff\U000e0000-\U0010ffff]"
    # Emoji need these two; behind anything else they hide something.
    f"|(?<![{_SYMBOLS}#*0-9])[\ufe0e\ufe0f]|(?<![{_SYMBOLS}\ufe0f])\u200d"
    "|(?<=[\u0300-\u036f][\u0300-\u036f])[\u0300-\u036f]+"
)
_BLANK_RUN = re.compile(r"[^\S\n]{20,}|(?:[^\S\n]{0,19}\n){6,}")
_SIGN_RUN = re.compile(r"(\S)\1{15,}")
_LONGEST = 24
"""Words of the longest repeated block that is looked for."""
_REPEATS = 3
"""A block said once and then three times more is padding, if these are nine words at least."""
_LONG_RUN = 9


def line_feeds(text: str) -> str:
    """All kinds of line ends as line feeds."""
    return re.sub("\r\n|[\r\x0b\x0c\x85\u2028\u2029]", "\n", text)


def unhidden(text: str, known: Known) -> tuple[str, bool]:
    """The text without what a reader would not see, and whether the sources lack any of it."""
    hidden = {match[0] for match in _HIDDEN.finditer(text)}
    new = any(sign.casefold() not in known.raw for sign in hidden)
    return (_HIDDEN.sub("", text) if hidden else text), new


def unpadded(text: str, known: Known) -> str:
    """The text without long runs of blanks and signs, repeated blocks once."""

    def signs(match: re.Match[str]) -> str:
        return match[0] if known.shows(match[0]) else " "

    shorter = _BLANK_RUN.sub(lambda match: "\n" if "\n" in match[0] else " ", text)
    shorter = _SIGN_RUN.sub(signs, shorter)
    chunks = [match.span() for match in re.finditer(r"\S+", shorter)]
    said = [re.sub(r"\W+", "", shorter[a:b]).casefold() or shorter[a:b] for a, b in chunks]
    runs = _repeated(said, known)
    return without(shorter, [(chunks[a][0], chunks[b - 1][1]) for a, b in runs])


def _repeated(said: list[str], known: Known) -> list[Span]:
    """Runs of words that repeat the block before them, for the shortest period that has any.

    A block of words that the sources lack goes with its first copy.
    """
    for period in range(1, _LONGEST + 1):
        runs: list[Span] = []
        run = 0
        for i in range(period, len(said) + 1):
            if i < len(said) and said[i] == said[i - period]:
                run += 1
                continue
            if run >= max(_REPEATS * period, _LONG_RUN):
                new = known.words.isdisjoint(said[i - run - period : i - run])
                runs.append((i - run - (period if new else 0), i))
            run = 0
        if runs:
            return runs
    return []


# Spans --------------------------------------------------------------------------------------------


def without(text: str, spans: list[Span]) -> str:
    """The text without the spans: parts of one word come together, words stay apart."""
    out: list[str] = []
    at = 0
    for start, end in sorted(spans):
        if end <= at:
            continue
        out.append(text[at : max(start, at)])
        at = end
        before, after = text[start - 1 : start], text[end : end + 1]
        if "\n" in text[start:end] and before != "\n":
            out.append("\n")
        elif not before.isspace() and not (before.islower() and after.islower()):
            out.append(" ")
    return "".join((*out, text[at:]))


@dataclass(frozen=True, slots=True)
class Units:
    """The sentences and lines of a text: spans that cover it."""

    spans: tuple[Span, ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> "Units":
        """Part a text."""
        ends = [match.end() for match in _UNIT_END.finditer(text)]
        spans = tuple((a, b) for a, b in pairwise((0, *ends, len(text))) if a < b)
        return cls(spans, tuple(a for a, _ in spans))

    def at(self, position: int) -> int:
        """Index of the sentence that holds a position."""
        return max(0, bisect_right(self.starts, position) - 1)

    def around(self, start: int, end: int) -> Span:
        """The sentences that a span touches."""
        return self.spans[self.at(start)][0], self.spans[self.at(max(start, end - 1))][1]


@dataclass(frozen=True, slots=True)
class Stream:
    """Words with one blank between them, and where each came from."""

    flag: str | None
    """What the words were if they had to be made readable: split, encoded."""
    tokens: list[Token]

    def parted(self, units: Units | None) -> tuple[str, list[int], list[Token | None]]:
        """The stream as text, ``|`` before the first word of each sentence; starts and tokens."""
        words: list[str] = []
        starts: list[int] = []
        tokens: list[Token | None] = []
        length, unit = 0, -1

        def add(word: str, token: Token | None) -> None:
            nonlocal length
            words.append(word)
            starts.append(length)
            tokens.append(token)
            length += len(word) + 1

        for token in self.tokens:
            if units is not None and units.at(token.start) != unit:
                unit = units.at(token.start)
                add("|", None)
            add(token.word, token)
        if units is not None:
            add("|", None)
        return " ".join(words), starts, tokens
