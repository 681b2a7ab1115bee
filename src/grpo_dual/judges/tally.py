"""What the judges did in a step: groups by scorer, cache hits, agreement, hidden time."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from grpo_dual.judges.client import Failure, GroupVerdicts, Opinion
from grpo_dual.judges.local import NAME as OFFLINE


@dataclass(slots=True)
class StepTally:
    """Counts of one step."""

    groups: Counter[str] = field(default_factory=Counter[str])
    """Groups by scorer."""
    verdicts: Counter[str] = field(default_factory=Counter[str])
    """Verdicts by scorer."""
    failures: Counter[str] = field(default_factory=Counter[str])
    """Questions left without one, by cause."""
    unscored_groups: int = 0
    """Groups in which not one question got a verdict."""
    cache_hits: Counter[str] = field(default_factory=Counter[str])
    """Verdicts that cost nothing, by judge: kept on disk, or the same question in flight."""
    agreed: int = 0
    compared: int = 0
    """Questions that two judges both had an opinion of."""
    busy_seconds: float = 0.0
    """Time in which at least one group was being judged."""
    waited_seconds: float = 0.0
    """Of it, time in which training stood still."""

    @property
    def offline_groups(self) -> int:
        """Groups that the offline judge scored."""
        return self.groups[OFFLINE]

    @property
    def hidden(self) -> float | None:
        """Share of the judges' time behind which something else was computed."""
        if self.busy_seconds <= 0:
            return None
        return max(0.0, 1.0 - self.waited_seconds / self.busy_seconds)


class Tally:
    """Counts; written on the judges' thread, taken between steps, when nothing is being judged.

    ``waited`` alone is called by the trainer's thread, and nothing else touches its number.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock``: seconds, monotonic."""
        self._clock = clock
        self._step = StepTally()
        self._pending = 0
        self._since = 0.0

    def began(self) -> None:
        """A group is taken up."""
        if self._pending == 0:
            self._since = self._clock()
        self._pending += 1

    def ended(self) -> None:
        """A group is done."""
        self._pending -= 1
        if self._pending == 0:
            self._step.busy_seconds += self._clock() - self._since

    def waited(self, seconds: float) -> None:
        """Training stood still."""
        self._step.waited_seconds += seconds

    def hits(self, judge: str) -> None:
        """A verdict was there already."""
        self._step.cache_hits[judge] += 1

    def group(self, found: GroupVerdicts) -> None:
        """A group has its verdicts."""
        opinions = [a for a in found.answers if isinstance(a, Opinion)]
        self._step.groups[found.scorer] += 1
        self._step.verdicts[found.scorer] += len(opinions)
        self._step.unscored_groups += bool(found.answers) and not opinions
        for answer in found.answers:
            if isinstance(answer, Failure):
                self._step.failures[answer.cause.value] += 1

    def agreement(self, one: Sequence[Opinion | Failure], two: Sequence[Opinion | Failure]) -> None:
        """Two judges have answered the same questions."""
        for a, b in zip(one, two, strict=True):
            if isinstance(a, Opinion) and isinstance(b, Opinion):
                self._step.compared += 1
                self._step.agreed += a.verdict is b.verdict

    def take(self) -> StepTally:
        """The counts since the last call."""
        taken, self._step = self._step, StepTally()
        return taken
