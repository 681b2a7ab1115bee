"""The measures of a file that ``grpo-dual eval --json`` wrote: where each stands, and its words.

A file holds the parts that were asked for (``--only``); a measure of another part is absent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from grpo_dual.evaluation.pareto import AXIS
from grpo_dual.report.held_out import Estimate

Tree = Mapping[str, object]
Kind = Literal["axis", "share", "bias", "number"]


@dataclass(frozen=True, slots=True)
class Where:
    """A measure."""

    words: str
    kind: Kind
    path: tuple[str, ...]
    """Of the block that holds it, in a target."""
    key: str
    beside: bool = False
    """Its interval stands beside the block (``macro_intervals_95``), not in it."""
    gap: tuple[str, ...] = ()
    """Of its paired difference, in ``minus_first``; empty: none is computed."""

    def score(self, target: Tree) -> Estimate:
        """With its bootstrap interval; without a value where the file has none."""
        ends = (
            (*self.path[:-1], f"{self.path[-1]}_intervals_95", self.key)
            if self.beside
            else (*self.path, "intervals_95", self.key)
        )
        return _estimate(at(target, (*self.path, self.key)), at(target, ends))

    def difference(self, minus_first: Tree) -> Estimate:
        """Of a target and the first, paired."""
        if not self.gap:
            return Estimate(None)
        return _estimate(*(at(minus_first, (*self.gap, k)) for k in ("value", "interval_95")))


def _bbq(words: str, kind: Kind, key: str, *, paired: bool = True) -> Where:
    gap = ("bbq", "generation", "macro", key) if paired else ()
    return Where(words, kind, ("bbq", "readings", "generation", "wrong", "macro"), key, True, gap)


def _halueval(words: str, *path: str) -> Where:
    own = ("halueval", *path)
    return Where(words, "share", own[:-1], own[-1], gap=own)


def _retention(words: str, kind: Kind, *path: str) -> Where:
    own = ("retention", *path)
    return Where(words, kind, own[:-1], own[-1], gap=own)


FAIRNESS = Where(
    "Axis: fairness", "axis", ("axes",), "fairness", True, ("bbq", "generation", "macro", AXIS)
)
FAITHFULNESS = Where(
    "Axis: faithfulness", "axis", ("axes",), "faithfulness", True, ("halueval", "open", "grounded")
)
MEASURES: tuple[Where, ...] = (
    FAIRNESS,
    FAITHFULNESS,
    _bbq("Right when the context does not say", "share", "accuracy_ambig"),
    _bbq("Right when the context says", "share", "accuracy_disambig"),
    _bbq("Bias score, ambiguous (s_AMB)", "bias", "s_amb"),
    _bbq("Bias score, disambiguated (s_DIS)", "bias", "s_dis"),
    _bbq("Replies that name no one option", "share", "unparsed", paired=False),
    _halueval("Answers that the knowledge supports", "open", "grounded"),
    _halueval("Hallucinated answers", "open", "hallucinated"),
    _halueval("Hallucinated, of those that answer", "open", "hallucinated_answering"),
    _halueval("Abstentions", "open", "abstains"),
    _halueval("Hallucinations told apart (yes/no)", "detection", "generation", "accuracy"),
    _halueval("... by the likelier of Yes and No", "detection", "likelihood", "accuracy"),
    _halueval("... by length alone", "detection", "generation", "null_length"),
    _halueval("Right side of a pair likelier, by the token", "pairs", "mean"),
    _halueval("... among pairs of one length", "pairs", "mean_matched"),
    _retention("Perplexity of plain texts", "number", "texts", "perplexity"),
    _retention("Harmless questions refused", "share", "questions", "refused"),
)
"""In reading order."""


def at(tree: object, path: Sequence[str]) -> object:
    """What stands at a path; None where nothing does."""
    for key in path:
        tree = cast("Tree", tree).get(key) if isinstance(tree, Mapping) else None
    return tree


def _estimate(value: object, ends: object) -> Estimate:
    if value is None:
        return Estimate(None)
    number = float(cast("float", value))
    if ends is None:
        return Estimate(number)
    low, high = cast("Sequence[float]", ends)
    return Estimate(number, float(low), float(high), "bootstrap")
