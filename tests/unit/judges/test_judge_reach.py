"""Is a judge there? Asked of loopback servers, of one that is gone, and without a key."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from judge_stage import KEY

from grpo_dual.config.judging import AnthropicProviderConfig, OpenAiProviderConfig
from grpo_dual.errors import JudgeError
from grpo_dual.judges.reach import why_not
from judge_servers import JudgeServer, constant

Provider = OpenAiProviderConfig | AnthropicProviderConfig


class Answers(BaseHTTPRequestHandler):
    """Answers every GET with one status, and remembers path and key."""

    status = 200
    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        key = self.headers.get("x-api-key") or self.headers.get("Authorization")
        self.seen.append((self.path, key))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@contextmanager
def server(status: int) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    handler = type("Own", (Answers,), {"status": status, "seen": []})
    with HTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}", handler.seen
        finally:
            running.shutdown()
            thread.join()


def openai(base_url: str, api_key: str = "env:JUDGE_TEST_KEY") -> OpenAiProviderConfig:
    return OpenAiProviderConfig(model="m", base_url=base_url, api_key=api_key)


def anthropic(base_url: str) -> AnthropicProviderConfig:
    return AnthropicProviderConfig(model="m", base_url=base_url, api_key="env:JUDGE_TEST_KEY")


def test_the_list_of_models_is_asked_for_with_the_key() -> None:
    with server(200) as (url, seen):
        assert why_not("one", openai(f"{url}/v1")) is None
        assert why_not("two", anthropic(url)) is None
        assert why_not("three", openai(f"{url}/v1", api_key="none")) is None
    assert [path for path, _ in seen] == ["/v1/models"] * 3
    # Each SDK has its own header for it.
    assert [KEY in str(key) for _, key in seen] == [True, True, False]


@pytest.mark.parametrize("status", [404, 405, 429])
def test_a_server_without_such_a_list_is_there_too(status: int) -> None:
    with server(status) as (url, _):
        assert why_not("one", openai(url)) is None


def test_the_judges_of_the_tests_are_there_and_judge_nothing_for_it() -> None:
    with JudgeServer("openai", constant("right")) as judge:
        assert why_not("one", openai(judge.base_url)) is None
        assert judge.outcomes == {"invalid": 1}
        assert not any(request.answered and request.status == 200 for request in judge.requests)


@pytest.mark.parametrize(
    ("status", "why"), [(401, "key is refused"), (403, "key is refused"), (503, "server is down")]
)
def test_refused_or_down(status: int, why: str) -> None:
    with server(status) as (url, _):
        told = why_not("one", openai(url))
    assert told is not None
    assert why in told
    assert KEY not in told


def test_nobody_there() -> None:
    with server(200) as (url, _):
        pass
    told = why_not("one", openai(url))
    assert told is not None
    assert "Connect" in told
    assert KEY not in told


def test_too_slow() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        told = why_not("one", openai(url), seconds=0.2)
    assert told is not None
    assert "timed out" in told


def test_a_key_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_TEST_KEY")
    with pytest.raises(JudgeError, match="JUDGE_TEST_KEY is not set"):
        why_not("one", openai("http://127.0.0.1:1"))
