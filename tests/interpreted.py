"""Triton's kernels on the CPU: tests/conftest.py lets its interpreter run them where no card is."""

import pytest
import torch
from torch import Tensor


def require_interpreter() -> None:
    """Skip a module of tests where kernels cannot be run so, or a card does."""
    pytest.importorskip("triton", reason="Triton is for Linux")
    if torch.cuda.is_available():
        pytest.skip("a card checks them itself: scripts/cuda_checks.py", allow_module_level=True)


def assert_near(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Within an absolute or relative tolerance, whichever allows more."""
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=tolerance, atol=tolerance)
