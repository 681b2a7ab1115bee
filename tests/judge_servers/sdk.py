"""Requests through the real SDKs; not imported by the package, which needs neither of them."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai

from judge_servers.server import JudgeServer

KEY = "sk-test-0123456789"
SYSTEM = "You are a judge."


def client(server: JudgeServer, timeout: float = 5.0, retries: int = 0) -> Any:
    """The SDK's client, on an http client that loads no certificates (20 ms) and asks no proxy."""
    make: Any = openai.AsyncOpenAI if server.wire == "openai" else anthropic.AsyncAnthropic
    # anthropic's DefaultAsyncHttpxClient reads HTTP_PROXY even with trust_env=False.
    plain = httpx2.AsyncClient(
        verify=False, trust_env=False, limits=httpx2.Limits(max_connections=None)
    )
    return make(
        base_url=server.base_url,
        api_key=KEY,
        max_retries=retries,
        timeout=timeout,
        http_client=plain,
    )


async def call(sdk: Any, prompt: str = "Is it so?", **more: Any) -> Any:
    """One request in the way of the client's own SDK."""
    messages: Any = [{"role": "user", "content": prompt}]
    if isinstance(sdk, openai.AsyncOpenAI):
        messages.insert(0, {"role": "system", "content": SYSTEM})
        return await sdk.chat.completions.create(model="judge", messages=messages, **more)
    return await sdk.messages.create(
        model="judge", system=SYSTEM, messages=messages, max_tokens=200, **more
    )


def ask(server: JudgeServer, *prompts: str, timeout: float = 5.0, **more: Any) -> Any:
    """The last reply to requests made one after the other by a fresh client."""

    async def run() -> Any:
        reply = None
        async with client(server, timeout) as sdk:
            for prompt in prompts or ("Is it so?",):
                reply = await call(sdk, prompt, **more)
        return reply

    return asyncio.run(run())


def text_of(reply: Any) -> str | None:
    """The text of a reply of either SDK; None where it has none."""
    if hasattr(reply, "content"):
        return reply.content[0].text if reply.content else None
    return reply.choices[0].message.content if reply.choices else None


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Waits; for instance, the server learns of a client's end a moment later than the client."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)
