"""``scripts/seeds.py`` trains, reads what the run wrote and fails where a criterion is not met."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_an_untrained_model_fails_the_criteria_of_the_trained_one(tmp_path: Path) -> None:
    flags = {
        "train.steps": 1,
        "train.optimizer.learning_rate": 1e-9,  # a step that changes nothing
        "objectives.fairness.data.eval_samples": 40,
        "objectives.hallucination.data.eval_samples": 40,
    }
    command = [sys.executable, ROOT / "scripts" / "seeds.py", "--out", tmp_path, "--seeds", "7"]
    command += [part for key, value in flags.items() for part in (f"--{key}", str(value))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert result["seed"] == 7
    met = {c["name"]: c["met"] for c in result["criteria"] if c["phase"] == "after"}
    assert not met["ambiguous accuracy"]
    assert not met["gain in grounded answers"]  # the same random stream: exactly the same replies
    assert not met["evasions on answerable items"]
    # The habits are planted in the committed weights.
    assert all(c["met"] for c in result["criteria"] if c["phase"] == "before")
