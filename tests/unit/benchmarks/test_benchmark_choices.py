"""The benchmark of scoring options: its ways agree, and its counts by hand."""

import argparse
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "benchmarks"))

import choices  # noqa: E402
import tiny_models  # noqa: E402
from grpo_dual.types import Choices  # noqa: E402

ITEMS = [
    Choices((4, 5, 6, 7), ((8, 9), (10,))),
    Choices((11, 12), ((13,), (14, 15, 16), (17,))),
]


def test_tokens_by_hand() -> None:
    """Contexts 4 and 2, options 2 + 1 and 1 + 3 + 1; rows of 6, 5, 3, 5, 3 tokens.

    With a budget of 12 the padded batches are 6 + 5, 5 + 3 and 3: 12 + 10 + 3 = 25.
    """
    assert choices.tokens(ITEMS, 12) == {
        "shared": 4 + 3 + 2 + 5,
        "repeated": 22,
        "padded": 25,
        "one by one": 22,
    }
    rows = choices.alone(ITEMS)
    assert choices.batches(rows, 12) == [[0, 1], [3, 2], [4]]
    assert choices.batches(rows, 0) == [[0], [1], [3], [2], [4]]


def test_all_ways_compute_the_same() -> None:
    policy = tiny_models.policy(1)
    said = {name: way(policy, ITEMS, 12) for name, way in choices.WAYS.items()}
    assert len(said["shared"]) == 5
    for values in said.values():
        assert values == pytest.approx(said["shared"], abs=1e-5)


def test_a_case_has_the_samples_of_every_way() -> None:
    found = choices.case(tiny_models.policy(1), ITEMS, argparse.Namespace(rounds=2, token_budget=9))
    assert {name: len(values) for name, values in found["seconds"].items()} == dict.fromkeys(
        choices.WAYS, 2
    )
    assert found["speedup"]["shared"] == found["ideal_by_tokens"]["shared"] == 1
    assert found["ideal_by_tokens"]["repeated"] == round(22 / 14, 2)
    assert max(found["largest_difference"].values()) <= 1e-5
    assert found["peak_gib"] is None


def test_rows_without_real_data_are_the_worlds(tmp_path: Path) -> None:
    rows, source = choices.records(tmp_path / "none", 8)
    assert (len(rows), source) == (8, "synthetic world")
