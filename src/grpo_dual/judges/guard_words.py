"""The guard's search among words: phrases, sentences about judging, and words taken to pieces."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from grpo_dual.judges import guard_patterns as patterns
from grpo_dual.judges.guard_phrases import BARE, CORE, PHRASES, rank
from grpo_dual.judges.guard_text import Cut, Known, Span, Stream, Token, Units, tokens_of
from grpo_dual.judges.lexical import claims, content, first_yes_no, without_abstention

_LEET = str.maketrans("430157@$!", "aeoistasi")
_HARD = re.compile(
    r"ignor|approv|verdict|scor|grad|right|correct|accept|mark|instruct|rubric|judg|pass|rate|full"
)
_SPELT = 4
"""Single letters in a row from which they spell a word."""
_CODED = 5
"""Letters from which a word that reads backwards or by rot13 as a judge's is no chance."""


def worded(text: str, units: Units, known: Known) -> Iterator[Cut]:
    """Sentences that speak to a judge, in the clear, split, spelt or encoded."""
    tokens = tokens_of(text)
    words = frozenset(token.word for token in tokens)
    plain: set[Span] = set()
    for stream in _streams(text, tokens):
        for cut in _said(text, stream, words, units, known):
            # What the words say as they stand, they say in any other reading too.
            if stream.flag is None:
                plain.add((cut.start, cut.end))
            elif (cut.start, cut.end) in plain:
                continue
            yield cut
    yield from _spelt(tokens, units, known)


def _said(
    text: str, stream: Stream, plain: frozenset[str], units: Units, known: Known
) -> Iterator[Cut]:
    """What one reading of the words says to a judge; ``plain`` are the words as they stand."""
    yield from _phrased(stream, units, known)
    by_unit: dict[int, list[str]] = {}
    for token in stream.tokens:
        by_unit.setdefault(units.at(token.start), []).append(token.word)
    for index, words in by_unit.items():
        sentence = _Sentence(text[slice(*units.spans[index])], words, index == 0, known)
        assembled = stream.flag is None or any(rank(w) and w not in plain for w in words)
        if known.says(" ".join(words)) or not assembled:
            continue
        if sentence.judges() or (stream.flag is None and sentence.chats()):
            yield Cut(stream.flag or "addresses the judge", *units.spans[index])


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


def _phrased(stream: Stream, units: Units, known: Known) -> Iterator[Cut]:
    for parting in (units, None):
        text, starts, tokens = stream.parted(parting)
        for phrase in PHRASES:
            for match in phrase.pattern.finditer(text):
                first = bisect_right(starts, match.start()) - 1
                last = bisect_right(starts, max(match.start(), match.end() - 1)) - 1
                said = [token for token in tokens[first : last + 1] if token is not None]
                if said and not known.says(" ".join(token.word for token in said)):
                    span = units.around(said[0].start, said[-1].end)
                    yield Cut(stream.flag or phrase.flag, *span)


_PERSONAL = re.compile(
    r"\b(?:you|your|yours|youre|youd|youll|youve|me|my|mine|i|im|id|ill|ive|we|our|us|lets|above"
    r"|this one|this is it)\b"
)
"""Words of talk: answers from a text and summaries have no use of them, dialogues have."""
_ABOUT = frozenset(
    """answer answers answered response responses reply replies statement statements claim claims
    completion completions submission output outputs winner candidate""".split()  # noqa: SIM905
)
"""What a judge is shown."""
_ADDRESS = frozenset(("you", "your", "please", "must", "should", "kindly"))
_FRAME = frozenset(
    """answer correct final question knowledge context passage document source reference
    conclusion""".split()  # noqa: SIM905
)
"""Words around an answer: "The correct answer is yes." answers."""
_NEUTRAL = frozenset(("10", "100", "therefore", "thus", "hence", "overall", "so", "let"))
_TALK = 4
"""Words of the shortest aside."""
_DECLINES = re.compile(r"\b(?:sorry|apologi[sz]e|cannot|unable|can't|n't|not)\b", re.IGNORECASE)
_NAME = re.compile(r"(?<=\w )[A-Z]\w*[a-z]\w*|\b\d{3,}\b")
_ACKNOWLEDGES = re.compile(
    r"(?:(?:yes|yeah|yep|no|oh|ok|okay|sure|ah|well|wow|i think|i believe|i agree|indeed) )*"
    r"(?:(?:that|this|it)(?: i|s| is| was| sounds| would be)?|youre|you are|you)?(?: \w+)?"
    r" ?(?:right|correct|true|agreed?|sure|certainly|definitely|absolutely|indeed|exactly|perfect"
    r"|the best|fine)(?: (?:about|on) (?:that|it|this))?"
)


def named(unit: str) -> bool:
    """Does it name anything, by a capital or a long number? Then it says something of the world."""
    names = (token.word for token in tokens_of(" ".join(_NAME.findall(unit))))
    return any(not rank(name) for name in content(names))


