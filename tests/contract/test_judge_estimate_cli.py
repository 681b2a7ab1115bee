"""``grpo-dual judge estimate``: what a run's judges will take, and what they then took."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import short_runs
from grpo_dual.cli.main import MISTAKE, main
from judge_servers import JudgeServer, constant
from judged_runs import judge_section, run_file

Told = Callable[[Sequence[object]], str]
pytestmark = pytest.mark.usefixtures("places")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return short_runs.save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def written(model: Path, tmp_path: Path) -> Callable[..., Path]:
    """The file of a short run with judges."""

    def write(judge: dict[str, Any] | None, **sections: Any) -> Path:
        made = short_runs.settings(model, tmp_path / "runs", train={"steps": 6}, **sections)
        made["objectives"]["hallucination"]["data"]["subsets"] = {"qa": 1.0}
        return run_file(tmp_path, made | ({} if judge is None else {"judge": judge}))

    return write


def test_a_rehearsal_of_all_steps_is_what_the_run_takes(
    written: Callable[..., Path], tmp_path: Path, told: Told
):
    out = tmp_path / "out.json"
    # What a random model says is wrong to the offline judge too, so the policy moves alike.
    with JudgeServer("openai", constant("wrong"), keep_bodies=False) as server:
        config = written(judge_section(server))
        printed = told(["judge", "estimate", config, "--ask", "5", "--json", out])
        assert server.calls == 5
        told(["train", config, "--doctor", "off"])
        spent = server.calls - 5
    found = json.loads(out.read_text())
    assert found["probe"]["exact"] is True
    expected = found["judges"]["one"]["expected"]
    assert expected["calls"] == spent
    assert found["judges"]["one"]["kept"] == 5
    summary = next((tmp_path / "runs").glob("*/training_metrics_summary.json"))
    took = json.loads(summary.read_text())["judges"]["by_judge"]["one"]
    assert took["calls"] == spent
    for key in ("input_tokens", "output_tokens", "usd"):
        assert expected[key] == pytest.approx(took[key], rel=0.1)
    with next((tmp_path / "runs").glob("*/train_step_metrics.csv")).open() as file:
        calls = [int(row["judges_calls_one"]) for row in csv.DictReader(file)]
    by_step = found["judges"]["one"]["questions_by_step"]
    assert all(real <= asked for real, asked in zip(calls, by_step, strict=True))
    assert sum(by_step) == sum(calls) + 5
    assert "--ask took 5 requests" in printed
    assert "5 of the" in printed


def test_nothing_is_sent_or_written_and_no_key_is_needed(
    written: Callable[..., Path],
    tmp_path: Path,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delenv("JUDGE_KEY")
    with JudgeServer("openai", constant("wrong")) as server:
        config = written(judge_section(server))
        before = sorted(tmp_path.rglob("*"))
        printed = told(["judge", "estimate", config, "--probe", "4"])
        assert server.calls == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert "4 of 6 steps were rehearsed" in printed
    assert "if the policy stays as it is" in printed
    assert "a token for 4 characters and 40 for a reply are assumed" in printed


def test_without_a_rehearsal_there_are_bounds(
    written: Callable[..., Path], tmp_path: Path, told: Told
):
    out = tmp_path / "out.json"
    with JudgeServer("openai", constant("wrong")) as server:
        config = written(judge_section(server))
    flags = ["--train.steps", "10", "--rollout.group-size=8"]
    printed = told(["judge", "estimate", config, *flags, "--probe", "0", "--json", out])
    found = json.loads(out.read_text())["judges"]["one"]
    # 10 steps x 2 prompts x 8 completions
    assert found["at_most"]["calls"] == 160
    assert found["at_most"]["output_tokens"] == 160 * 40
    assert found["expected"] is None
    assert "no step was rehearsed" in printed
    assert "160" in printed


@pytest.mark.parametrize(
    ("budget", "line"),
    [
        ({}, "budget: none is set"),
        ({"calls": 10_000}, "budget: calls 10,000: the run fits"),
        ({"calls": 20}, "it could end at about step 3 (judge.budget.calls)"),  # 8, 16, 24
        ({"usd": 1e-9}, "it could end at about step 1 (judge.budget.usd)"),
    ],
)
def test_the_budget(budget: dict[str, float], line: str, written: Callable[..., Path], told: Told):
    with JudgeServer("openai", constant("wrong")) as server:
        config = written(judge_section(server, budget=budget))
    assert line in told(["judge", "estimate", config, "--probe", "0"])


def test_quotas_say_how_long_it_takes(written: Callable[..., Path], tmp_path: Path, told: Told):
    out = tmp_path / "out.json"
    with JudgeServer("openai", constant("wrong")) as server:
        judge = judge_section(server)
    judge["providers"]["one"]["requests_per_minute"] = 6
    told(["judge", "estimate", written(judge), "--probe", "0", "--json", out])
    found = json.loads(out.read_text())["judges"]["one"]
    assert found["least_seconds"] == found["at_most"]["calls"] * 10


def test_an_unknown_price_and_a_judge_on_this_machine(
    written: Callable[..., Path], tmp_path: Path, told: Told
):
    out = tmp_path / "out.json"
    with JudgeServer("openai", constant("wrong")) as server:
        judge = judge_section(server)
    del judge["providers"]["one"]["price"]
    judge["providers"]["words"] = {"kind": "heuristic"}
    judge |= {"route": "both-and-agree", "agree_share": 1.0}
    printed = told(["judge", "estimate", written(judge), "--probe", "0", "--json", out])
    found = json.loads(out.read_text())
    one, words = (found["judges"][name]["at_most"] for name in ("one", "words"))
    assert one["calls"] == words["calls"] > 0
    assert (one["usd"], words["usd"], words["input_tokens"]) == (None, 0, 0)
    assert found["total"]["at_most"]["usd"] is None
    assert "unknown price" in printed
    assert "on this machine" in printed


def test_a_run_without_judges_costs_nothing(
    written: Callable[..., Path], tmp_path: Path, told: Told
):
    out = tmp_path / "out.json"
    printed = told(["judge", "estimate", written(None), "--json", out])
    assert "names no judges" in printed
    assert json.loads(out.read_text()) == {"steps": 6, "judges": {}}


def test_a_result_that_cannot_be_written_is_known_first(
    written: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    config = written(None)
    out = config.parent / "nowhere" / "out.json"
    assert main(["judge", "estimate", str(config), "--json", str(out)]) == MISTAKE
    assert "no such folder" in capsys.readouterr().err
