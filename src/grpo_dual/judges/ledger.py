"""What was spent: an append-only file that no checkpoint rolls back, and the budget above it.

Two lines stand for a request: ``sent`` with the most it can cost, before it goes out, and ``done``
with what it cost. After a kill a request without its second line counts with the most: the budget
is never under-counted. One run writes one ledger.
"""

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from grpo_dual.config.judging import JudgeBudgetConfig, PriceConfig
from grpo_dual.errors import JudgeError
from grpo_dual.judges.client import Cause, ProviderError, Usage

LEDGER = "judge_ledger.jsonl"
"""In the run folder."""
_MILLION = 1_000_000


def cost(usage: Usage, price: PriceConfig | None) -> float | None:
    """USD of tokens; None where the price is unknown."""
    if price is None:
        return None
    read = price.input if price.cached_input is None else price.cached_input
    write = price.input if price.cache_write is None else price.cache_write
    fresh = usage.input - usage.cached - usage.cache_write
    dollars = (
        fresh * price.input
        + usage.cached * read
        + usage.cache_write * write
        + usage.output * price.output
    )
    return dollars / _MILLION


@dataclass(slots=True)
class Spent:
    """Sums of one judge, or of all."""

    calls: int = 0
    """Requests sent."""
    failed: int = 0
    """Of them, those that brought no valid reply."""
    unsettled: int = 0
    """Of them, those whose end is unknown: in flight, or cut off by a kill."""
    usage: Usage = field(default_factory=Usage)
    usd: float = 0.0
    unpriced: int = 0
    """Requests whose price is unknown; they are in no sum of money."""
    reserved_tokens: int = 0
    """The most that the unsettled ones can take."""
    reserved_usd: float = 0.0

    @property
    def tokens(self) -> int:
        """With the reserved ones."""
        return self.usage.tokens + self.reserved_tokens

    @property
    def dollars(self) -> float | None:
        """With the reserved ones; None when not one request has a price."""
        if self.unpriced and self.unpriced == self.calls:
            return None
        return self.usd + self.reserved_usd

    def since(self, before: "Spent") -> "Spent":
        """What came on top of an earlier copy; reservations are left out."""
        return Spent(
            calls=self.calls - before.calls,
            failed=self.failed - before.failed,
            usage=Usage(
                self.usage.input - before.usage.input,
                self.usage.cached - before.usage.cached,
                self.usage.cache_write - before.usage.cache_write,
                self.usage.output - before.usage.output,
            ),
            usd=self.usd - before.usd,
            unpriced=self.unpriced - before.unpriced,
        )

    def report(self) -> dict[str, float | int | None]:
        """For the summary of a run."""
        return {
            "calls": self.calls,
            "failed_calls": self.failed,
            "unsettled_calls": self.unsettled,
            "input_tokens": self.usage.input,
            "cached_input_tokens": self.usage.cached,
            "output_tokens": self.usage.output,
            "reserved_tokens": self.reserved_tokens,
            "usd": self.dollars,
            "unpriced_calls": self.unpriced,
        }


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request that is out."""

    number: int
    judge: str
    tokens: int
    usd: float | None


class Ledger:
    """Counts, refuses what is over the budget, and writes it down."""

    def __init__(self, budget: JudgeBudgetConfig, path: Path | None = None) -> None:
        """Read what was spent before, if the file is there.

        Args:
            budget: Hard limits.
            path: The file; None keeps the counts in memory only.

        Raises:
            JudgeError: The file is damaged.
        """
        self.path = path
        self.by_judge: dict[str, Spent] = {}
        self.total = Spent()
        self.stopped = False
        """True: nothing more may be sent, as if the budget were spent."""
        self._budget = budget
        self._open: dict[int, Ticket] = {}
        self._next = 0
        self._file: int | None = None
        if path is not None and path.exists():
            self._read(path)
        elif path is not None:
            self._append(b"")  # from the start on: where it is missing later, somebody removed it

    def reserve(self, judge: str, usage: Usage, price: PriceConfig | None, *, step: int) -> Ticket:
        """Count a request before it is sent.

        Args:
            judge: Its name.
            usage: The most it can take.
            price: Its price.
            step: Training step, for the reader of the file.

        Raises:
            ProviderError: It does not fit into the budget; the cause is BUDGET.
        """
        usd = cost(usage, price)
        self._refuse(usage.tokens, usd)
        ticket = Ticket(self._next, judge, usage.tokens, usd)
        self._count(ticket)
        self._write(
            {
                "event": "sent",
                "id": ticket.number,
                "step": step,
                "judge": judge,
                "most_tokens": ticket.tokens,
                "most_usd": usd,
            }
        )
        return ticket

    def settle(
        self, ticket: Ticket, usage: Usage, price: PriceConfig | None, outcome: str, *, ok: bool
    ) -> None:
        """Count what a request took in the end."""
        usd = cost(usage, price)
        self._settle(ticket, usage, usd, ok=ok)
        self._write(
            {
                "event": "done",
                "id": ticket.number,
                "outcome": outcome,
                "ok": ok,
                "input": usage.input,
                "cached": usage.cached,
                "cache_write": usage.cache_write,
                "output": usage.output,
                "usd": usd,
            }
        )

    def report(self) -> dict[str, object]:
        """For the summary of a run: the sums of each judge, and of all."""
        by_judge = {name: spent.report() for name, spent in self.by_judge.items()}
        return {"by_judge": by_judge, "total": self.total.report()}

    def _refuse(self, tokens: int, usd: float | None) -> None:
        if self.stopped:
            raise ProviderError(Cause.BUDGET, "nothing more is sent")
        budget, total = self._budget, self.total
        for limit, used, more, unit in (
            (budget.calls, total.calls, 1, "calls"),
            (budget.tokens, total.tokens, tokens, "tokens"),
            (budget.usd, total.usd + total.reserved_usd, usd or 0.0, "usd"),
        ):
            if limit is not None and used + more > limit:
                raise ProviderError(Cause.BUDGET, f"judge.budget.{unit}: {limit}")

    def _count(self, ticket: Ticket) -> None:
        self._next = max(self._next, ticket.number) + 1
        self._open[ticket.number] = ticket
        for spent in self._sums(ticket.judge):
            spent.calls += 1
            spent.unsettled += 1
            spent.reserved_tokens += ticket.tokens
            spent.reserved_usd += ticket.usd or 0.0
            spent.unpriced += ticket.usd is None

    def _settle(self, ticket: Ticket, usage: Usage, usd: float | None, *, ok: bool) -> None:
        del self._open[ticket.number]
        for spent in self._sums(ticket.judge):
            spent.unsettled -= 1
            spent.failed += not ok
            spent.reserved_tokens -= ticket.tokens
            spent.reserved_usd -= ticket.usd or 0.0
            spent.usage = spent.usage + usage
            spent.usd += usd or 0.0
        if not self._open:
            # Sums of differences: what rounding has left is not money.
            for spent in (self.total, *self.by_judge.values()):
                spent.reserved_usd = 0.0

    def _sums(self, judge: str) -> tuple[Spent, Spent]:
        return self.total, self.by_judge.setdefault(judge, Spent())

    def _write(self, line: Mapping[str, object]) -> None:
        if self.path is not None:
            # One write of one line: a kill leaves it whole or cuts the last one.
            self._append((json.dumps(line, allow_nan=False) + "\n").encode())

    def _append(self, data: bytes) -> None:
        assert self.path is not None
        try:
            if self._file is None:
                self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if (written := os.write(self._file, data)) < len(data):
                # A full disk takes a part: the next line must not be glued to it.
                os.ftruncate(self._file, os.fstat(self._file).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise JudgeError(
                f"{self.path}: the ledger of the judges cannot be written "
                f"({error.strerror or error}); nothing more is sent without it"
            ) from error

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            # A line is written before its request is sent: half a line is no request.
            os.truncate(path, whole)
        text = content[:whole].decode("utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                self._replay(cast("dict[str, object]", json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                raise JudgeError(
                    f"{path}, line {number}: not an entry of the ledger ({error}). It was edited "
                    "or damaged; without it the budget cannot be held. Restore the line."
                ) from error

    def _replay(self, entry: Mapping[str, object]) -> None:
        number = int(str(entry["id"]))
        if entry["event"] == "sent":
            usd = entry["most_usd"]
            self._count(
                Ticket(
                    number,
                    str(entry["judge"]),
                    int(str(entry["most_tokens"])),
                    None if usd is None else float(str(usd)),
                )
            )
            return
        usage = Usage(
            *(int(str(entry[key])) for key in ("input", "cached", "cache_write", "output"))
        )
        usd = entry["usd"]
        self._settle(
            self._open[number],
            usage,
            None if usd is None else float(str(usd)),
            ok=bool(entry["ok"]),
        )

    def sync(self) -> None:
        """Force the file to the disk."""
        if self._file is not None:
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
