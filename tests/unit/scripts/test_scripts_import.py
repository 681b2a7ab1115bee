"""Scripts that are seldom run do not rot unseen: each still finds all that it imports."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = sorted([*(ROOT / "scripts").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_it_imports(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("tests", "benchmarks", "scripts"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    for name in {p.stem for p in SCRIPTS} & set(sys.modules):
        monkeypatch.delitem(sys.modules, name)
    assert importlib.import_module(path.stem).__doc__
