"""The loopback judges through the real SDKs: what arrives for each fault, on either wire."""

import asyncio
import json
import time
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import anthropic
import openai
import pytest
from pydantic import BaseModel, Field

from judge_servers import (
    CacheShares,
    Fault,
    FaultPlan,
    JudgeServer,
    Kind,
    Usage,
    constant,
    count_tokens,
    custom,
)
from judge_servers.sdk import KEY, ask, call, client, text_of, until

WIRES = ("openai", "anthropic")
RIGHT = {"reason": "It is always right.", "verdict": "right", "confidence": 0.9}
TEXT = json.dumps(RIGHT)
TOOL = {"name": "give", "input_schema": {"type": "object"}}


class Ruling(BaseModel):
    reason: str
    verdict: Literal["right", "abstains", "wrong"]
    confidence: float = Field(ge=0, le=1)


def always(wire: Any, step: Any) -> JudgeServer:
    return JudgeServer(wire, constant("right"), FaultPlan.always(step))


# What arrives when nothing goes wrong.


def test_an_openai_answer_has_every_field_a_client_reads() -> None:
    with JudgeServer("openai", constant("right"), cache=CacheShares(read=0.5)) as server:
        reply = ask(server)
    choice = reply.choices[0]
    assert (choice.message.content, choice.message.refusal) == (TEXT, None)
    assert (choice.finish_reason, reply.model) == ("stop", "judge-2026-01-01")
    # "You are a judge ." and "Is it so ?": 5 + 4 tokens, half of them, rounded down, cached.
    assert (reply.usage.prompt_tokens, reply.usage.prompt_tokens_details.cached_tokens) == (9, 4)
    assert reply.usage.completion_tokens == count_tokens(TEXT)
    assert reply.usage.total_tokens == 9 + count_tokens(TEXT)
    assert server.usage == Usage(9, count_tokens(TEXT), 4)


def test_an_anthropic_answer_has_every_field_a_client_reads() -> None:
    shares = CacheShares(read=0.5, written=0.25)
    with JudgeServer("anthropic", constant("right"), cache=shares) as server:
        reply = ask(server)
    assert (text_of(reply), reply.stop_reason) == (TEXT, "end_turn")
    assert reply.model == "judge-2026-01-01"
    # Of 9 tokens 4 are read and 2 written; this wire counts them beside the input.
    usage = reply.usage
    assert (usage.input_tokens, usage.output_tokens) == (3, count_tokens(TEXT))
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (4, 2)
    assert server.usage == Usage(3, count_tokens(TEXT), 4, 2)


def test_a_forced_tool_gets_the_verdict_as_its_input() -> None:
    with always("anthropic", None) as server:
        forced = ask(server, tools=[TOOL], tool_choice={"type": "tool", "name": "give"})
        free = ask(server, tools=[TOOL], tool_choice={"type": "auto"})
    assert (forced.content[0].input, forced.stop_reason) == (RIGHT, "tool_use")
    assert (text_of(free), free.stop_reason) == (TEXT, "end_turn")


@pytest.mark.parametrize(
    ("kind", "content", "stop"),
    [
        ("truncated_json", {"reason": RIGHT["reason"]}, "max_tokens"),
        ("wrong_schema", {"score": 97}, "tool_use"),
        ("out_of_range", {**RIGHT, "confidence": 7}, "tool_use"),
        ("fenced_json", f"```json\n{TEXT}\n```", "end_turn"),
        ("refusal", None, "refusal"),
    ],
)
def test_a_forced_tool_is_spoilt_as_well(kind: str, content: Any, stop: str) -> None:
    with always("anthropic", kind) as server:
        reply = ask(server, tools=[TOOL], tool_choice={"type": "any"})
    blocks = reply.content
    seen = None if not blocks else blocks[0].text if blocks[0].type == "text" else blocks[0].input
    assert (seen, reply.stop_reason) == (content, stop)


