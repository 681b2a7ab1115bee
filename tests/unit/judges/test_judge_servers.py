"""The loopback judges: fault plans, the server's life, the process."""

import asyncio
import gc
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

import anthropic
import openai
import pytest

from judge_servers import (
    FaultPlan,
    JudgeServer,
    Usage,
    constant,
    deterministic,
)
from judge_servers.sdk import KEY, ask, call, client, text_of, until

WIRES = ("openai", "anthropic")


# Plans.


def outcomes_of(server: JudgeServer, prompts: list[str], at_once: int) -> dict[str, list[str]]:
    """Outcomes of three attempts per prompt, by the prompt."""

    async def run() -> None:
        gate = asyncio.Semaphore(at_once)

        async def one(sdk: Any, prompt: str) -> None:
            for _ in range(3):
                async with gate:
                    try:
                        await call(sdk, prompt)
                    except openai.APIError:
                        await asyncio.sleep(0)

        async with client(server) as sdk:
            await asyncio.gather(*(one(sdk, prompt) for prompt in prompts))

    asyncio.run(run())
    seen: dict[str, list[str]] = {prompt: [] for prompt in prompts}
    for request in server.requests:
        assert request.body is not None
        seen[request.body["messages"][1]["content"]].append(request.outcome)
    return seen


def test_random_faults_do_not_depend_on_the_order_of_arrival() -> None:
    plan = FaultPlan.random(0.4, seed=7)
    prompts = [f"Question {number}" for number in range(30)]
    with JudgeServer("openai", deterministic(0), plan) as server:
        one_by_one = outcomes_of(server, prompts, at_once=1)
        server.reset()
        random.Random(0).shuffle(prompts)
        crowded = outcomes_of(server, prompts, at_once=30)
    assert crowded == one_by_one
    faults = sum(outcome != "ok" for seen in crowded.values() for outcome in seen)
    # 90 draws of 0.4: 36 expected, standard deviation 4.6; the seed is fixed.
    assert 25 <= faults <= 47
    # Attempts are drawn one by one: some prompt fails first and passes later.
    assert any(seen[0] != "ok" and "ok" in seen for seen in crowded.values())


def test_another_seed_draws_other_faults() -> None:
    drawn = []
    for seed in (0, 1):
        with JudgeServer(
            "openai", constant("right"), FaultPlan.random(0.5, seed, ["rate_limit"])
        ) as server:
            prompts = [f"Question {number}" for number in range(10)]
            drawn.append(outcomes_of(server, prompts, at_once=5))
    assert drawn[0] != drawn[1]
    assert {"ok", "rate_limit"} == {
        outcome for plan in drawn for seen in plan.values() for outcome in seen
    }


def test_a_script_follows_arrivals_or_each_request_on_its_own() -> None:
    steps = ["server_500", None, "rate_limit"]
    for each, expected in ((False, "server_500 ok rate_limit ok"), (True, "server_500 " * 4)):
        plan = FaultPlan.script(steps, each=each)
        with JudgeServer("openai", constant("right"), plan) as server:
            for number in range(4):
                if expected.split()[number] == "ok":
                    ask(server, f"Question {number}")
                else:
                    with pytest.raises(openai.APIStatusError):
                        ask(server, f"Question {number}")
        assert [request.outcome for request in server.requests] == expected.split()


def test_an_unknown_fault_is_refused_when_the_plan_is_made() -> None:
    with pytest.raises(ValueError, match="rate_limits"):
        FaultPlan.always("rate_limits")


def test_a_burst_is_refused_while_others_are_in_work() -> None:
    async def run(server: JudgeServer) -> None:
        async with client(server) as sdk:
            first = [asyncio.create_task(call(sdk, f"{number}")) for number in range(2)]
            await asyncio.to_thread(until, lambda: server.calls == 2)
            with pytest.raises(openai.RateLimitError):
                await call(sdk)
            for task in first:
                task.cancel()
            await asyncio.gather(*first, return_exceptions=True)
            await asyncio.to_thread(until, lambda: all(r.finished for r in server.requests))
            await call(sdk)

    # Without | the first two would have to be timed; like this they stay as long as they must.
    plan = FaultPlan.burst_limit(2) | FaultPlan.script(["hang", "hang"])
    with JudgeServer("openai", constant("right"), plan) as server:
        asyncio.run(run(server))
    assert [request.outcome for request in server.requests] == ["hang", "hang", "rate_limit", "ok"]
    assert server.peak_concurrency == 3


def test_a_quota_per_window_says_when_the_next_request_passes() -> None:
    with JudgeServer("openai", constant("right"), FaultPlan.per_minute(2, window=0.5)) as server:
        ask(server, "1", "2")
        with pytest.raises(openai.RateLimitError) as caught:
            ask(server, "3")
        assert caught.value.response.headers["retry-after"] == "1"
        time.sleep(max(0.0, server.requests[0].time + 0.51 - time.monotonic()))
        ask(server, "4")
    assert server.outcomes == {"ok": 3, "rate_limit_after": 1}


# The server.


def test_a_server_is_down_and_up_again_and_forgets_at_a_reset() -> None:
    with JudgeServer("openai", constant("right"), FaultPlan.script(["server_500"])) as server:
        server.down = True
        with pytest.raises(openai.InternalServerError, match="503"):
            ask(server)
        server.down = False
        # Being down used up no step of the script.
        with pytest.raises(openai.InternalServerError, match="500"):
            ask(server)
        ask(server)
        assert [request.outcome for request in server.requests] == ["down", "server_500", "ok"]
        server.reset()
        assert (server.calls, server.peak_concurrency, server.usage) == (0, 0, Usage())
        with pytest.raises(openai.InternalServerError, match="500"):
            ask(server)


