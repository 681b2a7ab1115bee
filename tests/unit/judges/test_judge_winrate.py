"""The published win rates hold: benchmarks/judge_winrate.py on the real rows."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

# evaluation note 2.4, composite row: mean percent won against each bad kind.
REFERENCE = {
    "unseen hallucination": 98.0,
    "knowledge sentence without the answer": 99.7,
    "I don't know.": 99.9,
    "whole knowledge pasted": 96.3,
    "wrong Or right.": 96.8,
    "question echoed": 96.1,
    "empty": 99.9,
}


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "judge_winrate.py"
    spec = importlib.util.spec_from_file_location("judge_winrate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["judge_winrate"] = module
    spec.loader.exec_module(module)
    return module


def test_every_kind_of_bad_answer_loses_as_often_as_published(
    benchmark: ModuleType, shared_data: Path
) -> None:
    rows = list(benchmark.records(shared_data / "halueval" / "qa_data.json", None))
    measured = cast("dict[str, Any]", benchmark.measure(rows, 0.7))
    assert measured["rows"] == 1700
    for kind, percent in REFERENCE.items():
        # Even the form that wins least reaches the reference's mean.
        assert measured["percent_won"][kind]["worst"] >= percent, kind
    passed = measured["percent_passed"]
    assert min(passed[f"good: {form}"] for form in benchmark.FORMS) >= 99.9
    assert passed["unseen hallucination"] <= 5.0