def test_both_sdks_parse_an_answer_into_a_model() -> None:
    async def run(server: JudgeServer) -> Any:
        messages: Any = [{"role": "user", "content": [{"type": "text", "text": "Well?"}]}]
        async with client(server) as sdk:
            if server.wire == "openai":
                reply = await sdk.chat.completions.parse(
                    model="judge", messages=messages, response_format=Ruling
                )
                return reply.choices[0].message.parsed
            reply = await sdk.messages.parse(
                model="judge", messages=messages, max_tokens=200, output_format=Ruling
            )
            return reply.parsed_output

    for wire in WIRES:
        # Blocks of text count as the prompt; such a verdict is outside the enumeration.
        odd = JudgeServer(wire, custom(lambda prompt: f"{prompt == 'Well?'}"))
        with odd as server, pytest.raises(ValueError, match="input_value='True'"):
            asyncio.run(run(server))
        with always(wire, None) as server:
            assert asyncio.run(run(server)) == Ruling.model_validate(RIGHT)


# What arrives for each fault. Error status and transport:

ERRORS = {
    "rate_limit_after": (429, openai.RateLimitError, anthropic.RateLimitError),
    "rate_limit": (429, openai.RateLimitError, anthropic.RateLimitError),
    "server_500": (500, openai.InternalServerError, anthropic.InternalServerError),
    "unavailable_503": (503, openai.InternalServerError, anthropic.InternalServerError),
    "overloaded_529": (529, openai.InternalServerError, anthropic.InternalServerError),
    "unauthorized_401": (401, openai.AuthenticationError, anthropic.AuthenticationError),
    "bad_request_400": (400, openai.BadRequestError, anthropic.BadRequestError),
    "not_found_404": (404, openai.NotFoundError, anthropic.NotFoundError),
    "hang": (None, openai.APITimeoutError, anthropic.APITimeoutError),
    "hang_after_headers": (200, openai.APITimeoutError, anthropic.APITimeoutError),
    "reset": (None, openai.APIConnectionError, anthropic.APIConnectionError),
    "cut": (200, openai.APIConnectionError, anthropic.APIConnectionError),
}
# Finer classes that only one SDK has; they are subclasses of what the table says.
FINER = {
    ("unavailable_503", "anthropic"): "ServiceUnavailableError",
    ("overloaded_529", "anthropic"): "OverloadedError",
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("kind", ERRORS)
def test_a_failed_request_raises(wire: Literal["openai", "anthropic"], kind: str) -> None:
    status, *classes = ERRORS[kind]
    expected = classes[WIRES.index(wire)]
    slow = kind.startswith("hang")
    with always(wire, kind) as server:
        with pytest.raises(expected) as caught:
            ask(server, timeout=0.2 if slow else 5.0)
        until(lambda: server.requests[0].finished is not None)
    assert type(caught.value).__name__ == FINER.get((kind, wire), expected.__name__)
    request = server.requests[0]
    assert (server.calls, request.outcome, request.status) == (1, kind, status)
    # A fault that is an answer went out whole; the others left the client without one.
    assert request.answered == (kind not in ("hang", "hang_after_headers", "reset", "cut"))
    assert server.usage == Usage()
    if request.answered:
        assert getattr(caught.value, "status_code", None) == status


# Content: text, finish_reason of openai, stop_reason of anthropic.
CONTENTS = {
    "truncated_json": (TEXT[: TEXT.index('"right"') + 3], "length", "max_tokens"),
    "wrong_schema": ('{"score": 97}', "stop", "end_turn"),
    "out_of_range": (json.dumps({**RIGHT, "confidence": 7}), "stop", "end_turn"),
    "bad_enum": (json.dumps({**RIGHT, "verdict": "excellent"}), "stop", "end_turn"),
    "fenced_json": (f"```json\n{TEXT}\n```", "stop", "end_turn"),
    "empty_content": ("", "stop", "end_turn"),
    "null_content": (None, "stop", "end_turn"),
    "empty_choices": (None, None, "end_turn"),
    "refusal": (None, "stop", "refusal"),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("kind", CONTENTS)
def test_a_spoilt_answer_arrives(wire: Literal["openai", "anthropic"], kind: str) -> None:
    text, finish, stop = CONTENTS[kind]
    with always(wire, kind) as server:
        reply = ask(server)
    assert text_of(reply) == text
    if wire == "anthropic":
        assert reply.stop_reason == stop
        assert (reply.content is None) == (kind == "null_content")
        told = (reply.usage.input_tokens, reply.usage.output_tokens)
    else:
        assert [choice.finish_reason for choice in reply.choices] == [finish] * bool(finish)
        if kind == "refusal":
            assert reply.choices[0].message.refusal.startswith("I'm sorry")
        told = (reply.usage.prompt_tokens, reply.usage.completion_tokens)
    # Useless answers cost as much as others.
    assert server.usage == Usage(*told)
    assert told[0] == 9


@pytest.mark.parametrize("wire", WIRES)
def test_answers_that_the_sdks_let_through(wire: Literal["openai", "anthropic"]) -> None:
    steps = ["prose_json", "html", "error_on_200"]
    with JudgeServer(wire, constant("right"), FaultPlan.script(steps)) as server:
        prose, html, error = (ask(server) for _ in steps)
    assert text_of(prose).endswith(f"\n\n{TEXT}")
    # Neither SDK minds: a str, and an object whose required fields are None.
    assert isinstance(html, str)
    assert html.startswith("<!doctype html>")
    assert (error.choices if wire == "openai" else error.content) is None
    assert error.error["message"] == "Internal server error."


@pytest.mark.parametrize("wire", WIRES)
def test_a_dripped_answer_outlives_the_timeout_of_the_sdk(
    wire: Literal["openai", "anthropic"],
) -> None:
    async def run(server: JudgeServer, deadline: float) -> Any:
        async with asyncio.timeout(deadline), client(server, timeout=0.2) as sdk:
            return await call(sdk)

    with always(wire, Fault(Kind.DRIP, byte_delay=0.001)) as server:
        begun = time.monotonic()
        assert text_of(asyncio.run(run(server, 10))) == TEXT
        # A body has more than 300 bytes, each of which begins the SDK's timeout anew.
        assert time.monotonic() - begun > 0.3
        with pytest.raises(TimeoutError):
            asyncio.run(run(server, 0.2))
        until(lambda: server.requests[1].finished is not None)
    assert [request.answered for request in server.requests] == [True, False]
    assert server.usage == server.requests[0].usage


def test_a_refused_key_is_quoted_in_the_message() -> None:
    for wire, error in zip(
        WIRES, (openai.AuthenticationError, anthropic.AuthenticationError), strict=True
    ):
        with always(wire, "unauthorized_401") as server, pytest.raises(error, match=KEY):
            ask(server)
        assert server.requests[0].api_key == KEY


@pytest.mark.parametrize("wire", WIRES)
def test_retry_after_in_seconds_as_a_date_and_as_nonsense(
    wire: Literal["openai", "anthropic"],
) -> None:
    kind = Kind.RATE_LIMIT_AFTER
    steps = [
        Fault(kind, retry_after=2.5),
        Fault(kind, retry_after=90, http_date=True),
        Fault(kind, retry_after="soon"),
        Kind.RATE_LIMIT,
    ]
    headers = []
    with JudgeServer(wire, constant("right"), FaultPlan.script(steps)) as server:
        for _ in steps:
            with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)) as caught:
                ask(server)
            headers.append(caught.value.response.headers.get("retry-after"))
    assert headers[0] == "2.5"
    # The date is rounded up to a whole second, so waiting for it is never too short.
    assert 85 < parsedate_to_datetime(headers[1]).timestamp() - time.time() <= 91
    assert headers[2:] == ["soon", None]


@pytest.mark.parametrize("wire", WIRES)
def test_an_sdk_that_retries_waits_as_told(wire: Literal["openai", "anthropic"]) -> None:
    async def run(server: JudgeServer) -> Any:
        async with client(server, retries=1) as sdk:
            return await call(sdk)

    plan = FaultPlan.script([Fault(Kind.RATE_LIMIT_AFTER, retry_after=0.3)])
    with JudgeServer(wire, constant("right"), plan) as server:
        assert text_of(asyncio.run(run(server))) == TEXT
    first, second = server.requests
    assert (first.outcome, second.outcome, second.answered) == ("rate_limit_after", "ok", True)
    assert second.time - first.time >= 0.3
    assert first.digest == second.digest
