"""Scores as sums over item outcomes: each with its interval, and compared on the same items."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from grpo_dual.errors import DataError
from grpo_dual.evaluation.stats import DRAWS, Estimate, Statistic, difference, estimate, mean_of


class Outcome(Protocol):
    """What became of one item."""

    @property
    def item_id(self) -> str:
        """Unique in an evaluation, equal in two evaluations of the same items."""
        ...

    @property
    def cluster(self) -> str:
        """Items that are alike share it."""
        ...


O = TypeVar("O", bound=Outcome)  # noqa: E741
C = TypeVar("C", bound=Outcome, contravariant=True)


@dataclass(frozen=True, slots=True)
class Measure(Generic[C]):
    """A score as a function of sums over outcomes."""

    terms: Callable[[C], tuple[float, ...]]
    """What one outcome adds to each sum; zeros where it does not count."""
    statistic: Statistic = mean_of
    """Sums -> score; by default the first over the second."""


def share(holds: Callable[[O], float | None]) -> Measure[O]:
    """Mean of a property over the outcomes for which it is not None."""

    def terms(outcome: O) -> tuple[float, float]:
        value = holds(outcome)
        return (0.0, 0.0) if value is None else (float(value), 1.0)

    return Measure(terms)


def measure(
    measures: Mapping[str, Measure[O]],
    outcomes: Sequence[O],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Every score of one evaluation, with its interval over clusters."""
    clusters = [outcome.cluster for outcome in outcomes]
    return {
        name: estimate([own.terms(o) for o in outcomes], clusters, own.statistic, draws, seed)
        for name, own in measures.items()
    }


def compare(
    measures: Mapping[str, Measure[O]],
    first: Sequence[O],
    second: Sequence[O],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Every score of ``second`` minus that of ``first``, paired by item.

    Raises:
        DataError: They are not of the same items.
    """
    places = {outcome.item_id: place for place, outcome in enumerate(second)}
    names = [outcome.item_id for outcome in first]
    if len(places) != len(second) or len(set(names)) != len(names) or places.keys() != set(names):
        odd = sorted(places.keys() ^ set(names))
        raise DataError(
            "two evaluations can be compared only on the same items, each once; "
            + (
                f"{len(odd)} items are in one of them only, such as {odd[0]}; evaluate both with "
                "the same data, limit and seed"
                if odd
                else "some item is in one of them twice"
            )
        )
    other = [second[places[name]] for name in names]
    clusters = [outcome.cluster for outcome in first]
    return {
        name: difference(
            [own.terms(o) for o in first],
            [own.terms(o) for o in other],
            clusters,
            own.statistic,
            draws,
            seed,
        )
        for name, own in measures.items()
    }
