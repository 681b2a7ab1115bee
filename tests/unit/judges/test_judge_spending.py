"""What is paid for: the budget holds, every attempt counts, and nothing is asked twice."""

import json
from pathlib import Path

import pytest
from judge_stage import (
    KEY,
    WIRES,
    ask,
    causes,
    never,
    opinions,
    provider,
    questions,
    record,
    serving,
    settings,
)

from grpo_dual.errors import JudgeError
from grpo_dual.judges import rubric
from grpo_dual.judges.client import (
    Cause,
    Opinion,
    Question,
    Usage,
    Verdict,
)
from grpo_dual.judges.service import JudgeService
from judge_servers import (
    CacheShares,
    FaultPlan,
    JudgeServer,
    Wire,
    constant,
)

both_wires = pytest.mark.parametrize("wire", WIRES)


PRICE = {"input": 1.0, "output": 10.0, "cached_input": 0.1, "cache_write": 1.25}


@both_wires
def test_the_eleventh_call_is_refused_before_it_is_sent(wire: Wire, tmp_path: Path) -> None:
    ledger, shares = tmp_path / "ledger.jsonl", CacheShares(read=0.5, written=0.2)
    with JudgeServer(wire, constant("right"), cache=shares) as server:
        config = settings({"one": provider(server, price=PRICE)}, budget={"calls": 10})
        with serving(config, ledger) as service:
            found = [ask(service, questions(1, number)) for number in range(10)]
            assert {group.scorer for group in found} == {"one"}
            over = ask(service, questions(1, 10))
            assert over.scorer == "heuristic", "no failure: the run goes on offline"
            total = service.ledger.total
        with serving(config, ledger) as service:
            assert ask(service, questions(1, 11)).scorer == "heuristic"
    assert server.calls == 10
    told = server.usage
    inside = told.input_tokens
    if wire == "anthropic":  # which counts what the cache took part in beside it
        inside += told.cached_tokens + told.cache_written_tokens
        assert told.cache_written_tokens > 0
    assert total.usage == Usage(
        inside, told.cached_tokens, told.cache_written_tokens, told.output_tokens
    )
    assert total.calls == 10
    fresh = inside - told.cached_tokens - told.cache_written_tokens
    dollars = (
        fresh * 1.0
        + told.cached_tokens * 0.1
        + told.cache_written_tokens * 1.25
        + told.output_tokens * 10.0
    ) / 1e6
    assert total.dollars == pytest.approx(dollars)


@pytest.mark.parametrize("limit", ["tokens", "usd"])
def test_a_budget_of_tokens_or_money_is_never_passed(limit: str) -> None:
    """Many at once: those in flight count with the most that they can take."""
    allowed = {"tokens": 20_000, "usd": 0.02}[limit]
    with JudgeServer("openai", constant("right"), delay=0.01) as server:
        config = settings({"one": provider(server, price=PRICE)}, budget={limit: allowed})
        with serving(config) as service:
            pending = [service.submit(questions(4, n), lambda _: _OFFLINE) for n in range(15)]
            scorers = {group.result().scorer for group in pending}
            total = service.ledger.total
    assert scorers == {"one", "heuristic"}
    assert 1 <= server.calls == total.calls < 60
    spent = {"tokens": total.tokens, "usd": total.dollars}[limit]
    assert spent is not None
    assert spent <= allowed


_OFFLINE = Opinion(Verdict.WRONG, 1.0, "offline")


def test_every_attempt_is_counted(tmp_path: Path) -> None:
    """Failed ones as well, with what the server says that they took."""
    plan = FaultPlan.script(["server_500", "wrong_schema"])
    path = tmp_path / "ledger.jsonl"
    with (
        JudgeServer("openai", constant("right"), plan) as server,
        serving(settings({"one": provider(server)}), path) as service,
    ):
        service.begin_step(17)
        assert opinions(ask(service, questions(1)))
        total = service.ledger.total
    assert (total.calls, total.failed, server.calls) == (3, 2, 3)
    assert total.usage == Usage(server.usage.input_tokens, output=server.usage.output_tokens)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    done = [line["outcome"] for line in lines if line["event"] == "done"]
    assert done == ["server error", "invalid reply", "answered"]
    assert {line["step"] for line in lines if line["event"] == "sent"} == {17}


@pytest.mark.parametrize("kind", ["reset"])
def test_what_may_be_on_the_bill_counts_though_the_server_counts_nothing(kind: str) -> None:
    plan = FaultPlan.always(kind)
    with (
        JudgeServer("openai", constant("right"), plan) as server,
        serving(settings({"one": provider(server)})) as service,
    ):
        causes(ask(service, questions(1)))
        total = service.ledger.total
    # At most a token a byte and the reply's limit, for each request.
    assert total.usage.output == server.calls * 256
    assert total.usage.input > 1000 * server.calls


@pytest.mark.parametrize("kind", ["server_500", "unauthorized_401", "rate_limit"])
def test_an_error_status_is_not_on_the_bill(kind: str) -> None:
    with (
        JudgeServer("openai", constant("right"), FaultPlan.always(kind)) as server,
        serving(settings({"one": provider(server)})) as service,
    ):
        causes(ask(service, questions(1)))
        assert service.ledger.total.usage == Usage()


