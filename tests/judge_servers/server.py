"""The server: HTTP/1.1 with keep-alive on an event loop in a thread of its own."""

import asyncio
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from judge_servers import wires
from judge_servers.brains import Brain
from judge_servers.connections import Connection, Incoming, head
from judge_servers.faults import STATUS, Arrival, Fault, FaultPlan, Kind
from judge_servers.log import NO_USAGE, Log, Request, Usage
from judge_servers.wires import NO_CACHE, Answer, CacheShares, Wire

_BACKLOG = 1024
_ACCEPTING = 4
"""Turns of the loop within which a connection accepted just before has become a Connection."""
_NO_FAULTS = FaultPlan.always(None)


@dataclass(frozen=True, slots=True)
class _Call:
    """A request that was let in or refused, and is to be played out."""

    log: Log
    """Where it stands; a reset gives the server another one meanwhile."""
    number: int
    body: dict[str, Any]
    fault: Fault | None
    refusal: Answer | None
    """To be sent at once."""


class JudgeServer:
    """A judge on 127.0.0.1, from ``start()`` (or ``with``) to ``stop()``.

    A request's way: 503 if the server is down; 404 or 400 if path or body is wrong; the fault plan;
    an error status goes out at once, everything else after ``delay`` seconds. ``delay`` and
    ``down`` may be set while it runs. Counters and log stay readable after it has stopped, and a
    second ``start()`` takes the same port again.

    Args:
        wire: Whose format it speaks.
        brain: Gives the verdicts.
        faults: What goes wrong; None: nothing.
        delay: Seconds that an answer takes.
        keep_bodies: False keeps only the digests of the prompts, for thousands of requests.
        cache: Shares of the prompt that its usage reports as read from or written to a cache.
        port: 0 for any free one.
    """

    def __init__(
        self,
        wire: Wire,
        brain: Brain,
        faults: FaultPlan | None = None,
        delay: float = 0.0,
        *,
        keep_bodies: bool = True,
        cache: CacheShares | None = None,
        port: int = 0,
    ) -> None:
        self.wire: Wire = wire
        self.brain = brain
        self.delay = delay
        self.down = False
        self.port = port
        self._plan = faults or _NO_FAULTS
        self._keep_bodies = keep_bodies
        self._cache = cache or NO_CACHE
        self._state = threading.Lock()
        self._log = Log()
        self._decide = self._plan.start()
        self._connections: set[Connection] = set()
        self._failures: list[BaseException] = []
        self._in_work = 0
        self._thread: threading.Thread | None = None

    # What a test reads.

    @property
    def base_url(self) -> str:
        """What the SDK's client wants as ``base_url``."""
        return f"http://127.0.0.1:{self.port}" + ("/v1" if self.wire == "openai" else "")

    @property
    def requests(self) -> tuple[Request, ...]:
        """All requests so far, in the order of arrival."""
        return self._log.requests

    @property
    def calls(self) -> int:
        """Number of requests so far."""
        return self._log.calls

    @property
    def outcomes(self) -> Counter[str]:
        """How many requests had which outcome."""
        return self._log.outcomes

    @property
    def peak_concurrency(self) -> int:
        """Most requests in work at once; one that hangs counts until its client is gone."""
        return self._log.peak

    @property
    def usage(self) -> Usage:
        """Sum over the answers that went out whole."""
        return self._log.usage

    def reset(self) -> None:
        """Begins log, counters and fault plan anew; ``down`` and ``delay`` stay as they are."""
        with self._state:
            self._log = Log()
            self._decide = self._plan.start()

    def report(self) -> dict[str, Any]:
        """The counters as JSON."""
        repeats = Counter(request.digest for request in self.requests)
        usage = self.usage
        return {
            "wire": self.wire,
            "base_url": self.base_url,
            "calls": self.calls,
            "answered": sum(request.answered for request in self.requests),
            "peak_concurrency": self.peak_concurrency,
            "distinct_prompts": len(repeats),
            "most_repeats": max(repeats.values(), default=0),
            "outcomes": dict(sorted(self.outcomes.items())),
            "usage": {name: getattr(usage, name) for name in usage.__slots__},
        }

    # Life.

    def __enter__(self) -> "JudgeServer":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        except Exception as own:
            if error is None:
                raise
            # The test's own failure comes first; the server's may well be its cause.
            error.add_note(f"The {self.wire} judge server failed too: {own!r}")

    def start(self) -> None:
        """Binds, and accepts connections from now on."""
        if self._thread is not None:
            raise RuntimeError("the server is running")
        listener = socket.create_server(("127.0.0.1", self.port), backlog=_BACKLOG)
        self.port = listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(
            target=self._run, args=(listener,), name=f"judge-{self.wire}-{self.port}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Drops every connection and ends the thread.

        Raises:
            Exception: What the brain raised, if it did.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join()
        if self._failures:
            failure, others = self._failures[0], len(self._failures) - 1
            self._failures.clear()
            failure.add_note(f"raised while the judge server answered; {others} more like it")
            raise failure

    def _run(self, listener: socket.socket) -> None:
        with listener, asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._live(listener))

    async def _live(self, listener: socket.socket) -> None:
        server = await self._loop.create_server(
            lambda: Connection(self._serve, self._connections, self._failures),
            sock=listener,
            backlog=_BACKLOG,
        )
        await self._stopping.wait()
        # Accept no more before closing: what is accepted while the server closes, asyncio leaks.
        self._loop.remove_reader(listener)
        for _ in range(_ACCEPTING):
            await asyncio.sleep(0)
        server.close()
        await asyncio.gather(*(connection.drop() for connection in self._connections))

    # A request's way.

    def _refusal(
        self, incoming: Incoming, body: dict[str, Any] | None
    ) -> tuple[str, Answer] | None:
        """Outcome and answer of a request that never reaches the plan."""
        if self.down:
            return "down", wires.refuse(self.wire, 503)
        if incoming.method != "POST" or incoming.path != wires.PATHS[self.wire]:
            return "invalid", wires.refuse(self.wire, 404, f"No such page: {incoming.path}")
        if (problem := wires.problem(self.wire, body)) is not None:
            return "invalid", wires.refuse(self.wire, 400, problem)
        return None

    def _arrive(self, incoming: Incoming) -> _Call:
        """Decides and logs; without an await, so that bursts are counted exactly."""
        now = time.monotonic()
        body = incoming.json()
        key = wires.api_key(incoming.headers)
        with self._state:
            log, fault = self._log, None
            outcome, refusal = self._refusal(incoming, body) or ("ok", None)
            if refusal is None:
                fault = self._decide(Arrival(wires.digest(body), self._in_work - 1, now))
            if fault is not None:
                outcome = fault.kind.value
                if fault.kind in STATUS:
                    refusal = wires.fault_status(self.wire, fault, key)
            request = Request(
                time=now,
                path=incoming.path,
                body=body if self._keep_bodies else None,
                digest=wires.prompt_digest(body or {}),
                api_key=key,
                outcome=outcome,
            )
            number = log.open(request, self._in_work)
        return _Call(log, number, body or {}, fault, refusal)

    async def _serve(self, connection: Connection, incoming: Incoming) -> None:
        self._in_work += 1
        answer = None
        try:
            call = self._arrive(incoming)
            try:
                answer = call.refusal
                if answer is not None:
                    self._send(connection, call, answer)
                elif await self._thinks(connection, call):
                    answer = self._answer(call)
                    await self._deliver(connection, call, answer)
            finally:
                self._end(call, answer, answered=False)
        finally:
            self._in_work -= 1

    def _end(self, call: _Call, answer: Answer | None, *, answered: bool) -> None:
        """Logs the end of a request; what is told first holds."""
        call.log.close(
            call.number,
            status=None if answer is None else answer.status,
            usage=NO_USAGE if answer is None else answer.usage,
            answered=answered,
            time=time.monotonic(),
        )

    def _send(
        self, connection: Connection, call: _Call, answer: Answer, data: bytes | None = None
    ) -> None:
        """Sends the answer, or the rest of it."""
        # Logged first: the client may ask for the counters as soon as the last byte is out.
        self._end(call, answer, answered=not connection.gone)
        connection.write(head(answer) + answer.body if data is None else data)

    async def _thinks(self, connection: Connection, call: _Call) -> bool:
        """Waits until an answer is due; False where there will be none."""
        kind = call.fault and call.fault.kind
        if kind is Kind.HANG:
            return await connection.stays(None)
        if self.delay > 0 and not await connection.stays(self.delay):
            return False
        if kind is Kind.RESET:
            self._end(call, None, answered=False)
            connection.reset()
            return False
        return True

    def _answer(self, call: _Call) -> Answer:
        verdict = self.brain("\n\n".join(wires.prompt_texts(call.body)))
        kind = call.fault and call.fault.kind
        return wires.reply(self.wire, call.body, verdict, kind, self._cache)

    async def _deliver(self, connection: Connection, call: _Call, answer: Answer) -> None:
        """Sends the answer, or what the fault leaves of it."""
        fault = call.fault
        if fault is not None and fault.kind is Kind.HANG_AFTER_HEADERS:
            connection.write(head(answer))
            await connection.stays(None)
        elif fault is not None and fault.kind is Kind.CUT:
            self._end(call, answer, answered=False)
            connection.write(head(answer) + answer.body[: len(answer.body) // 2])
            connection.close()
        elif fault is not None and fault.kind is Kind.DRIP:
            connection.write(head(answer))
            for at in range(len(answer.body) - 1):
                connection.write(answer.body[at : at + 1])
                if not await connection.stays(fault.byte_delay):
                    return
            self._send(connection, call, answer, answer.body[-1:])
        else:
            self._send(connection, call, answer)
