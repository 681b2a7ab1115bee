"""``train`` looks before it starts: it refuses, or starts by force, and records what it found."""

import json
from pathlib import Path

import pytest

from grpo_dual.cli.main import REFUSED, main
from grpo_dual.diagnosis.journal import JOURNAL
from short_runs import numbers, only_run, rows

DEMO = str(Path(__file__).resolve().parents[2] / "configs" / "demo.yaml")
FORCED = ("--rollout.sampling.max-new-tokens", "40", "--rollout.sampling.min-new-tokens", "30")


def words(out: Path, *flags: str) -> list[str]:
    """A run of one step with six prompts, and no yardstick."""
    return [
        *("train", DEMO, "--out", str(out), "--train.steps", "1", "--train.threads", "1"),
        *("--eval.no-before-and-after", "--objectives.fairness.prompts-per-step", "3"),
        *("--objectives.hallucination.prompts-per-step", "3", *flags),
    ]


def recorded(out: Path) -> list[dict[str, object]]:
    """What the pre-flight found; what the run found is the doctor's affair."""
    lines = (only_run(out) / JOURNAL).read_text().splitlines()
    return [found for found in map(json.loads, lines) if found["phase"] == "preflight"]


def test_a_run_that_would_teach_filler_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(words(tmp_path / "runs", *FORCED)) == REFUSED
    out, error = capsys.readouterr()
    assert "ACT  forced-length: before the first step" in out
    assert "Every completion is forced to 30 tokens" in " ".join(out.split())
    assert "min_new_tokens: 0" in out
    assert error.startswith("grpo-dual: error: the pre-flight refuses this run: forced-length")
    assert "--force" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_force_starts_it_and_the_folder_says_why_not(tmp_path: Path):
    assert main(words(tmp_path / "runs", "--force", *FORCED)) == 0
    (found,) = recorded(tmp_path / "runs")
    assert (found["code"], found["severity"], found["phase"]) == (
        "forced-length",
        "act",
        "preflight",
    )
    assert found["patch"] == {"rollout.sampling.min_new_tokens": 0}
    assert found["step"] is None


def test_looking_changes_nothing_of_a_healthy_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(words(tmp_path / "on")) == 0
    assert "pre-flight: nothing found (400 draws of each objective" in capsys.readouterr().out
    journal = only_run(tmp_path / "on") / JOURNAL
    assert not journal.exists() or recorded(tmp_path / "on") == []
    assert main(words(tmp_path / "off", "--doctor", "off")) == 0
    assert "pre-flight" not in capsys.readouterr().out
    looked, other = (only_run(tmp_path / name) for name in ("on", "off"))
    (first,), (second,) = rows(looked), rows(other)
    assert numbers(first) == numbers(second)
    assert float(first["grad_norm"]) > 0
    completions = "completions.jsonl"
    assert (looked / completions).read_bytes() == (other / completions).read_bytes()


def test_what_is_not_looked_at_is_not_refused(tmp_path: Path):
    assert main(words(tmp_path / "runs", "--doctor=off", *FORCED)) == 0


def test_a_warning_does_not_stop_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(words(tmp_path / "runs", "--train.optimizer.learning-rate", "0.006")) == 0
    assert "WARN learning-rate" in capsys.readouterr().out
    assert [found["code"] for found in recorded(tmp_path / "runs")] == ["learning-rate"]
    # A run that goes on is not looked at again.
    assert main(["train", "--resume", str(only_run(tmp_path / "runs"))]) == 0
    assert len(recorded(tmp_path / "runs")) == 1
