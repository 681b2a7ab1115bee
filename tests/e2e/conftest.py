"""What the short runs share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import short_runs
from grpo_dual.train.run import train
from short_runs import only_run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return short_runs.save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Callable[..., Path]:
    """Train with changed sections; returns the run folder."""

    def go(where: str = "runs", **sections: Mapping[str, Any]) -> Path:
        sections["train"] = {"steps": 2, **sections.get("train", {})}
        assert train(short_runs.config(model, tmp_path / where, **sections)) == 0
        return only_run(tmp_path / where)

    return go
