"""HaluEval's recognition task: does the model see which text is hallucinated?

Upstream shows one side of each pair, by an unseeded coin, and counts a reply it cannot read as
wrong. Here both sides of each pair are asked, so that accuracy is upstream's in expectation without
the coin's noise and each label is as frequent as the other; the seeded coin is kept beside it.
Every accuracy stands beside what needs no reading: one answer to all, and length.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from grpo_dual.errors import DataError
from grpo_dual.evaluation.halueval import length_baseline
from grpo_dual.evaluation.measures import Measure, compare, measure, share
from grpo_dual.evaluation.stats import DRAWS, Estimate, Floats, ratio
from grpo_dual.prompts.parse import YesNo, read_yes_no
from grpo_dual.prompts.recognition import read_as_upstream
from grpo_dual.records.apportion import own_rng
from grpo_dual.records.halueval import as_detection
from grpo_dual.types import Choices, ContinuationScore, HaluEvalRecord, Task

Reading: TypeAlias = Literal["strict", "upstream"]
"""How a reply is read: by the word it opens with, or as evaluate.py does."""


def cluster_of(record: HaluEvalRecord) -> str:
    """Texts about the same knowledge are alike: subset and a digest of it (or of the query)."""
    about = record.context.strip() or record.query.strip() or record.record_id
    return f"{record.subset}/{hashlib.sha256(about.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class Shown:
    """One text to be judged."""

    record: HaluEvalRecord
    """In its DETECT form."""
    cluster: str
    drawn: bool
    """Upstream's protocol would have shown this side: the coin, seeded by pair."""
    longer: float | None
    """1 if it has more words than the other side of its pair, 1/2 if as many, 0 if fewer; None
    where it has no other side."""


@dataclass(frozen=True, slots=True)
class Detected:
    """What a model said of one text."""

    item_id: str
    cluster: str
    subset: str
    hallucinated: bool
    said: bool | None
    """True: hallucinated; None: invalid, it said neither."""
    drawn: bool
    longer: float | None

    @property
    def right(self) -> bool:
        """An invalid reply is wrong, as upstream counts."""
        return self.said == self.hallucinated


@dataclass(frozen=True, slots=True)
class Detection:
    """The scores of the recognition task; keys as in `MEASURES`, and two of `NULLS`."""

    numbers: dict[str, Estimate]
    outcomes: tuple[Detected, ...]


def shown_texts(records: Iterable[HaluEvalRecord], *, seed: int) -> list[Shown]:
    """Both sides of every pair, and the text of every one-sided record.

    Args:
        records: ANSWER records with both sides, and DETECT records.
        seed: Of the coin that upstream leaves unseeded; a pair's does not depend on other pairs.

    Raises:
        DataError: An ANSWER record lacks a side, or a DETECT record its verdict.
    """
    found: list[Shown] = []
    for record in records:
        if record.task is Task.DETECT:
            if record.hallucinated is None or record.shown is None:
                raise DataError(
                    f"{record.origin}: {record.record_id} has no text with a verdict to score "
                    "detection by"
                )
            found.append(Shown(record, cluster_of(record), drawn=True, longer=None))
            continue
        coin = own_rng(seed, "recognition", record.record_id).random() > 0.5
        right, wrong = (as_detection(record, hallucinated=side) for side in (False, True))
        more = float(np.sign(_words(wrong) - _words(right)) + 1) / 2
        cluster = cluster_of(record)
        found += [Shown(right, cluster, not coin, 1 - more), Shown(wrong, cluster, coin, more)]
    return found


def score_detection(
    items: Sequence[Shown],
    replies: Sequence[str],
    *,
    reading: Reading = "strict",
    draws: int = DRAWS,
    seed: int = 0,
) -> Detection:
    """Score one reply per shown text.

    Args:
        items: From `shown_texts`.
        replies: What the model wrote, in the same order.
        reading: ``strict`` (in any case, opening with yes or no), or ``upstream``.
        draws: Bootstrap draws.
        seed: Of the bootstrap.

    Returns:
        See `score_verdicts`.

    Raises:
        ValueError: There are not as many replies as items.
    """
    read = read_yes_no if reading == "strict" else read_as_upstream
    verdicts = [read(reply) for reply in replies]
    said = [verdict.yes if isinstance(verdict, YesNo) else None for verdict in verdicts]
    return score_verdicts(items, said, draws=draws, seed=seed)


