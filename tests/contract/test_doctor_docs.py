"""docs/doctor.md: the page that every finding links to."""

import re
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest

from grpo_dual.config.doctoring import DoctorConfig
from grpo_dual.config.load import load_config
from grpo_dual.config.schema import RunConfig
from grpo_dual.config.strict_yaml import parse
from grpo_dual.diagnosis.doctor import EXPLAINS
from grpo_dual.diagnosis.needs import NEEDS
from grpo_dual.diagnosis.page import PAGE

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
HEADINGS = re.findall(r"^#{1,6} (.+)$", re.sub(r"(?s)```.*?```", "", TEXT), re.MULTILINE)
SECTIONS = dict(re.findall(r"(?ms)^### ([a-z-]+)$\n(.*?)(?=^#{1,3} |\Z)", TEXT))
DEMO = load_config(ROOT / "configs" / "demo.yaml").model_dump(mode="json")
BLOCKS = [(code, block) for code, own in SECTIONS.items()
          for block in re.findall(r"(?s)```yaml\n(.*?)```", own)]  # fmt: skip


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    whole = dict(base)
    for key, value in over.items():
        inner = whole.get(key)
        both = isinstance(inner, dict) and isinstance(value, dict)
        whole[key] = merged(cast("dict[str, Any]", inner), value) if both else value
    return whole


CODES = {*NEEDS, *EXPLAINS, *(c for own in EXPLAINS.values() for c in own), *DoctorConfig().allow}


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_cause_has_its_heading(code: str):
    # GitHub's anchor of a heading in kebab-case is the heading itself, if it stands there once.
    assert HEADINGS.count(code) == 1


@pytest.mark.parametrize("code", sorted(NEEDS))
def test_every_cause_says_how_it_is_known_told_apart_and_mended(code: str):
    for part in ("Statistic", "Told apart", "Remedy"):
        assert f"- **{part}.** " in SECTIONS[code]


def test_no_anchor_stands_for_two_headings():
    assert [h for h, n in Counter(HEADINGS).items() if n > 1] == []


@pytest.mark.parametrize(("code", "block"), BLOCKS, ids=[code for code, _ in BLOCKS])
def test_a_remedy_of_the_page_is_a_configuration(code: str, block: str):
    data = parse(block, Path(f"{code}.yaml")).data
    changed = RunConfig.model_validate(merged(DEMO, data)).model_dump(mode="json")
    # It is taken as it stands: no value is turned into another one.
    assert merged(changed, data) == changed


def test_remedies_are_shown():
    assert len(BLOCKS) > 15


def test_links_to_other_pages_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert targets
    assert [t for t in targets if not (ROOT / "docs" / t).exists()] == []


def test_links_within_the_page_lead_somewhere():
    assert [a for a in re.findall(r"\]\(#([^)]+)\)", TEXT) if a not in HEADINGS] == []