# Cache ------------------------------------------------------------------------------------------


def test_equal_questions_are_asked_once(tmp_path: Path) -> None:
    cache = {"path": tmp_path / "cache.sqlite"}
    with JudgeServer("openai", constant("right"), delay=0.05) as server:
        config = settings({"one": provider(server)}, cache=cache)
        with serving(config) as service:
            pending = [service.submit(questions(1) * 5, never) for _ in range(2)]
            for group in pending:
                assert len(opinions(group.result())) == 5
            assert server.calls == 1
            assert service.take_tally().cache_hits == {"one": 9}
            assert len(opinions(ask(service, questions(1)))) == 1
        assert server.calls == 1
        with serving(config) as another:
            assert opinions(ask(another, questions(1)))
            assert another.take_spent()["one"].calls == 0
            assert another.take_tally().cache_hits == {"one": 1}
    assert server.calls == 1


def test_without_a_cache_equal_questions_in_flight_are_asked_once() -> None:
    with (
        JudgeServer("openai", constant("right"), delay=0.05) as server,
        serving(settings({"one": provider(server)})) as service,
    ):
        assert len(opinions(ask(service, questions(1) * 10))) == 10
        assert server.calls == 1
        assert len(opinions(ask(service, questions(1) * 10))) == 10
    assert server.calls == 2


@both_wires
def test_whatever_changes_the_verdict_is_asked_anew(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = {"path": tmp_path / "cache.sqlite"}
    load = rubric.load
    monkeypatch.setattr(rubric, "load", lambda objective, _version: load(objective, 1))
    changes: list[dict[str, object]] = [
        {"model": "judge-2"},
        {"max_output_tokens": 300},
        {"structured": "prompt"},
    ]
    if wire == "openai":
        changes += [{"temperature": None}, {"temperature": 0.5}]
    with JudgeServer(wire, constant("right")) as server:

        def asks(asked: list[Question], rubric: int = 1, **more: object) -> int:
            before = server.calls
            config = settings({"one": provider(server, **more)}, cache=cache, rubric=rubric)
            with serving(config) as service:
                assert opinions(ask(service, asked))
            return server.calls - before

        assert asks(questions(1)) == 1
        for change in changes:
            assert asks(questions(1), **change) == 1, change
            assert asks(questions(1), **change) == 0, change
        assert asks(questions(1), rubric=2) == 1
        assert asks([Question(record(), "Completion 0-0!")]) == 1
        assert asks([Question(record(1), "Completion 0-0")]) == 1
        # What changes no verdict is not asked anew.
        assert asks(questions(1), concurrency=3, requests_per_minute=1000, price=PRICE) == 0


def test_the_server_that_the_environment_names_is_part_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = {"path": tmp_path / "cache.sqlite"}
    for verdict in ("right", "wrong"):
        with JudgeServer("openai", constant(verdict)) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
            one = {**provider(server), "base_url": None}
            with serving(settings({"one": one}, cache=cache)) as service:
                (opinion,) = opinions(ask(service, questions(1)))
        assert opinion.verdict.value == verdict
        assert server.calls == 1


@pytest.mark.parametrize("place", ["folder", "file/cache.sqlite"])
def test_a_cache_that_cannot_be_made_is_known_before_anything_starts(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    config = settings({"one": {"kind": "heuristic"}}, cache={"path": tmp_path / place})
    with pytest.raises(JudgeError, match=r"judge\.cache\.path: .* no cache can be made there"):
        JudgeService(config)
    with pytest.raises(JudgeError, match=r"judge\.rubric: there is no version 7"):
        JudgeService(settings({"one": {"kind": "heuristic"}}, rubric=7))


def test_failures_are_not_kept(tmp_path: Path) -> None:
    cache = {"path": tmp_path / "cache.sqlite"}
    plan = FaultPlan.script(["bad_enum", "bad_enum", "refusal"])
    with (
        JudgeServer("openai", constant("right"), plan) as server,
        serving(settings({"one": provider(server)}, cache=cache)) as service,
    ):
        assert causes(ask(service, questions(1))) == {Cause.INVALID}
        assert causes(ask(service, questions(1))) == {Cause.REFUSAL}
        assert opinions(ask(service, questions(1)))
    assert server.calls == 4


def test_the_files_hold_no_text_and_no_key(tmp_path: Path) -> None:
    cache, ledger = tmp_path / "cache.sqlite", tmp_path / "ledger.jsonl"
    with JudgeServer("openai", constant("right")) as server:
        config = settings({"one": provider(server)}, cache={"path": cache})
        with serving(config, ledger) as service:
            assert opinions(ask(service, questions(3)))
            # While it is open, the newest rows stand in the log beside it.
            content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"It is always right." in content, "what the judge says is kept"
    for text in ("Completion 0-1", "Ottokar", "Delft", "You check whether", KEY, KEY[3:12]):
        assert text.encode() not in content, text
