"""The pages for newcomers name what is there."""

import ast
import re
from pathlib import Path

import pytest

from grpo_dual.config.load import load_config

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


DECISIONS = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs/decisions").glob("*.md"))


def definitions(path: Path) -> set[str]:
    """Functions, classes and methods (``Class.method``) of a file."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{child.name}"
                for child in node.body
                if isinstance(child, ast.FunctionDef)
            }
    return names


@pytest.mark.parametrize("page", ["docs/maths.md", *DECISIONS])
def test_functions_and_tests_that_a_page_names_exist(page: str):
    named = re.findall(r"`((?:\w+/)+\w+\.py)(?:::([\w.]+))?`", (ROOT / page).read_text())
    if page == "docs/maths.md":
        assert len(named) > 80
    missing = []
    for file, name in named:
        folder = next((f for f in (PACKAGE, ROOT / "tests", ROOT) if (f / file).is_file()), None)
        if folder is None or (name and name not in definitions(folder / file)):
            missing.append(f"{file}::{name}")
    assert missing == []


@pytest.mark.parametrize(
    "page", ["CONTRIBUTING.md", "docs/map.md", "docs/maths.md", "docs/metrics.md", *DECISIONS]
)
def test_links_between_pages_lead_somewhere(page: str):
    path = ROOT / page
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())
    assert [t for t in targets if not (path.parent / t).exists()] == []


def test_the_judges_of_the_page_are_a_configuration(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "api-judges.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "run.yaml"
    path.write_text((ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8") + example)
    assert list(load_config(path, []).judge.providers) == ["openai", "local", "nli"]
