"""When a capped run is the same run, and where it ran out."""

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "scripts"))

import out_of_memory  # noqa: E402

STEP = dict.fromkeys((*out_of_memory.SAME, *out_of_memory.NEAR), 0.5)
WHOLE = {"in step": [], "steps": [STEP, STEP]}
SAID = [
    "step 1/2  fairness: reward -0.05",
    "step 1: nearly all groups are dead",
    "out of memory (CUDA out of memory): this step is computed again",
    "step 2/2  fairness: reward -0.16",
]


def test_the_step_that_ran_out_is_the_one_behind_the_last_that_is_done() -> None:
    assert out_of_memory.short_steps(SAID) == [2]
    assert out_of_memory.short_steps(SAID[2:]) == [1]
    assert out_of_memory.short_steps(SAID[:2]) == []


def capped(step: int, **changes: float) -> dict[str, Any]:
    return {"in step": [step], "steps": [STEP, STEP | changes]}


def test_the_same_run_up_to_the_step_that_ran_out() -> None:
    assert out_of_memory.wrong(capped(2, grad_norm_f=0.505), WHOLE) is None
    # What comes behind that step may differ: its gradient's rounding has.
    assert out_of_memory.wrong(capped(1, reward_f_mean=0.9), WHOLE) is None


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (WHOLE, "it ran out of memory 0 times, not once"),
        (capped(2) | {"in step": [1, 2]}, "it ran out of memory 2 times, not once"),
        (capped(2) | {"steps": [STEP]}, "1 steps, not 2"),
        (capped(2, gen_len_h_mean=0.5001), "step 2 is another one"),
        (capped(2, grad_norm_h=0.52), "step 2 is another one"),
    ],
)
def test_what_is_wrong_is_said(run: dict[str, Any], why: str) -> None:
    assert str(out_of_memory.wrong(run, WHOLE)).startswith(why)


def test_caps_go_down_from_between_the_peaks_to_the_smaller() -> None:
    assert out_of_memory.caps(400, 360) == [380, 375, 370, 365, 360]
