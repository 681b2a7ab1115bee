"""The pages for newcomers name what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "grpo_dual"


def test_the_map_shows_every_room():
    rooms = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()}
    rows = re.findall(r"^\| (\w+) \|", (ROOT / "docs" / "map.md").read_text(), re.MULTILINE)
    assert rooms <= set(rows)


def test_the_map_names_files_that_exist():
    named = re.findall(r"`(\w+/[\w/]+\.py)`", (ROOT / "docs" / "map.md").read_text())
    assert len(named) > 15
    assert [name for name in named if not (PACKAGE / name).is_file()] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/map.md", "docs/metrics.md"])
def test_links_between_pages_lead_somewhere(page: str):
    path = ROOT / page
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())
    assert [t for t in targets if not (path.parent / t).exists()] == []
