"""The command that a run's last line tells to type."""

import shutil
import sys

import pytest

from grpo_dual.train.run import _program  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("typed", "found", "told"),
    [
        (".venv/bin/grpo-dual", None, ".venv/bin/grpo-dual"),
        ("a b/grpo-dual", None, "'a b/grpo-dual'"),
        (".venv/bin/grpo-dual", "/usr/bin/grpo-dual", "grpo-dual"),
        ("src/grpo_dual/__main__.py", None, "grpo-dual"),
    ],
)
def test_without_an_activated_environment_it_is_told_by_its_path(
    typed: str, found: str | None, told: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", [typed, "train"])
    monkeypatch.setattr(shutil, "which", lambda _: found)
    assert _program() == told
