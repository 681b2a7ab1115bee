"""Which judge scores a group, and what happens when none can. One scorer per group, always."""

import asyncio
import hashlib
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from grpo_dual.config.judging import JudgeConfig
from grpo_dual.errors import JudgeOutageError
from grpo_dual.judges.cache import VerdictCache
from grpo_dual.judges.client import (
    OUTAGE,
    Cause,
    Failure,
    GroupVerdicts,
    Judge,
    Opinion,
    Question,
)
from grpo_dual.judges.local import NAME as OFFLINE
from grpo_dual.judges.tally import Tally

_T = TypeVar("_T")
_PREPARED = 16
"""Questions rendered between two looks at the network. With thousands at once, replies would lie
there until their requests had timed out."""
Offline = Callable[[Question], Opinion | Failure]
"""The objective's own offline judge."""


class Router:
    """Routes whole groups; used on one event loop."""

    def __init__(
        self,
        judges: Mapping[str, Judge],
        config: JudgeConfig,
        *,
        cache: VerdictCache | None,
        tally: Tally,
        tell: Callable[[str], None],
    ) -> None:
        """Put the parts together.

        Args:
            judges: By name, the first choice first.
            config: Route, outage rule, shares.
            cache: Verdicts on disk, or None.
            tally: Counts.
            tell: Hears what the user should see at once.
        """
        self._judges = judges
        self._config = config
        self._cache = cache
        self._tally = tally
        self._tell = tell
        self._flights: dict[str, asyncio.Task[Opinion | Failure]] = {}
        self._prepared = asyncio.Semaphore(_PREPARED)
        self._told: set[str] = set()
        self._paused_at: float | None = None
        self._proven: set[str] = set()
        """Judges that have answered once."""
        self._answered_at = -math.inf
        """When a judge last gave a verdict, on any question."""

    async def group(self, questions: Sequence[Question], offline: Offline) -> GroupVerdicts:
        """Verdicts on the questions of one group.

        Raises:
            JudgeOutageError: The outage rule says stop.
        """
        action = self._config.outage.action
        began: float | None = None
        while True:
            found = await self._route(questions)
            waits = self._waits(found)
            if self._enough(found) and not waits:
                self._recovered()
                break
            if action == "heuristic" or _spent(found):
                self._once(found, "the offline judge scores such groups")
                found = GroupVerdicts(OFFLINE, tuple(offline(q) for q in questions))
                break
            if not waits:
                self._once(found, "such completions are left unscored")
                break
            # Patience does not begin before the first failure.
            began = asyncio.get_running_loop().time() if began is None else began
            await self._wait(found, began)
        self._tally.group(found)
        return found

    async def _wait(self, found: GroupVerdicts, began: float) -> None:
        """Pause until the next try, or stop the run."""
        rule, now = self._config.outage, asyncio.get_running_loop().time()
        # While others are answered, this one's turn will come: a queue is no outage.
        without = now - max(began, self._answered_at)
        if rule.action == "stop" or without >= rule.patience_seconds:
            raise JudgeOutageError(
                f"no judge could score a group ({_why(found)}), and judge.outage.action is "
                f"{rule.action}. What was done is saved; when the judge is back, continue with "
                "--resume, or with --resume ... --judge.outage.action heuristic."
            )
        if self._paused_at is None:
            self._paused_at = now
            self._tell(
                f"paused: {_why(found)}; trying again every {rule.probe_seconds:g} s, for "
                f"{rule.patience_seconds:g} s at most"
            )
        await asyncio.sleep(rule.probe_seconds)

    def _waits(self, found: GroupVerdicts) -> bool:
        """Must a judge come back for it, by the outage rule?"""
        waiting = self._config.outage.action in ("pause", "stop")
        return waiting and self._is_outage(found) and not _spent(found)

    def _is_outage(self, found: GroupVerdicts) -> bool:
        """A rejected request is its own fault, unless this judge has never answered any."""
        return any(
            f.cause in OUTAGE or (f.cause is Cause.REJECTED and f.judge not in self._proven)
            for f in _failures(found)
        )

    def _enough(self, found: GroupVerdicts) -> bool:
        return found.scored >= self._config.outage.min_scored * len(found.answers)

    def _recovered(self) -> None:
        if self._paused_at is not None:
            seconds = asyncio.get_running_loop().time() - self._paused_at
            self._paused_at = None
            self._tell(f"a judge is back after {seconds:.0f} s; going on")

    def _once(self, found: GroupVerdicts, what: str) -> None:
        """Tell it once for each judge and cause: details may hold the number of a request."""
        first = _blamed(found)
        about = f"{first.judge}: {first.cause}; {what}"
        if about not in self._told:
            self._told.add(about)
            self._tell(f"{_why(found)}; {what}")

    async def _route(self, questions: Sequence[Question]) -> GroupVerdicts:
        """The first judge's verdicts that are enough, else the ones with the fewest failures."""
        order = self._order(questions)
        known: dict[str, GroupVerdicts] = {}
        if self._two_must_agree(questions):
            one, two = await _together([self._by(name, questions) for name in order[:2]])
            found = self._agreement(one, two)
            if self._enough(found) and not self._waits(found):
                return found
            known = {one.scorer: one, two.scorer: two}
        best: GroupVerdicts | None = None
        for name in order:
            found = known[name] if name in known else await self._by(name, questions)
            if best is None or _worth(found) > _worth(best):
                best = found
            # One that has no opinion of any of them leaves the group to the next.
            if found.opinions and self._enough(found) and not self._waits(found):
                return found
        assert best is not None, "a router has at least one judge"
        return best

    def _order(self, questions: Sequence[Question]) -> list[str]:
        """The judges in the order in which this group asks them."""
        names = list(self._judges)
        if self._config.route != "split":
            return names
        shares = [self._config.providers[name].share for name in names]
        draw = _draw(questions, "split") * sum(shares)
        first = 0
        while first < len(names) - 1 and draw >= shares[first]:
            draw -= shares[first]
            first += 1
        return [names[first], *(name for name in names if name != names[first])]

    def _two_must_agree(self, questions: Sequence[Question]) -> bool:
        config = self._config
        return config.route == "both-and-agree" and _draw(questions, "agree") < config.agree_share

    def _agreement(self, one: GroupVerdicts, two: GroupVerdicts) -> GroupVerdicts:
        self._tally.agreement(one.answers, two.answers)
        name = f"{one.scorer}+{two.scorer}"
        pairs = zip(one.answers, two.answers, strict=True)
        return GroupVerdicts(name, tuple(_agreed(name, a, b) for a, b in pairs))

    async def _by(self, name: str, questions: Sequence[Question]) -> GroupVerdicts:
        judge = self._judges[name]
        answers = await _together([self._one(judge, question) for question in questions])
        return GroupVerdicts(name, tuple(answers))

    async def _one(self, judge: Judge, question: Question) -> Opinion | Failure:
        """One verdict: from the cache, from the same question in flight, or asked for."""
        async with self._prepared:
            key = judge.key(question)
            await asyncio.sleep(0)
        if key is None:
            return await self._ask(judge, question)
        if key not in self._flights:
            kept = self._cache.get(key) if self._cache is not None else None
            if kept is not None:
                self._tally.hits(judge.name)
                return kept
            flight = asyncio.ensure_future(self._ask(judge, question))
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key))
        else:
            self._tally.hits(judge.name)
        # Shielded: who shares a flight must not be cancelled with its first passenger.
        return await asyncio.shield(self._flights[key])

    async def _ask(self, judge: Judge, question: Question) -> Opinion | Failure:
        answer = await judge.judge(question)
        if isinstance(answer, Opinion):
            self._proven.add(judge.name)
            self._answered_at = asyncio.get_running_loop().time()
        return answer


