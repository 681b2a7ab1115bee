"""What the tests of commands share."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from grpo_dual.cli.main import main
from judged_runs import KEY


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, a key for the judges, no proxy; returns the folder of the cache."""
    monkeypatch.setenv("GRPO_DUAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("JUDGE_KEY", KEY)
    return tmp_path / "cache"


@pytest.fixture
def told(places: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[Sequence[object]], str]:
    """Run a command that must end well; returns what it printed."""
    del places

    def run(arguments: Sequence[object]) -> str:
        code = main([str(argument) for argument in arguments])
        out, error = capsys.readouterr()
        assert code == 0, error
        assert KEY not in out + error
        return out

    return run
