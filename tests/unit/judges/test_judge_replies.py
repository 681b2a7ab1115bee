"""Replies of no known shape are failures, neither crashes nor verdicts."""

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from judge_stage import (
    QUICK,
    WIRES,
    ask,
    failures,
    opinions,
    questions,
    serving,
    settings,
)

from grpo_dual.judges.client import (
    Cause,
    Verdict,
)
from grpo_dual.judges.http import retry_after
from judge_servers import (
    Wire,
)

both_wires = pytest.mark.parametrize("wire", WIRES)


OPENAI = {
    "choices": [{"message": {"role": "assistant", "content": "?"}, "finish_reason": "stop"}],
    "model": "m",
    "usage": {"prompt_tokens": 50, "completion_tokens": 5},
}
ANTHROPIC = {
    "type": "message",
    "content": [{"type": "text", "text": "?"}],
    "model": "m",
    "usage": {"input_tokens": 50, "output_tokens": 5},
    "stop_reason": "end_turn",
}
GOOD = json.dumps({"reason": "so", "verdict": "right", "confidence": 1})


def _filled(reply: Mapping[str, Any], **changes: object) -> bytes:
    text = json.dumps({**reply, **changes}).replace('"?"', json.dumps(GOOD))
    return text.encode()


def _without(reply: Mapping[str, Any], key: str) -> bytes:
    return _filled({name: value for name, value in reply.items() if name != key})


class _Raw(http.server.BaseHTTPRequestHandler):
    body = b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


@contextlib.contextmanager
def raw_server() -> Iterator[tuple[str, Callable[[bytes], None]]]:
    handler = type("Handler", (_Raw,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", lambda b: setattr(handler, "body", b)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


BROKEN = (b"", b"{", b"\xff\xfe", b"null", b"7", b'"text"', b"[]", b"{}", b'{"choices": [1', b"NaN")


@both_wires
def test_no_reply_whatever_its_shape_is_a_crash_or_a_verdict(wire: Wire) -> None:
    shapes: tuple[bytes, ...]
    if wire == "openai":
        shapes = (
            *(_filled(OPENAI, choices=value) for value in (None, "x", {}, [None], ["x"], [[]])),
            *(
                _filled(OPENAI, choices=[value])
                for value in ({}, {"message": "hi"}, {"message": 7})
            ),
            _filled(OPENAI, choices=[{"message": {"content": [{"type": "text"}]}}]),
            _filled(OPENAI, choices=[{"message": {"content": 7}}]),
        )
    else:
        shapes = (
            *(_filled(ANTHROPIC, content=value) for value in (None, "x", {}, [None], ["x"], [[]])),
            *(
                _filled(ANTHROPIC, content=[value])
                for value in ({}, {"type": "text"}, {"text": "x"})
            ),
            _filled(ANTHROPIC, content=[{"type": "text", "text": 7}]),
            _filled(ANTHROPIC, content=[{"type": "tool_use", "input": {"verdict": "right"}}]),
        )
    retry = {**QUICK, "attempts": 1}
    with raw_server() as (url, answer):
        base_url = f"{url}/v1" if wire == "openai" else url
        one = {"kind": wire, "model": "m", "api_key": "env:JUDGE_TEST_KEY", "base_url": base_url}
        config = settings({"one": one}, retry=retry, breaker={"failures": 1000})
        with serving(config) as service:
            for number, shape in enumerate((*BROKEN, *shapes)):
                answer(shape)
                (failure,) = failures(ask(service, questions(1, number)))
                assert failure.cause in (Cause.INVALID, Cause.SERVER), (shape, failure)


@both_wires
def test_a_reply_may_lack_all_but_its_text(wire: Wire) -> None:
    """Of what a server does not count, the most that it can have taken is counted."""
    reply = OPENAI if wire == "openai" else ANTHROPIC
    uncounted = [
        _filled(reply, usage=value) for value in (None, {}, "x", [], {"input_tokens": "5"})
    ]
    bare = [_without(reply, key) for key in ("model", "usage", "stop_reason")]
    with raw_server() as (url, answer):
        base_url = f"{url}/v1" if wire == "openai" else url
        one = {"kind": wire, "model": "m", "api_key": "none", "base_url": base_url}
        with serving(settings({"one": one})) as service:
            for number, shape in enumerate((*uncounted, *bare)):
                answer(shape)
                (opinion,) = opinions(ask(service, questions(1, number)))
                assert opinion.verdict is Verdict.RIGHT, shape
                spent = service.take_spent()["one"]
                counted = json.loads(shape).get("usage") == reply["usage"]
                assert (spent.usage.tokens == 55) is counted, shape
                assert spent.usage.tokens == 55 or spent.usage.tokens > 1000, shape


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("Mon, 1 Jan 99999 00:00:00 GMT", None),
        (None, None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after({} if header is None else {"retry-after": header}) == seconds
    assert retry_after(None) is None