async def _together(work: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """All results; or the first exception as it is, when the others are cancelled and done."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    return [task.result() for task in tasks]


def _agreed(name: str, one: Opinion | Failure, two: Opinion | Failure) -> Opinion | Failure:
    if isinstance(one, Failure):
        return one
    if isinstance(two, Failure):
        return two
    if one.verdict is not two.verdict:
        return Failure(name, Cause.DISAGREE, 0, f"{one.verdict} and {two.verdict}")
    return Opinion(one.verdict, min(one.confidence, two.confidence), one.reason)


def _draw(questions: Sequence[Question], purpose: str) -> float:
    """A number in [0, 1) that hangs on the record alone: the same on every run and resume."""
    text = f"{purpose}\0{questions[0].record.record_id}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def _worth(found: GroupVerdicts) -> tuple[int, int]:
    return found.opinions, found.scored


def _failures(found: GroupVerdicts) -> list[Failure]:
    return [a for a in found.answers if isinstance(a, Failure) and a.cause is not Cause.NO_OPINION]


def _spent(found: GroupVerdicts) -> bool:
    return any(failure.cause is Cause.BUDGET for failure in _failures(found))


def _blamed(found: GroupVerdicts) -> Failure:
    """The failure that is told: what a server said rather than that nobody was asked."""
    silent = {Cause.DISAGREE: 2, Cause.DOWN: 1}
    return min(_failures(found), key=lambda f: silent.get(f.cause, 0))


def _why(found: GroupVerdicts) -> str:
    first = _blamed(found)
    return f"{first.judge}: {first.cause}" + (f" ({first.detail})" if first.detail else "")
