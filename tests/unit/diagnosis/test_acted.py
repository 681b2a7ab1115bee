"""What the page tells of remedies that the doctor applied."""

import json
from pathlib import Path

import pytest

from grpo_dual.config.objectives import FairnessConfig, HallucinationConfig
from grpo_dual.diagnosis.journal import acted
from grpo_dual.diagnosis.reward_table import shipped
from grpo_dual.errors import CheckpointError

ACT = {"code": "forced-length", "at": 3, "back_to": 0, "undone": False,
       "patch": {"rollout.sampling.min_new_tokens": 0, "model.dtype": "float32"}}  # fmt: skip


def write(folder: Path, number: int, content: object) -> None:
    place = folder / "acts" / str(number)
    place.mkdir(parents=True)
    (place / "act.json").write_text(json.dumps(content))


def test_a_line_for_each_in_order(tmp_path: Path):
    assert acted(tmp_path) == ()
    write(tmp_path, 10, ACT | {"code": "numerics", "at": 9, "undone": True, "patch": {}})
    write(tmp_path, 2, ACT)  # before 10, though not by its letters
    assert acted(tmp_path) == (
        "The doctor acted on forced-length behind step 3: rollout.sampling.min_new_tokens 0, "
        'model.dtype "float32"; --undo takes it back.',
        "The doctor acted on numerics behind step 9:  (undone).",
    )


@pytest.mark.parametrize("content", [{"code": "numerics"}, [], "text"])
def test_a_damaged_record_is_named(content: object, tmp_path: Path):
    write(tmp_path, 1, content)
    with pytest.raises(CheckpointError, match=r"act\.json: cannot be read"):
        acted(tmp_path)


def test_the_shipped_tables_are_those_of_the_configuration():
    assert shipped("fairness", "f") == {
        "objectives.f.reward.right": 1.0,
        "objectives.f.reward.ambiguous_evasion": 0.0,
        "objectives.f.reward.disambiguated_unknown": -0.7,
        "objectives.f.reward.wrong": -1.0,
    }
    assert shipped("plugin", "p") == {}
    kinds = {"fairness": FairnessConfig(), "hallucination": HallucinationConfig()}
    for kind, config in kinds.items():
        for key, value in shipped(kind, kind).items():
            assert getattr(config.reward, key.rpartition(".")[2]) == value
