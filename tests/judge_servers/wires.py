"""The two wire formats: what stands in a request, and the bytes of each answer, right or not."""

import hashlib
import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Literal, TypeAlias

from judge_servers.faults import STATUS, Fault, Kind
from judge_servers.log import NO_USAGE, Usage

Wire: TypeAlias = Literal["openai", "anthropic"]

PATHS: Mapping[Wire, str] = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
REQUIRED: Mapping[Wire, tuple[str, ...]] = {
    "openai": ("model", "messages"),
    "anthropic": ("model", "messages", "max_tokens"),
}
# Type and code of the openai error, type of the anthropic one, message.
_ERRORS = {
    400: ("invalid_request_error", None, "invalid_request_error", "The request is malformed."),
    401: ("invalid_request_error", "invalid_api_key", "authentication_error", "Incorrect API key."),
    404: ("invalid_request_error", "model_not_found", "not_found_error", "No such model or page."),
    429: ("requests", "rate_limit_exceeded", "rate_limit_error", "Rate limit reached."),
    500: ("server_error", None, "api_error", "Internal server error."),
    503: ("server_error", None, "api_error", "The service is unavailable."),
    529: ("server_error", "overloaded", "overloaded_error", "Overloaded."),
}
_HTML = b"<!doctype html><html><title>Sign in</title><body>Captive portal</body></html>"
_PROSE = "Having weighed the text against its sources, this is what I think of it:\n\n"
_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it goes out."""

    status: int
    body: bytes
    usage: Usage = NO_USAGE
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CacheShares:
    """Shares of the prompt that the answer reports as cached; they are stated, not computed."""

    read: float = 0.0
    written: float = 0.0
    """Reported by anthropic only."""


NO_CACHE = CacheShares()


@dataclass(frozen=True, slots=True)
class _Said:
    """What the model says, before it is put into either wire's shape."""

    text: str | None
    parsed: Mapping[str, Any] | None
    """The same as a tool's input; None where it can only be said as text."""
    ending: Literal["stop", "length", "refusal"] = "stop"


def _strings(content: Any) -> Iterator[str]:
    """Text of a message's content, which is a string or a list of blocks."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        yield from (
            block["text"]
            for block in content
            if isinstance(block, dict) and isinstance(block.get("text"), str)
        )


def prompt_texts(body: Mapping[str, Any]) -> list[str]:
    """The system text and the texts of all messages, in order."""
    texts = list(_strings(body.get("system")))
    for message in body.get("messages") or []:
        texts.extend(_strings(message.get("content")))
    return texts


def prompt_digest(body: Mapping[str, Any]) -> str:
    """sha256 of system text and messages with their roles."""
    return digest({key: body.get(key) for key in ("system", "messages")})


def digest(value: Any) -> str:
    """sha256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def count_tokens(*texts: str) -> int:
    """Words and single signs: of the order of a real tokenizer's number, and always the same."""
    return sum(len(_TOKEN.findall(text)) for text in texts)


def api_key(headers: Mapping[str, str]) -> str:
    """The key that a request carries, "" if none."""
    return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")


def problem(wire: Wire, body: Mapping[str, Any] | None) -> str | None:
    """What a real server would refuse the body for."""
    if body is None:
        return "The body is not a JSON object."
    if missing := [key for key in REQUIRED[wire] if not body.get(key)]:
        return f"Missing required parameter: {', '.join(missing)}."
    messages = body["messages"]
    if not isinstance(messages, list) or not all(isinstance(entry, dict) for entry in messages):
        return "messages must be a list of objects."
    return "Streaming is not supported by this server." if body.get("stream") else None


def _error_body(wire: Wire, status: int, message: str | None) -> bytes:
    kind, code, anthropic_kind, usual = _ERRORS[status]
    message = message or usual
    if wire == "openai":
        error = {"message": message, "type": kind, "param": None, "code": code}
        return json.dumps({"error": error}).encode()
    error = {"type": anthropic_kind, "message": message}
    return json.dumps({"type": "error", "error": error, "request_id": "req_loopback"}).encode()


def refuse(wire: Wire, status: int, message: str | None = None) -> Answer:
    """An error status with the wire's error body."""
    return Answer(status, _error_body(wire, status, message))


def fault_status(wire: Wire, fault: Fault, key: str) -> Answer:
    """The answer to a fault that is an error status."""
    status = STATUS[fault.kind]
    # Some servers quote the key they refuse; a client must not let that reach its own log.
    message = f"Incorrect API key provided: {key}." if status == 401 else None
    headers: tuple[tuple[str, str], ...] = ()
    if fault.kind is Kind.RATE_LIMIT_AFTER:
        after = fault.retry_after
        if fault.http_date and not isinstance(after, str):
            after = formatdate(math.ceil(time.time() + after), usegmt=True)
        headers = (("retry-after", f"{after}"),)
    return Answer(status, _error_body(wire, status, message), headers=headers)


