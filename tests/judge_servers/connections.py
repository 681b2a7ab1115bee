"""HTTP/1.1 with keep-alive, as much of it as the clients of the two SDKs speak."""

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, TypeAlias

from judge_servers.wires import Answer

_REASONS = {**{status.value: status.phrase for status in HTTPStatus}, 529: "Overloaded"}


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as read from the socket."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @classmethod
    def take(cls, buffer: bytearray) -> "Incoming | None":
        """Cuts the first request off the buffer; None while it is incomplete."""
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = bytes(buffer[:end]).decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        stop = end + 4 + int(headers.get("content-length", "0"))
        if len(buffer) < stop:
            return None
        body = bytes(buffer[end + 4 : stop])
        del buffer[:stop]
        return cls(method, path, headers, body)

    def json(self) -> dict[str, Any] | None:
        """The body; None where it is not a JSON object."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return None
        return value if isinstance(value, dict) else None


def head(answer: Answer) -> bytes:
    """Status line and headers, which promise the whole body."""
    lines = [
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}",
        f"date: {formatdate(usegmt=True)}",
        f"content-type: {answer.content_type}",
        f"content-length: {len(answer.body)}",
        *(f"{name}: {value}" for name, value in answer.headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Connection(asyncio.Protocol):
    """One client's connection; its requests are served one after the other.

    Args:
        serve: Answers a request.
        alive: Where the connection enters itself while it lasts.
        failures: Where it leaves what ``serve`` raised; its client sees the connection end.
    """

    def __init__(
        self, serve: "Serve", alive: "set[Connection]", failures: list[BaseException]
    ) -> None:
        self._serve = serve
        self._alive = alive
        self._failures = failures
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._last = False
        self._gone = asyncio.Event()
        self._lost = asyncio.Event()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._alive.add(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def eof_received(self) -> None:
        self._gone.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._gone.set()
        self._lost.set()
        self._alive.discard(self)

    def _next(self) -> None:
        if self._task is None and (incoming := Incoming.take(self._buffer)) is not None:
            self._last = incoming.headers.get("connection", "").lower() == "close"
            self._task = asyncio.get_running_loop().create_task(self._serve(self, incoming))
            self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._failures.append(error)
            self._transport.abort()
        elif self._last:
            self._transport.close()
        elif not self.gone:
            self._next()

    @property
    def gone(self) -> bool:
        """True when nothing can be sent any more."""
        return self._gone.is_set() or self._transport.is_closing()

    async def stays(self, seconds: float | None) -> bool:
        """Waits so long (None: for ever); False as soon as the client is gone."""
        try:
            async with asyncio.timeout(seconds):
                await self._gone.wait()
        except TimeoutError:
            return True
        return False

    def write(self, data: bytes) -> None:
        """Sends, if anybody is there to read it."""
        if not self.gone:
            self._transport.write(data)

    def close(self) -> None:
        """Hangs up once everything written is out."""
        self._transport.close()

    def reset(self) -> None:
        """Ends the connection with RST instead of FIN."""
        linger = struct.pack("ii", 1, 0)
        raw = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()

    async def drop(self) -> None:
        """Gives up the request in work, if any, and waits until the socket is closed."""
        task = self._task
        if task is not None:
            task.cancel()
        self._transport.abort()
        await self._lost.wait()
        if task is not None:
            await asyncio.wait([task])


Serve: TypeAlias = Callable[[Connection, Incoming], Coroutine[Any, Any, None]]
