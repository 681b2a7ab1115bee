"""Text folded to plain words, and cut into clauses, for the template detector."""

import re
import unicodedata
from dataclasses import dataclass

# --- Folding: the same words in any dress -------------------------------------------------------

# Cyrillic and Greek letters that look like Latin ones, after casefolding.
_LOOK_ALIKES = str.maketrans("аеорсухікјѕһтнмвαεοικυρχτ", "aeopcyxikjshthmbaeoikupxt")
_QUOTES = str.maketrans("\u2018\u2019\u00b4`\u02bc\u2032\u201c\u201d\u201e", "'" * 6 + '"' * 3)
_INVISIBLE = frozenset({"Cf", "Mn", "Me"})
# Words spelled with gaps; two letters are one only beside longer such words.
_SPELLED = r"[a-z](?:[ .*_-][a-z])+"
_SPACED_LETTERS = re.compile(rf"(?<!\w){_SPELLED}(?:\s\s+{_SPELLED})*(?!\w)")
_NOT = re.compile(
    r"\b(ca|wo|do|does|dose|did|is|are|was|were|has|have|had|could|would|should)n'?t\b|n't\b"
)
_NEGATED = {None: " not", "ca": "cannot", "wo": "will not", "dose": "does not"}
_WRITTEN_OUT = (
    (re.compile(r"'s\b"), " is"),
    (re.compile(r"\bi'?m\b"), "i am"),
    (re.compile(r"'re\b"), " are"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'d\b"), " would"),
    (re.compile(r"\b(there|that)s\b"), r"\1 is"),
    (re.compile(r"\bidk\b"), "i do not know"),
    (re.compile(r"\bdunno\b"), "do not know"),
    (re.compile(r"\bn/a\b"), "not available"),
    (re.compile(r"\binfos?\b"), "information"),
    (re.compile(r"\bteh\b"), "the"),
    (re.compile(r"\bcan not\b"), "cannot"),
    (re.compile(r"\bicannot\b"), "i cannot"),
)


def _joined(run: re.Match[str]) -> str:
    spelled = [re.sub(r"[\W_]", "", word) for word in re.split(r"\s\s+", run.group())]
    return " ".join(spelled) if max(map(len, spelled)) > 2 else run.group()


def _visible(text: str) -> str:
    """Latin letters in lower case without accents, blanks and blank lines; quotes are plain."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_QUOTES)).casefold()
    seen = "".join(c for c in decomposed if unicodedata.category(c) not in _INVISIBLE)
    joined = _SPACED_LETTERS.sub(_joined, seen.translate(_LOOK_ALIKES))
    return re.sub(r"\s+", lambda run: "\n\n" if run.group().count("\n") > 1 else " ", joined)


def _written_out(visible: str) -> str:
    plain = _NOT.sub(lambda m: _NEGATED.get(m.group(1), f"{m.group(1)} not"), visible)
    for short, long in _WRITTEN_OUT:
        plain = short.sub(long, plain)
    return plain


def _spoken(folded: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", folded))


def plain(text: str) -> str:
    """The words of a text between single blanks, one at either end.

    Case, accents, invisible characters, look-alike letters, spaced letters and contractions are
    folded away: ``THE TEXT doesn't`` is `` the text does not ``.
    """
    return f" {_spoken(_written_out(_visible(text)))} "


# --- Clauses ------------------------------------------------------------------------------------

_STOPS = re.compile(r"((?<!\b\w)\.(?!\w)|[!?;\u3002]+)|\n\n")
_JOINTS = re.compile(
    r"(?<!\d),|,(?! ?\d)|[:()\[\]|\u2014]+|\s[\u2013-]+\s"
    r"|\b(but|however|although|though|yet|so|therefore|thus|hence)\b"
)
_QUOTATION = re.compile(r"\"[^\"]{1,300}\"|(?<!\w)'(?=\S).{1,300}?(?<=\S)'(?!\w)")
_WRAPPED = re.compile(r"[\s>*_#]*([\"'])(.*)\1[\s*_.]*", re.DOTALL)
_CONCLUDING = frozenset({"so", "therefore", "thus", "hence"})


@dataclass(frozen=True, slots=True)
class Clause:
    """A piece of a sentence between commas, colons, ``but`` and the like."""

    words: str
    """Its words, folded, between single blanks."""
    sentence: int
    """Which sentence it is in."""
    concludes: bool
    """Opened by ``so`` or the like: what stands before it in its sentence is its reason."""
    asks: bool
    """Its sentence ends in a question mark."""


def clauses(text: str) -> list[Clause]:
    """The clauses of a text; what stands in quotation marks inside it is somebody else's word."""
    seen = _visible(text)
    wrapped = _WRAPPED.fullmatch(seen)
    if wrapped and wrapped.group(1) not in wrapped.group(2):
        seen = wrapped.group(2)
    sentences = [*_STOPS.split(_written_out(_QUOTATION.sub(" quotation ", seen))), None]
    found: list[Clause] = []
    for number in range(0, len(sentences), 2):
        parts = _JOINTS.split(sentences[number] or "")
        asks = "?" in (sentences[number + 1] or "")
        concludes = False
        for part, joint in zip(parts[::2], [None, *parts[1::2]], strict=True):
            # "so, from the text, ...": a conclusion begins at the first words behind its joint.
            concludes = joint in _CONCLUDING or (concludes and joint is None)
            if _spoken(part):
                found.append(Clause(_spoken(part), number, concludes, asks))
                concludes = False
    return found
