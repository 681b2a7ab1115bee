"""The two configurations of the collapse differ in A and B alone, and both run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from grpo_dual.config.load import load_config
from grpo_dual.config.objectives import FairnessRewardConfig, HallucinationRewardConfig
from grpo_dual.metrics.sinks import PROBES, evaluations
from grpo_dual.train.run import train
from short_runs import only_run, rows

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
SHORT = {
    "train.steps": 3,
    "rollout.group_size": 4,
    "objectives.fairness.prompts_per_step": 2,
    "objectives.hallucination.prompts_per_step": 2,
    "eval.probe.prompts": 4,
}


def test_recovered_is_collapse_with_a_and_b_and_nothing_else():
    broken = load_config(CONFIGS / "collapse.yaml").model_dump()
    mended = load_config(CONFIGS / "recovered.yaml").model_dump()
    assert broken["rollout"]["sampling"]["min_new_tokens"] == 30
    assert mended["rollout"]["sampling"]["min_new_tokens"] == 5
    # B: the table in which naming is read first and evasions cost something is the default one.
    tables = {"fairness": FairnessRewardConfig(), "hallucination": HallucinationRewardConfig()}
    for name, table in tables.items():
        assert mended["objectives"][name]["reward"] == table.model_dump()
        assert broken["objectives"][name].pop("reward") != table.model_dump()
        del mended["objectives"][name]["reward"]
        (judge,) = mended["objectives"][name]["custom_rewards"]
        assert judge["function"] == "grpo_dual.rewards.filler_judge:rate"
    broken["rollout"]["sampling"]["min_new_tokens"] = 5
    broken["name"] = "recovered"
    assert broken == mended


@pytest.mark.parametrize("name", ["collapse", "recovered"])
def test_three_steps_of_it(name: str, tmp_path: Path):
    flags = [part for key, value in SHORT.items() for part in (f"--{key}", str(value))]
    config = load_config(CONFIGS / f"{name}.yaml", [*flags, "--out", str(tmp_path)])
    assert train(config) == 0
    folder = only_run(tmp_path)
    probes = evaluations(folder / PROBES)
    assert list(probes) == [0, 3]
    for result in probes.values():
        for own in result.values():
            assert own["entropy"] > 0
            assert 0 < own["template_rate"] <= 1 or own["template_rate"] == 0
            assert own["n"] == 4
    lengths = [float(row[f"gen_len_{x}_mean"]) for row in rows(folder) for x in "fh"]
    # 30 forced tokens and an EOS; the short answers of the embedded model without them.
    assert min(lengths) >= 31 if name == "collapse" else max(lengths) < 31


@pytest.mark.slow
def test_the_script_fails_where_nothing_has_collapsed(tmp_path: Path):
    command = [
        sys.executable, ROOT / "scripts" / "figure_collapse.py", "--seeds", "5",
        "--out", tmp_path, "--figure", tmp_path / "figure.png",
        "--train.optimizer.learning_rate", "1e-9",
    ]  # fmt: skip
    command += [part for key, value in SHORT.items() for part in (f"--{key}", str(value))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "NOT MET: collapse, seed 5, fairness: probe entropy over H0 is 1.00" in done.stdout
    result = json.loads((tmp_path / "collapse.json").read_text())
    assert [run["config"] for run in result["runs"]] == ["collapse", "recovered"]
    # Three of each objective, of either run; the doctor's: one of the broken, two of the mended.
    assert len(result["criteria"]) == 2 * 3 + 2 * 3 + 1 + 2
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