@pytest.mark.parametrize("wire", WIRES)
def test_a_hundred_requests_at_once(wire: Literal["openai", "anthropic"]) -> None:
    async def run(server: JudgeServer) -> list[Any]:
        async with client(server, timeout=60) as sdk:
            prompts = [f"Question {number}" for number in range(100)]
            return await asyncio.gather(*(call(sdk, prompt) for prompt in prompts))

    with JudgeServer(wire, deterministic(0), delay=0.5, keep_bodies=False) as server:
        replies = asyncio.run(run(server))
    assert len({text_of(reply) for reply in replies}) > 50
    assert server.outcomes == {"ok": 100}
    assert all(request.answered and request.body is None for request in server.requests)
    # How many overlap depends on how fast the client's machine sends them.
    assert server.peak_concurrency > 10


def test_thousands_of_requests_over_one_connection_stay_cheap() -> None:
    with JudgeServer("openai", constant("right"), keep_bodies=False) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.connect()
        own = connection.sock
        for number in range(1500):
            message = {"role": "user", "content": f"Question {number % 10} " + "x" * 2000}
            body = json.dumps({"model": "judge", "messages": [message]})
            connection.request("POST", "/v1/chat/completions", body)
            assert connection.getresponse().read()
        # Kept alive: http.client would have opened another one.
        assert connection.sock is own
        connection.close()
        report = server.report()
    assert (report["calls"], report["distinct_prompts"], report["most_repeats"]) == (1500, 10, 150)
    assert report["usage"]["input_tokens"] == 1500 * 3
    assert report["peak_concurrency"] == 1


def test_stopping_drops_hanging_clients_at_once_and_leaves_nothing() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - Path.iterdir opens one more

    async def hang(server: JudgeServer) -> tuple[float, list[Any]]:
        async with client(server, timeout=60) as sdk:
            tasks = [asyncio.create_task(call(sdk, f"{number}")) for number in range(100)]
            await asyncio.to_thread(until, lambda: server.calls == 100, 30.0)
            begun = time.monotonic()
            await asyncio.to_thread(server.stop)
            took = time.monotonic() - begun
            return took, await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(asyncio.sleep(0))
    before = descriptors()
    server = JudgeServer("openai", constant("right"), FaultPlan.always("hang"))
    server.start()
    took, ends = asyncio.run(hang(server))
    assert took < 2
    assert all(isinstance(end, openai.APIConnectionError) for end in ends)
    assert server.peak_concurrency == 100
    assert all(request.finished and not request.answered for request in server.requests)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("judge-")]
    assert descriptors() == before


def test_stopping_while_clients_connect_leaks_no_socket() -> None:
    # asyncio leaks what it accepts while a server closes; a socket left is a ResourceWarning.
    for _ in range(30):
        with JudgeServer("openai", constant("right")) as server:
            clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        for own in clients:
            own.close()
    gc.collect()


def test_a_stopped_server_comes_back_at_the_same_address() -> None:
    with JudgeServer("openai", constant("right")) as server:
        ask(server)
        server.stop()
        with pytest.raises(openai.APIConnectionError):
            ask(server)
        server.start()
        ask(server)
    assert server.calls == 2


def test_what_is_no_such_request_is_refused_and_logged() -> None:
    async def stream(server: JudgeServer) -> None:
        async with client(server) as sdk:
            await call(sdk, stream=True)

    with JudgeServer("anthropic", constant("right"), FaultPlan.always("hang")) as server:
        with pytest.raises(anthropic.BadRequestError, match="Streaming"):
            asyncio.run(stream(server))
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        seen = []
        for path, body in (("/v1/models", "{}"), ("/v1/messages", "[]"), ("/v1/messages", "{}")):
            connection.request("POST", path, body)
            response = connection.getresponse()
            seen.append((response.status, json.load(response)["error"]["message"]))
        connection.close()
    assert seen == [
        (404, "No such page: /v1/models"),
        (400, "The body is not a JSON object."),
        (400, "Missing required parameter: model, messages, max_tokens."),
    ]
    assert server.outcomes == {"invalid": 4}


def test_a_failing_brain_fails_the_test() -> None:
    def brain(_: str) -> dict[str, Any]:
        raise LookupError("no verdict for this")

    def use() -> None:
        with JudgeServer("openai", brain) as server, pytest.raises(openai.APIConnectionError):
            ask(server)

    def fail_first() -> None:
        with JudgeServer("openai", brain) as server:
            ask(server)

    with pytest.raises(LookupError, match="no verdict"):
        use()
    with pytest.raises(openai.APIConnectionError) as caught:
        fail_first()
    assert "no verdict for this" in caught.value.__notes__[0]


def test_a_process_of_its_own_prints_its_address_and_leaves_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The SDK's usual http client heeds HTTP_PROXY, even for the loopback.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    tests = Path(__file__).resolve().parents[2]
    report = tmp_path / "report.json"
    options = "--wire openai --fault-rate 1 --kinds rate_limit --seed 3 --brain right --report"
    with subprocess.Popen(
        [sys.executable, "-m", "judge_servers", *options.split(), str(report)],
        env={**os.environ, "PYTHONPATH": str(tests)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()

        async def run() -> None:
            async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0) as sdk:
                with pytest.raises(openai.RateLimitError):
                    await call(sdk)

        asyncio.run(run())
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    written = json.loads(report.read_text())
    assert written["outcomes"] == {"rate_limit": 1}
    assert (written["base_url"], written["calls"], written["answered"]) == (base_url, 1, 1)
