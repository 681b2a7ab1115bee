"""Runs whose answers a judge behind an API scores: what they write, and what they never write."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import short_runs
from grpo_dual.cli.main import main
from grpo_dual.config.judging import JudgeConfig
from grpo_dual.config.schema import RunConfig
from grpo_dual.errors import JudgeError, JudgeOutageError
from grpo_dual.judges.ledger import LEDGER
from grpo_dual.metrics.names import JUDGES
from grpo_dual.train.run import train
from judge_servers import Fault, FaultPlan, JudgeServer, Kind, deterministic
from judge_servers.faults import Decide
from short_runs import only_run, reproducible, rows

KEY = "sk-secret-Zx81kQw0aVb7Yt52"
QUICK = {"attempts": 2, "base_seconds": 0.01, "cap_seconds": 0.02, "attempt_seconds": 5.0}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("JUDGE_TEST_KEY", KEY)


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer("openai", deterministic(3)) as running:
        yield running


def judged(server: JudgeServer, folder: Path, **changes: Any) -> dict[str, Any]:
    """The judge section of a configuration."""
    provider = {
        "kind": server.wire,
        "model": "stub-2026-01-01",
        "base_url": server.base_url,
        "api_key": "env:JUDGE_TEST_KEY",
        "price": {"input": 1.0, "output": 2.0},
    }
    return {
        "providers": {"stub": provider},
        "retry": QUICK,
        "cache": {"path": str(folder / "verdicts.sqlite")},
        **changes,
    }


@pytest.fixture
def settings(model: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    def make(server: JudgeServer, **changes: Any) -> RunConfig:
        return short_runs.config(
            model,
            tmp_path / "runs",
            judge=judged(server, tmp_path, **changes),
            train={"steps": 4},
        )

    return make


def untouched_by_cost(folder: Path) -> dict[str, object]:
    """What a resumed run has in common with one that was never stopped."""
    whole = reproducible(folder)
    for name in ("csv", "jsonl"):
        table: Any = whole[name]
        whole[name] = [{k: v for k, v in row.items() if not k.startswith(JUDGES)} for row in table]
    return whole


def test_costs_and_verdicts_stand_in_metrics_summary_and_ledger(
    settings: Callable[..., RunConfig], server: JudgeServer, tmp_path: Path
):
    assert train(settings(server)) == 0
    folder = only_run(tmp_path / "runs")
    table = rows(folder)
    total = {k: sum(float(row[k]) for row in table if row[k]) for k in table[0]}
    assert total["judges_calls_stub"] == server.calls > 0
    assert total["judges_input_tokens_stub"] == server.usage.input_tokens
    assert total["judges_output_tokens_stub"] == server.usage.output_tokens
    dollars = (server.usage.input_tokens * 1.0 + server.usage.output_tokens * 2.0) / 1e6
    assert total["judges_usd_stub"] == pytest.approx(dollars, rel=1e-9)
    # Every completion is scored by a rule, the detector, or the judge, and none is lost.
    scored = sum(
        total[f"by_{who}_h"] for who in ("rule", "heuristic", "template_detector", "other")
    )
    assert scored + total["unscored_count_h"] == 4 * 2 * 4
    assert total["by_other_h"] == total["judges_verdicts_stub"]
    assert total["judges_offline_groups"] == total["judges_unscored_groups"] == 0
    for row in table:
        assert 0 <= float(row["judges_hidden_share"]) <= 1
        assert float(row["judges_wait_seconds"]) <= float(row["judges_busy_seconds"]) + 0.01
    summary = json.loads((folder / "training_metrics_summary.json").read_text())
    assert summary["judges"]["total"]["calls"] == server.calls
    assert summary["judges"]["by_judge"]["stub"]["usd"] == pytest.approx(dollars, rel=1e-9)
    lines = [json.loads(line) for line in (folder / LEDGER).read_text().splitlines()]
    assert sum(line["event"] == "sent" for line in lines) == server.calls
    assert {line["step"] for line in lines if line["event"] == "sent"} <= {1, 2, 3, 4}


def test_a_run_whose_ledger_is_gone_does_not_go_on(
    settings: Callable[..., RunConfig], server: JudgeServer, tmp_path: Path
):
    """What it has spent would be forgotten, and its budget would begin again."""
    config = settings(server, outage={"action": "stop"})
    server.down = True
    with pytest.raises(JudgeOutageError):
        train(config)
    folder = only_run(tmp_path / "runs")
    (folder / LEDGER).unlink()
    with pytest.raises(JudgeError, match=r"judge_ledger\.jsonl is missing.*Put it back"):
        train(config, folder)


def test_a_second_run_of_the_same_seed_pays_nothing(
    settings: Callable[..., RunConfig], server: JudgeServer, tmp_path: Path
):
    first = settings(server)
    train(first)
    calls = server.calls
    train(first.model_copy(update={"out": tmp_path / "again"}))
    assert server.calls == calls
    one, two = only_run(tmp_path / "runs"), only_run(tmp_path / "again")
    assert untouched_by_cost(one) == untouched_by_cost(two)
    assert sum(float(row["judges_calls_stub"]) for row in rows(two)) == 0
    assert sum(float(row["judges_cache_hits_stub"]) for row in rows(two)) > 0


def test_a_stop_at_an_outage_saves_the_step_before_and_resumes_to_the_same_numbers(
    settings: Callable[..., RunConfig], server: JudgeServer, tmp_path: Path
):
    stop = {"action": "stop"}
    whole = settings(server, outage=stop).model_copy(update={"out": tmp_path / "whole"})
    train(whole)
    expected = untouched_by_cost(only_run(tmp_path / "whole"))

    calls = sum(int(row["judges_calls_stub"]) for row in rows(only_run(tmp_path / "whole"))[:2])
    away = True

    def start() -> Decide:
        seen = itertools.count()
        return lambda _: Fault(Kind.UNAVAILABLE_503) if away and next(seen) > calls else None

    with JudgeServer("openai", deterministic(3), FaultPlan(start)) as flaky:
        # A cache of its own, or there would be nothing to ask for.
        own = judged(flaky, tmp_path, outage=stop, cache={"path": str(tmp_path / "own.sqlite")})
        config = whole.model_copy(
            update={"judge": JudgeConfig.model_validate(own), "out": tmp_path / "runs"}
        )
        with pytest.raises(JudgeOutageError, match="--resume"):
            train(config)
        folder = only_run(tmp_path / "runs")
        done = len(rows(folder))
        assert done >= 2
        # checkpoint.every is 2: this one was made for the occasion, or stood already.
        saved = sorted(p.name for p in (folder / "checkpoints").glob("step-*"))
        assert saved[-1] == f"step-{done:08d}"
        away = False
        assert train(config, folder) == 0
    assert untouched_by_cost(folder) == expected


def test_budget_over_resumes_is_kept_by_the_ledger(
    settings: Callable[..., RunConfig], server: JudgeServer, tmp_path: Path
):
    config = settings(server, budget={"calls": 7})
    train(config)
    folder = only_run(tmp_path / "runs")
    assert server.calls == 7
    table = rows(folder)
    assert sum(float(row["judges_offline_groups"]) for row in table) > 0
    # One scorer for a group: where the budget ended, the offline judge has the whole group.
    assert sum(float(row["by_heuristic_h"]) for row in table) > 0


def test_no_secret_reaches_an_artefact(
    model: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """The server echoes the key in an error, as some do; every file and stream is searched."""
    plan = FaultPlan.script(["unauthorized_401", "bad_request_400", "ok", "wrong_schema"])
    with JudgeServer("openai", deterministic(3), plan) as server:
        section = judged(server, tmp_path, outage={"action": "unscored"})
        whole = short_runs.settings(model, tmp_path / "runs", judge=section, train={"steps": 2})
        path = tmp_path / "run.yaml"
        path.write_text(json.dumps(whole))
        assert main(["train", str(path), "--doctor", "off"]) == 0
        assert {r.api_key for r in server.requests} == {KEY}
        assert main(["judge", "cache", "stats", "--path", str(tmp_path / "verdicts.sqlite")]) == 0
    monkeypatch.delenv("JUDGE_TEST_KEY")
    assert main(["train", str(path)]) == 2
    out, err = capfd.readouterr()
    assert "JUDGE_TEST_KEY is not set" in err
    texts = {"stdout": out.encode(), "stderr": err.encode()}
    texts |= {str(p): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert len(texts) > 10
    leaks = [name for name, content in texts.items() if KEY.encode() in content]
    assert leaks == []
    # Nor its ends, as servers mask keys.
    ends = [n for n, c in texts.items() if KEY[:10].encode() in c or KEY[-8:].encode() in c]
    assert ends == []


def test_a_missing_key_is_found_before_anything_is_loaded(
    settings: Callable[..., RunConfig],
    server: JudgeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delenv("JUDGE_TEST_KEY")
    with pytest.raises(JudgeError, match="JUDGE_TEST_KEY is not set"):
        train(settings(server))
    assert not (tmp_path / "runs").exists()
    assert server.calls == 0