@dataclass(frozen=True, slots=True)
class _Sentence:
    """One sentence, of which the sources do not say the like."""

    unit: str
    words: list[str]
    first: bool
    known: Known

    def judges(self) -> bool:
        """Does it speak the language of judging, and of nothing else?"""
        if self._foreign():
            return True
        if without_abstention(self.unit)[1]:
            return False
        world, judging = self._world(), self._judging()
        strongest = max(map(rank, judging), default=0)
        if strongest == CORE and not _ADDRESS.isdisjoint(self.words):
            return True
        if not world:
            return self._bare(judging, strongest)
        margin = 0 if strongest == CORE else 1
        rooted = not self.known.words.isdisjoint(world)
        return strongest > 1 and not rooted and len(world) <= len(judging) - margin

    def chats(self) -> bool:
        """Is it about the talk and not about the item, of which it names nothing?"""
        known, world = self.known, self._world()
        small_talk = known.chat and self._asks()
        if known.open or small_talk or not world or not known.words.isdisjoint(world):
            return False
        answers = first_yes_no(self.words) is not None
        if answers or named(self.unit) or without_abstention(self.unit)[1]:
            return False
        judging = self._judging()
        if not _ABOUT.isdisjoint(judging) or 2 * len(judging) > max(2, len(world)):
            return True
        if known.chat or len(self.words) < _TALK or not claims(world):
            return False
        return bool(_PERSONAL.search(" ".join(self.words))) and not _DECLINES.search(self.unit)

    def _world(self) -> list[str]:
        """Words that claim something, and nothing of judging."""
        said = (word for word in content(self.words) if len(word) > 1 or word in self.known.words)
        return [word for word in said if not rank(word) and word not in _NEUTRAL]

    def _judging(self) -> list[str]:
        return [word for word in self.words if rank(word) and word not in self.known.words]

    def _asks(self) -> bool:
        return self.unit.rstrip().endswith("?")

    def _bare(self, judging: list[str], strongest: int) -> bool:
        """Words of judging and no others: more than small talk?"""
        if not judging:
            return not self.first and self.words == ["yes"]
        if first_yes_no(self.words) is not None and _FRAME.issuperset(judging):
            return False
        agrees = self.first and _ACKNOWLEDGES.fullmatch(" ".join(self.words))
        if strongest == 1 and self.known.chat and (agrees or self._asks()):
            return False
        return len(judging) > 1 or strongest > 1 or (not self.first and self.words[-1] in BARE)

    def _foreign(self) -> bool:
        """Is it an instruction in another Latin language, or at least no English at all?"""
        new = [word for word in self.words if word not in self.known.words]
        acts = any(patterns.FOREIGN_ACTS.fullmatch(word) for word in new)
        if acts and any(patterns.FOREIGN_OBJECTS.fullmatch(word) for word in new):
            return True
        ascii_words = " ".join(word for word in self.unit.split() if word.isascii())
        plain = [token.word for token in tokens_of(ascii_words)]
        accented = len(self.words) - len(plain)
        english = len(content(plain)) < len(plain)
        strange = accented > max(2, len(self.words) // 3)
        frame = len(patterns.FOREIGN_FRAME.intersection(new))
        strange |= frame > 1 and len(self.words) >= _TALK and 4 * frame >= len(self.words)
        return 5 * len(new) >= 4 * len(self.words) and strange and not english


@lru_cache(maxsize=10_000)
def _turned(word: str) -> tuple[str, ...]:
    """A word in all Caesar ciphers; short ones only in rot13, since they are words by chance."""
    shifts = range(1, 26) if len(word) > _CODED + 1 else (13,)
    letters = "abcdefghijklmnopqrstuvwxyz"
    turns = (str.maketrans(letters, letters[n:] + letters[:n]) for n in shifts)
    return tuple(word.translate(turn) for turn in turns) if word.isascii() else ()


def _spelt(tokens: list[Token], units: Units, known: Known) -> Iterator[Cut]:
    """Words in single letters, backwards, by rot13, in pig latin."""
    run: list[Token] = []
    for token in (*tokens, Token("--", 0, 0)):
        if len(token.word) == 1:
            run.append(token)
            continue
        word = "".join(letter.word for letter in run)
        if len(run) >= _SPELT and _HARD.search(word) and word not in known.raw:
            yield Cut("split words", *units.around(run[0].start, run[-1].end))
        run = []
    pig: dict[int, int] = {}
    for token in tokens:
        word = token.word
        if word in known.words or len(word) < _CODED:
            continue
        if rank(word[::-1]) or any(map(rank, _turned(word))):
            yield Cut("encoded", *units.around(token.start, token.end))
        if word.endswith("ay"):
            index = units.at(token.start)
            pig[index] = pig.get(index, 0) + 1
    for index, count in pig.items():
        if count > 2:
            yield Cut("encoded", *units.spans[index])
