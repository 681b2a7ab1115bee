"""Words and phrases for the offline judge: content words, abstentions, yes and no."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

# Function words, and the frame of an answer ("The answer to the question is ..."), carry no claim.
_STOP = frozenset(
    """
    a about above after again against all also am an and any are as at be because been before being
    between both but by can could did do does doing down during each either few for from further
    had has have having he her here hers herself him himself his how i if in into is it its itself
    just may me might more most must my myself no nor not now of off on once one only or other our
    ours out over own per rather same shall she should so some such than that the their theirs them
    themselves then there these they this those through to too under until up upon very was we well
    were what when where whether which while who whom whose why will with within would yes yet you
    your yours yourself s t d m ll ve re
    answer question correct according based given knowledge context passage text document mention
    mentioned called named known state stated im ive id dont didnt doesnt isnt wasnt arent werent
    youre hes shes theyre thats whats theres
    """.split()  # noqa: SIM905 - a list of hundred strings would take a page
)
# Talk that a reply may hold without claiming anything about the world.
_SMALL_TALK = frozenset(
    """
    absolutely agree ah amazing awesome believe best bit bye certainly check cool course definitely
    enjoy enjoyed excellent exactly fan fantastic favorite favourite feel fine fun funny glad good
    got great guess happy hear heard hello help hey hi hmm hope huge interested interesting kind
    know lets like liked look lot love loved lovely maybe mean much nice nope oh ok okay opinion
    perhaps please pretty probably quite read really recommend right say see seen seem seems
    sorry sound sounds sure thank thanks thing think though thought too totally true try want
    watch watched way welcome wonder wonderful wow yeah yep wish
    """.split()  # noqa: SIM905
)
# What stands around a short answer without claiming anything: "I think it is X", "Sure! X".
_FRAME = frozenset(
    {
        *(
            "absolutely",
            "believe",
            "certainly",
            "choice",
            "definitely",
            "final",
            "guess",
            "hmm",
            "ok",
        ),
        *("okay", "option", "probably", "right", "simply", "sure", "surely", "think", "verdict"),
        *("well", "yeah", "yep"),
    }
)
_ABSTENTION = re.compile(
    r"\b(?:do not know|not know|no idea|not sure|not certain|unsure|unknown|undetermined"
    r"|(?:cannot|can not|could not|unable to) (?:be )?"
    r"(?:determine|answer|tell|say|know|find|provide|confirm|infer|conclude)\w*"
    r"|(?:is|are|was|were|does|do|did|has|have)? ?not (?:\w+ )?"
    r"(?:stated?|said|say|mention(?:ed)?|provided?|given|give|specif(?:y|ied)|contain|include"
    r"|known|clear|answerable|enough info\w*|available|indicated?|disclosed?|sufficient\w*)"
    r"|insufficient (?:information|info|context|evidence|knowledge)"
    r"|no (?:information|info|mention|answer|evidence|details?)\b"
    r"|lacks? (?:the )?(?:information|info|details?|context)"
    r"|context does not)\b"
)
_CONTRACTED = (("can't", "cannot"), ("won't", "will not"), ("n't", " not"))
_CLAUSES = re.compile(r"[.;!?\n]+(?:\s+|$)|,?\s+(?:but|however|although|though)\b,?\s*")


def fold(text: str) -> str:
    """Casefolded text without accents, curly quotes and contractions of ``not``."""
    decomposed = unicodedata.normalize("NFKD", text.replace("\u2019", "'"))
    plain = "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()
    for short, long in _CONTRACTED:
        plain = plain.replace(short, long)
    return plain


def words(text: str) -> list[str]:
    """All words in order, folded, without possessives and plural ``s`` (``bells`` is ``bell``)."""
    plain = re.sub(r"'s\b", "", fold(text)).replace("'", "")
    return [_singular(word) for word in re.findall(r"\w+", plain)]


def _singular(word: str) -> str:
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if plural and not word[0].isdigit() else word


_STOP_WORDS = frozenset(_singular(word) for word in _STOP) | _STOP
_CHAT_WORDS = frozenset(_singular(word) for word in _SMALL_TALK) | _SMALL_TALK


def content(spoken: Iterable[str]) -> list[str]:
    """The words that claim something."""
    return [word for word in spoken if word not in _STOP_WORDS]


def asserted(spoken: Iterable[str]) -> list[str]:
    """Content words of a short answer: words that frame it are left out too."""
    return [word for word in content(spoken) if word not in _FRAME]


def claims(spoken: Iterable[str]) -> list[str]:
    """Content words of conversation: small talk is left out too."""
    return [word for word in content(spoken) if word not in _CHAT_WORDS]


def source_words(text: str) -> frozenset[str]:
    """Words of a knowledge text; HaluEval glues sentences (``TurboTurbo``): these are split too."""
    parted = re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])", " ", text)
    return frozenset(words(text)) | frozenset(words(parted))


def named(text: str) -> frozenset[str]:
    """Words written as names or numbers: with a capital, or with a digit."""
    tokens = re.findall(r"\w*[A-Z]\w*|\w*\d\w*", text)
    return frozenset(claims(word for token in tokens for word in words(token)))


def token_f1(one: Sequence[str], other: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of the words of two texts, each counted as often.

    Args:
        one: Words of a text.
        other: Words of another.

    Returns:
        2 x shared / (words of both), in [0, 1], symmetric; 0 where nothing is shared.

    Source: SQuAD's F1, Rajpurkar et al. 2016.
    """
    shared = (Counter(one) & Counter(other)).total()
    return 2 * shared / (len(one) + len(other)) if shared else 0.0


def phrase_at(spoken: list[str], phrase: list[str]) -> int:
    """Where ``phrase`` stands in ``spoken`` as consecutive words, or -1."""
    width = len(phrase)
    for start in range(len(spoken) - width + 1):
        if width and spoken[start : start + width] == phrase:
            return start
    return -1


def without_abstention(text: str) -> tuple[str, bool]:
    """``text`` without the clauses that decline to answer, and whether there were any."""
    kept: list[str] = []
    declined = False
    for clause in _CLAUSES.split(text):
        if _ABSTENTION.search(re.sub(r"\s+", " ", fold(clause))):
            declined = True
        else:
            kept.append(clause)
    return " ".join(kept), declined


def first_yes_no(spoken: list[str]) -> str | None:
    """The first ``yes`` or ``no`` among the words."""
    return next((word for word in spoken if word in ("yes", "no")), None)
