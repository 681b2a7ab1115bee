"""Floors, fields and failures of the benchmarks of speed, by hand."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "benchmarks"))

import forward  # noqa: E402
import measure  # noqa: E402
import rollout  # noqa: E402
import shapes  # noqa: E402
import step  # noqa: E402
from grpo_dual.errors import NumericsError  # noqa: E402

FIELDS = {
    "shape", "sequences", "step_s", "rival", "rival_step_s", "speedup", "roofline_ratio",
    "peak_gib", "rival_peak_gib", "others",
}  # fmt: skip
CARD = measure.Card(bandwidth=2e12, operations=5e14)
WORK = shapes.Work((110, 220, 350, 896), 4, 128)


def flags(**changes: Any) -> argparse.Namespace:
    given = {"shape": "tiny", "prompts": 4, "k": 4, "new_tokens": 128, "sampling": "plain"}
    return argparse.Namespace(**given | {"prompt_lengths": shapes.FOUR} | changes)


def test_weights_of_an_8b_token() -> None:
    # A layer: 2 x 4096^2 (q, o) + 2 x 4096 x 1024 (k, v) + 3 x 4096 x 14336 = 218,103,808; 32 of
    # them and the head's 4096 x 128,256.
    assert shapes.parameters("8b") == 32 * 218_103_808 + 525_336_576


def test_a_step_has_prompts_once_and_every_completion() -> None:
    # 110 + 220 + 350 + 896 = 1,576 and 4 x 4 x 128 = 2,048.
    assert (WORK.sequences, WORK.packed_tokens) == (16, 3624)


def test_rollout_floor_reads_the_weights_once_a_token() -> None:
    # 128 tokens x 2 bytes x 1e9 weights / 2e12 bytes a second
    assert measure.rollout_floor(10**9, 128, CARD) == pytest.approx(0.128, abs=1e-12)


def test_step_floor_adds_six_operations_a_weight_and_token() -> None:
    # .128 as above; 1,000 tokens x 1e9 weights x 6 (2 reference, 2 forward, 2 backward) / 5e14
    assert measure.pass_floor(10**9, 1000, CARD) == pytest.approx(0.008, abs=1e-12)
    assert measure.step_floor(10**9, 1000, 128, CARD) == pytest.approx(0.128 + 0.012, abs=1e-12)


def test_the_floor_of_the_page() -> None:
    # docs/performance.md: .85 s for 16 sequences of an 8B shape on an H100:
    # 128 x 2 x 7.5047e9 / 3.0e12 = .6404 and 6 x 7.5047e9 x 3,624 / 770e12 = .2119
    found = measure.step_floor(shapes.parameters("8b"), 3624, 128, measure.CARDS["H100"])
    assert found == pytest.approx(0.6404 + 0.2119, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "key"),
    [("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA H200", "H200"), ("NVIDIA A100-SXM4-80GB", None)],
)
def test_only_measured_cards_have_a_floor(name: str, key: str | None) -> None:
    assert measure.card(name) is measure.CARDS.get(key or "")


def test_comparison_by_hand() -> None:
    found = measure.comparison(
        shape="8b", sequences=16, step_s=1.5, floor_s=0.75, peak_gib=26.2,
        rivals={"trl": (12.0, 73.3), "trl-vllm": (2.1, 107.0), "fails": (None, None)},
    )  # fmt: skip
    assert set(found) == FIELDS
    assert (found["rival"], found["speedup"], found["roofline_ratio"]) == ("trl", 8.0, 2.0)
    assert found["others"] == [
        {"rival": "trl-vllm", "rival_step_s": 2.1, "speedup": 1.4, "rival_peak_gib": 107.0},
        {"rival": "fails", "rival_step_s": None, "speedup": None, "rival_peak_gib": None},
    ]


def test_comparison_without_rival_and_card() -> None:
    found = measure.comparison(shape="1b", sequences=4, step_s=1.0, floor_s=None, peak_gib=None)
    assert set(found) == FIELDS
    given = {"shape", "sequences", "step_s", "others"}
    assert {k for k, v in found.items() if v is None} == FIELDS - given
    assert found["others"] == []


def test_decoding_is_what_the_other_tokens_take() -> None:
    # (1.32 - .05) s / 127 tokens = 10 ms; 16 x 128 tokens / 1.32 s = 1,551.5
    found = rollout.speeds({"prefill": 0.05, "rollout": 1.32}, WORK)
    assert found == {"prefill_s": 0.05, "decode_ms_per_token": 10.0, "tokens_per_s": 1551.5}


def test_one_token_has_no_decoding() -> None:
    found = rollout.speeds({"prefill": 0.5, "rollout": 0.5}, shapes.Work((8,), 2, 1))
    assert found["decode_ms_per_token"] is None
    assert found["tokens_per_s"] == 4.0


def test_every_sample_is_kept_and_the_two_take_turns() -> None:
    calls: list[int] = []

    def limited(tokens: int) -> Any:
        def draw() -> int:
            calls.append(tokens)
            return 16 * tokens

        return draw

    found = rollout.timed(limited, WORK, torch.device("cpu"), warmup=1, rounds=3)
    assert {name: len(values) for name, values in found["seconds"].items()} == {
        "rollout": 3,
        "prefill": 3,
    }
    assert calls == [128, 128, 1, 1, 128, 1, 128, 1]


def test_a_sequence_that_ended_early_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="2047 tokens drawn in a rollout, not 2048"):
        rollout.timed(
            lambda tokens: lambda: 16 * tokens - 1, WORK, torch.device("cpu"), warmup=0, rounds=1
        )


def test_medians_of_a_step_and_a_rival_that_failed() -> None:
    results: dict[str, dict[str, Any]] = {
        "ours": {"seconds": {"step": [3.0, 1.0, 2.0]}, "peak_gib": {"rollout": 1.0, "step": 2.5}},
        "trl": {"failed": "out of memory (...)"},
        "trl-vllm": {"seconds": {"step": [6.0, 9.0]}, "peak_gib": {"step": 7.0, "rollout": 5.0}},
    }
    found = step.summary(flags(rival=["trl", "trl-vllm"]), results)
    assert set(found) >= FIELDS | {"work", "median_s"}
    assert (found["step_s"], found["peak_gib"], found["rival"]) == (2.0, 2.5, "trl")
    assert found["rival_step_s"] is found["speedup"] is found["rival_peak_gib"] is None
    assert found["others"] == [
        {"rival": "trl-vllm", "rival_step_s": 7.5, "speedup": 3.75, "rival_peak_gib": 7.0}
    ]
    assert found["work"]["prompt_lengths"] == [110, 220, 350, 896]


def test_fields_of_a_rollout() -> None:
    results = {
        "ours": {"seconds": {"prefill": [0.05], "rollout": [1.32]}, "peak_gib": {"rollout": 20.0}},
        "transformers": {"seconds": {"prefill": [0.2], "rollout": [6.6]}, "peak_gib": {}},
    }
    found = rollout.summary(flags(rival=["transformers"]), results)
    assert set(found) >= FIELDS | {"ours", "transformers"}
    assert (found["step_s"], found["rival_step_s"], found["speedup"]) == (1.32, 6.6, 5.0)
    assert (found["peak_gib"], found["rival_peak_gib"]) == (20.0, None)


def test_a_plain_pass_that_does_not_fit_leaves_ours() -> None:
    row = {
        "shared": {"median_s": 0.2, "tokens": 10, "peak_gib": 24.8},
        "plain": {"seconds": "out of memory", "tokens": 40},
    }
    found = forward.summary(flags(), row)
    assert set(found) == FIELDS
    assert (found["step_s"], found["rival_step_s"], found["sequences"]) == (0.2, None, 16)


def refused() -> dict[str, Any]:
    raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB. GPU 0 has no more.")


def refused_in_a_capture() -> dict[str, Any]:
    try:
        return refused()
    finally:
        raise RuntimeError("the capture was left")  # as torch.cuda.graph's __exit__ may


@pytest.mark.parametrize(
    ("call", "reason"),
    [(refused, "Tried to allocate 2.00 GiB"), (refused_in_a_capture, "the capture was left")],
)
def test_memory_that_runs_out_is_a_result(call: Any, reason: str) -> None:
    assert measure.attempt(call) == {"failed": f"out of memory ({reason})"}


def test_numbers_that_the_trainer_refuses_are_a_result() -> None:
    def stranger() -> dict[str, Any]:
        raise NumericsError("another policy has drawn")

    assert measure.attempt(stranger) == {"failed": "refused: another policy has drawn"}


def test_other_errors_are_not_swallowed() -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        measure.attempt(broken)


def test_a_result_names_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks" / "step.py"), "--shape", "8b"])
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    found = measure.origin()
    assert found["environment"]["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert "PATH" not in found["environment"]
    assert found["command"] == "python benchmarks/step.py --shape 8b"
    assert found["versions"]["torch"] == torch.__version__
    assert set(found) == {"command", "environment", "date", "machine", "versions"}


def test_writing_replaces_whole_files_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "results" / "a.json"
    measure.write(path, {"n": 1})
    measure.write(path, {"n": 2})
    assert json.loads(path.read_text()) == {"n": 2}
    assert list(path.parent.iterdir()) == [path]