def verdict_choices(
    prompt_ids: tuple[int, ...], encode: Callable[[str], tuple[int, ...]]
) -> Choices:
    """Yes and No as the replies to a recognition prompt, to be compared by likelihood.

    Args:
        prompt_ids: Of ``prompts.recognition.recognition_messages``, generation prompt included.
        encode: A reply to its ids with the end of the turn (``ChatEncoder.encode_completion``).
    """
    return Choices(prompt_ids, (encode("Yes"), encode("No")))


def likelier(scores: Sequence[ContinuationScore]) -> bool | None:
    """The verdict that is likelier as a whole reply, of `verdict_choices`; None: both alike."""
    yes, no = scores
    return None if yes.logprob == no.logprob else yes.logprob > no.logprob


def score_verdicts(
    items: Sequence[Shown], said: Sequence[bool | None], *, draws: int = DRAWS, seed: int = 0
) -> Detection:
    """Score verdicts, however they were had (read from replies, or the likelier of Yes and No).

    Args:
        items: From `shown_texts`.
        said: True for hallucinated, None for an invalid reply, in the same order.
        draws: Bootstrap draws over clusters.
        seed: Of the bootstrap.

    Returns:
        ``accuracy`` (invalid is wrong, as upstream), ``balanced_accuracy`` (mean over the two
        labels of it), ``accuracy_drawn`` (over the sides that upstream's coin would have shown),
        ``accuracy_valid`` (invalid left out), ``invalid``, ``says_hallucinated`` (of the valid);
        nulls: ``null_majority`` (the commoner label for all; balanced it is 1/2),
        ``null_shorter`` (of a pair the longer text is called hallucinated, a coin where they are as
        long), ``null_length`` (the best threshold in words, chosen in hindsight: an upper bound).

    Raises:
        ValueError: There are not as many verdicts as items.
    """
    outcomes = tuple(
        Detected(
            item_id=item.record.record_id,
            cluster=item.cluster,
            subset=item.record.subset,
            hallucinated=bool(item.record.hallucinated),
            said=verdict,
            drawn=item.drawn,
            longer=item.longer,
        )
        for item, verdict in zip(items, said, strict=True)
    )
    numbers = measure(MEASURES, outcomes, draws=draws, seed=seed)
    records = [item.record for item in items]
    clusters = len({item.cluster for item in items})
    for name, value in (
        ("null_majority", _majority(records)),
        ("null_length", length_baseline(records)),
    ):
        numbers[name] = Estimate(value, None, None, len(items), clusters)
    return Detection(numbers, outcomes)


def compare_detection(
    first: Detection, second: Detection, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Estimate]:
    """Scores of ``second`` minus those of ``first`` on the same texts; keys of `MEASURES`.

    Raises:
        DataError: They are not of the same texts.
    """
    return compare(MEASURES, first.outcomes, second.outcomes, draws=draws, seed=seed)


def _words(record: HaluEvalRecord) -> int:
    return len((record.shown or "").split())


def _majority(records: Sequence[HaluEvalRecord]) -> float | None:
    if not records:
        return None
    yes = sum(bool(record.hallucinated) for record in records)
    return max(yes, len(records) - yes) / len(records)


def _by_label(outcome: Detected) -> tuple[float, ...]:
    right = float(outcome.right)
    return (right, 1.0, 0.0, 0.0) if outcome.hallucinated else (0.0, 0.0, right, 1.0)


def _balanced(sums: Floats) -> Floats:
    return (ratio(sums[..., 0], sums[..., 1]) + ratio(sums[..., 2], sums[..., 3])) / 2


def _shorter(outcome: Detected) -> float | None:
    if outcome.longer is None:
        return None
    return outcome.longer if outcome.hallucinated else 1 - outcome.longer


MEASURES: Final[dict[str, Measure[Detected]]] = {
    "accuracy": share(lambda o: o.right),
    "balanced_accuracy": Measure(_by_label, _balanced),
    "accuracy_drawn": share(lambda o: o.right if o.drawn else None),
    "accuracy_valid": share(lambda o: None if o.said is None else o.right),
    "invalid": share(lambda o: o.said is None),
    "says_hallucinated": share(lambda o: o.said),
    "null_shorter": share(_shorter),
}
"""Name -> score of outcomes, each with an interval and comparable between models."""
