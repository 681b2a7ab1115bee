"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

# Before anything imports torch: tiny tensors gain nothing by threads, and the workers of
# pytest-xdist would take each other's cores. What a variable already says is kept.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

if not torch.cuda.is_available():
    # Before anything imports Triton, so that its kernels run here, too (tests/interpreted.py).
    os.environ.setdefault("TRITON_INTERPRET", "1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real BBQ and HaluEval rows; they are not part of the repository."""
    folder = Path(os.environ.get("GRPO_DUAL_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "bbq" / "Age.jsonl").is_file():
        pytest.skip(f"real data rows are not at {folder}; set GRPO_DUAL_DATA to test against them")
    return folder
