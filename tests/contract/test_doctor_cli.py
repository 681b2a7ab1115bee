"""``grpo-dual doctor --preflight`` and ``data audit`` as a user sees them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import short_runs
from grpo_dual.cli.main import MISTAKE, REFUSED, main
from grpo_dual.config.load import load_config
from grpo_dual.config.schema import RunConfig
from grpo_dual.diagnosis.remedies import patched
from judge_servers import JudgeServer, constant
from judged_runs import KEY, judge_section, run_file

ROOT = Path(__file__).resolve().parents[2]
DEMO = str(ROOT / "configs" / "demo.yaml")
FORCED = ("--rollout.sampling.max-new-tokens", "40", "--rollout.sampling.min-new-tokens", "30")
Told = Callable[[Sequence[object]], str]
pytestmark = pytest.mark.usefixtures("places")


def test_a_healthy_run(told: Told) -> None:
    assert told(["doctor", "--preflight", DEMO]).startswith("pre-flight: nothing found (400 draws")
    result = json.loads(told(["doctor", "--preflight", DEMO, "--json"]))
    assert result["findings"] == []
    assert result["config"] == DEMO
    assert result["sample"] == 400


def test_a_run_that_teaches_filler(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--preflight", DEMO, *FORCED]) == REFUSED == 3
    out, error = capsys.readouterr()
    assert error == ""
    lines = out.splitlines()
    assert lines[0].startswith("ACT  forced-length: before the first step")
    assert "Every completion is forced to 30 tokens" in " ".join(out.split())
    assert "min_new_tokens: 0" in [line.strip() for line in lines], "the remedy as YAML"
    assert lines[-1].startswith("pre-flight: 1 act, 0 warn, 0 note")


def test_json_holds_findings_whose_patches_apply(capsys: pytest.CaptureFixture[str]) -> None:
    # Own flags may stand before and behind those of the configuration.
    words = ["doctor", "--json", f"--preflight={DEMO}", *FORCED, "--offline"]
    assert main([*words, "--rollout.sampling.top-k=50"]) == REFUSED
    result = json.loads(capsys.readouterr().out)
    found = {f["code"]: f for f in result["findings"]}
    assert found["forced-length"]["severity"] == "act"
    assert found["forced-length"]["phase"] == "preflight"
    assert found["sampling-mismatch"]["severity"] == "note"
    config = load_config(Path(DEMO), FORCED)
    for finding in result["findings"]:
        RunConfig.model_validate(patched(config.model_dump(mode="json"), finding["patch"]))
    # As flags, too: `--key value` behind the file is what the lines show.
    mended = [f"--{k}={v}" for f in result["findings"] for k, v in f["patch"].items()]
    assert main([*words, *mended]) == 0


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., Path]:
    """The demo with judges, as a file."""

    def write(server: JudgeServer, **changes: Any) -> Path:
        settings = short_runs.settings(
            tmp_path, tmp_path / "runs", train={"steps": 3, "optimizer": {"learning_rate": 1e-5}}
        )
        settings["model"] = {"name": "embedded", "dtype": "float32", "device": "cpu"}
        for objective in settings["objectives"].values():
            objective["custom_rewards"] = []
            objective["data"]["train_samples"] = 400
            objective["prompts_per_step"] = 8
        settings["objectives"]["hallucination"]["data"]["subsets"] = {"qa": 1.0}
        settings["judge"] = judge_section(server, **changes)
        return run_file(tmp_path, settings)

    return write


def codes(out: str) -> dict[str, str]:
    return {f["code"]: f["severity"] for f in json.loads(out)["findings"]}


def test_judges_that_are_there_and_what_they_may_take(
    judged: Callable[..., Path], told: Told
) -> None:
    with JudgeServer("openai", constant("right")) as server:
        out = told(["doctor", "--preflight", judged(server), "--json"])
        assert codes(out) == {"judge-cost": "note"}
        # 3 steps of 8 prompts and 4 completions.
        assert "at most 96 calls" in out
        assert server.calls == 1, "the list of models, which is not paid"
        told(["doctor", "--preflight", judged(server), "--offline"])
        assert server.calls == 1
        out = told(["doctor", "--preflight", judged(server, budget={"calls": 50}), "--json"])
        assert codes(out) == {"judge-cost": "warn"}
        assert "may end at step 2 of 3 (judge.budget.calls)" in out


def test_judges_that_are_not_there(
    judged: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with JudgeServer("openai", constant("right")) as server:
        pass
    severities: list[str] = []
    for action in ("stop", "heuristic"):
        config = str(judged(server, outage={"action": action}))
        code = main(["doctor", "--preflight", config, "--json"])
        out, error = capsys.readouterr()
        severity = codes(out)["judge-unreachable"]
        severities.append(severity)
        assert code == (REFUSED if severity == "act" else 0)
        assert KEY not in out + error
    assert severities == ["act", "warn"]
    assert main(["doctor", "--preflight", config, "--offline", "--json"]) == 0
    assert "judge-unreachable" not in codes(capsys.readouterr().out)
    monkeypatch.delenv("JUDGE_KEY")
    assert main(["doctor", "--preflight", config]) == REFUSED
    assert "JUDGE_KEY is not set" in " ".join(capsys.readouterr().out.split())


def test_data_that_are_not_there_are_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["doctor", "--preflight", DEMO, "--objectives.fairness.data.path", "nowhere"]
    assert main(words) == MISTAKE
    assert "nowhere" in capsys.readouterr().err


def test_the_audit_of_the_embedded_world(told: Told) -> None:
    words = ["data", "audit", DEMO, "--limits", "96,464,96"]
    out = told(words)
    rows = [line.split() for line in out.splitlines()]
    table = {(r[0], r[2]): r for r in rows if r[:1] in (["96"], ["464"])}
    # limit, objective, kind, rows, over, shortened, left out, answer cut, gone, longest
    assert len(table) == 2 + 2 + 6
    assert table["464", "disambig"][3:9] == ["1124", "0", "0", "0", "0", "0"]
    ambig, disambig = table["96", "ambig"], table["96", "disambig"]
    assert ambig[7] == "0"
    assert disambig[4] == disambig[6] == disambig[7] != "0"
    assert "over 24" in out
    assert "embedded's tokenizer" in out
    result = json.loads(told([*words, "--json"]))
    whole, age = (
        next(
            row["tally"]
            for row in result["prompts"]
            if row["limit"] == 96 and row["items"] == items
        )
        for items in ("disambig", "disambig Age")
    )
    assert whole["over"] == int(disambig[4])
    assert 0 < age["rows"] < whole["rows"]
    assert result["replies"][0]["over"] == 0


def test_the_audit_s_default_is_the_configuration_s_limit(told: Told) -> None:
    out = told(["data", "audit", DEMO, "--rollout.max-prompt-tokens", "300", "--by-subset"])
    assert {line.split()[0] for line in out.splitlines() if " fairness " in line[:20]} == {"300"}
    assert "disambig Age" in out


def test_the_audit_of_the_real_rows(shared_data: Path, told: Told) -> None:
    """7570 rows of each condition, none over 896 tokens of the embedded tokenizer."""
    paths = [
        *("--objectives.fairness.data.path", str(shared_data / "bbq")),
        *("--objectives.hallucination.data.path", str(shared_data / "halueval" / "qa_data.json")),
        *("--objectives.hallucination.data.subsets.dialogue", "0"),
        *("--objectives.hallucination.data.subsets.summarization", "0"),
    ]
    result = json.loads(told(["data", "audit", DEMO, *paths, "--limits", "192,896", "--json"]))
    found = {(row["items"], row["limit"]): row["tally"] for row in result["prompts"]}
    assert found["disambig", 896]["rows"] == 7570
    assert found["disambig", 896]["over"] == 0
    lost = found["disambig", 192]
    assert lost["over"] == lost["left_out"] == lost["answer_cut"] == 5977
    assert lost["answer_gone"] == 497
    assert found["ambig", 192]["answer_cut"] == 0
    named = {(row["items"], row["limit"]): row["example"] for row in result["prompts"]}
    assert named["disambig", 192].startswith("bbq/Disability_status/1145 (")
    assert ":1146), 193 tokens, would lose: The blogger is the COO" in named["disambig", 192]
    assert named["disambig", 896] is None
    assert named["ambig", 192] is None


def test_what_is_no_run_is_told_what_to_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text("{}")
    assert main(["doctor", str(tmp_path / "runs")]) == MISTAKE
    assert "it holds one, two: give one of them" in capsys.readouterr().err
    assert main(["doctor", DEMO]) == MISTAKE
    assert f"grpo-dual doctor --preflight {DEMO}" in capsys.readouterr().err