def _say(verdict: Mapping[str, Any], kind: Kind | None) -> _Said:
    right = {key: verdict[key] for key in ("reason", "verdict", "confidence")}
    match kind:
        case Kind.WRONG_SCHEMA:
            right = {"score": 97}
        case Kind.OUT_OF_RANGE:
            right["confidence"] = 7
        case Kind.BAD_ENUM:
            right["verdict"] = "excellent"
    text = json.dumps(right)
    match kind:
        case Kind.TRUNCATED_JSON:
            opening = '"verdict": '
            cut = text[: text.index(opening) + len(opening) + 3]
            return _Said(cut, {"reason": right["reason"]}, "length")
        case Kind.FENCED_JSON:
            return _Said(f"```json\n{text}\n```", None)
        case Kind.PROSE_JSON:
            return _Said(_PROSE + text, None)
        case Kind.EMPTY_CONTENT:
            return _Said("", None)
        case Kind.NULL_CONTENT:
            return _Said(None, None)
        case Kind.REFUSAL:
            return _Said("I'm sorry, I cannot assist with that request.", None, "refusal")
    return _Said(text, right)


def _openai(body: Mapping[str, Any], said: _Said, usage: Usage, empty: bool) -> dict[str, Any]:
    refused = said.ending == "refusal"
    message = {
        "role": "assistant",
        "content": None if refused else said.text,
        "refusal": said.text if refused else None,
    }
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": "length" if said.ending == "length" else "stop",
    }
    return {
        "id": f"chatcmpl-{digest(body)[:24]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": f"{body['model']}-2026-01-01",
        "choices": [] if empty else [choice],
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        },
    }


def _forced_tool(body: Mapping[str, Any]) -> str | None:
    """Name of the tool that the request insists on."""
    choice = body.get("tool_choice") or {}
    if not body.get("tools") or choice.get("type") not in ("tool", "any"):
        return None
    return choice.get("name") or body["tools"][0]["name"]


def _anthropic_content(body: Mapping[str, Any], said: _Said) -> list[dict[str, Any]] | None:
    if said.text is None:
        return None
    if said.ending == "refusal":
        return []
    tool = _forced_tool(body)
    if tool is not None and said.parsed is not None:
        number = f"toolu_{digest(body)[:24]}"
        return [{"type": "tool_use", "id": number, "name": tool, "input": dict(said.parsed)}]
    return [{"type": "text", "text": said.text}]


def _anthropic(body: Mapping[str, Any], said: _Said, usage: Usage, empty: bool) -> dict[str, Any]:
    content = [] if empty else _anthropic_content(body, said)
    used_tool = bool(content) and content[0]["type"] == "tool_use"
    endings = {
        "stop": "tool_use" if used_tool else "end_turn",
        "length": "max_tokens",
        "refusal": "refusal",
    }
    return {
        "id": f"msg_{digest(body)[:24]}",
        "type": "message",
        "role": "assistant",
        "model": f"{body['model']}-2026-01-01",
        "content": content,
        "stop_reason": endings[said.ending],
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cache_read_input_tokens": usage.cached_tokens,
            "cache_creation_input_tokens": usage.cache_written_tokens,
        },
    }


def _usage(wire: Wire, body: Mapping[str, Any], said: _Said, shares: CacheShares) -> Usage:
    total = count_tokens(*prompt_texts(body))
    read = int(total * shares.read)
    written = int(total * shares.written) if wire == "anthropic" else 0
    inside = total if wire == "openai" else total - read - written
    return Usage(inside, count_tokens(said.text or ""), read, written)


def reply(
    wire: Wire,
    body: Mapping[str, Any],
    verdict: Mapping[str, Any],
    kind: Kind | None = None,
    shares: CacheShares = NO_CACHE,
) -> Answer:
    """The answer with status 200, which a fault of content may spoil.

    Args:
        wire: Its format.
        body: The request, already found valid.
        verdict: What the brain said.
        kind: The fault; one that is not of content leaves the answer right.
        shares: What the usage tells of caches.
    """
    if kind is Kind.HTML:
        return Answer(200, _HTML, content_type="text/html; charset=utf-8")
    if kind is Kind.ERROR_ON_200:
        return Answer(200, _error_body(wire, 500, None))
    said = _say(verdict, kind)
    usage = _usage(wire, body, said, shares)
    shape = _openai if wire == "openai" else _anthropic
    value = shape(body, said, usage, kind is Kind.EMPTY_CHOICES)
    return Answer(200, json.dumps(value).encode(), usage)
