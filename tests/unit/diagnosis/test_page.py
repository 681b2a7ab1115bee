import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_histories import BOTH, found, made, steps
from rule_cases import CASES, id_of

from grpo_dual.config.strict_yaml import parse
from grpo_dual.diagnosis.bands import bands
from grpo_dual.diagnosis.doctor import Diagnosis, diagnose, examine, key, rank
from grpo_dual.diagnosis.needs import NEEDS
from grpo_dual.diagnosis.page import (
    PAGE,
    WIDTH,
    as_json,
    finding_document,
    page,
    paragraph,
    remedy_text,
    summary,
    title,
    tree_text,
    yaml_lines,
)
from grpo_dual.diagnosis.remedies import Prescription, patched
from grpo_dual.diagnosis.tree import ask
from grpo_dual.types import Finding, Severity

F, H = BOTH


def read_back(patch: dict[str, Any]) -> dict[str, Any]:
    return parse("\n".join(yaml_lines(patch)) + "\n", Path("patch.yaml")).data


# --- the lines of YAML


def test_a_patch_as_yaml():
    patch = {
        "train.optimizer.learning_rate": 1e-6,
        "objectives.fairness.kl.beta": 0.1,
        "objectives.fairness.kl.adaptive": True,
        "objectives.fairness.custom_rewards": [],
        "rollout.engine": "transformers",
        "sft.steps": 0,
    }
    assert yaml_lines(patch) == [
        "train:",
        "  optimizer:",
        "    learning_rate: 1.0e-06",
        "objectives:",
        "  fairness:",
        "    kl:",
        "      beta: 0.1",
        "      adaptive: true",
        "    custom_rewards: []",
        "rollout:",
        '  engine: "transformers"',
        "sft:",
        "  steps: 0",
    ]
    assert read_back(patch) == patched({}, patch)


@pytest.mark.parametrize(
    "value",
    [1e-6, 2.5e-05, -1e-7, 1e16, 1.5e300, 5e-324, 0.1, 3, -2, True, False, None, "off", "1e-6",
     "a: b # c", 'say "no"', "two\nlines", "\x1b[31m", "ü", [], [1, "x"], ["1e-3"]],
)  # fmt: skip
def test_a_value_reads_back_as_it_was(value: object):
    back = read_back({"a.b": value})["a"]["b"]
    assert back == value
    assert type(back) is type(value)


KEYS = st.from_regex(r"k[a-z_]{0,4}", fullmatch=True)
NUMBERS = st.one_of(
    st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False)
)


@settings(deadline=None)
@given(st.dictionaries(st.tuples(KEYS, KEYS, KEYS).map(".".join), st.one_of(NUMBERS, st.booleans()),
                       min_size=1))  # fmt: skip
def test_any_patch_reads_back(patch: dict[str, Any]):
    assert read_back(patch) == patched({}, patch)


@pytest.mark.parametrize("case", [c for c in CASES if c.severity], ids=id_of)
def test_the_rules_patches_read_back(case: Any):
    for own in examine(case.history):
        if own.patch:
            assert read_back(dict(own.patch)) == patched({}, own.patch)


# --- a paragraph


def test_a_paragraph():
    own = found(
        "kl-runaway",
        confidence=0.8,
        step=7,
        evidence=("KL 0.6 nats per token", "beta 0.03"),
        patch={"objectives.fairness.kl.beta": 0.1},
        samples=("Ann",),
    )
    assert paragraph(own).split("\n") == [
        "ACT  kl-runaway (fairness): from step 7 on, confidence 0.80",
        "    kl-runaway is what it is.",
        "    - KL 0.6 nats per token",
        "    - beta 0.03",
        '      "Ann"',
        "    Remedy: Change it.",
        "    objectives:",
        "      fairness:",
        "        kl:",
        "          beta: 0.1",
        "    More: docs/doctor.md#kl-runaway",
    ]


@pytest.mark.parametrize(
    ("step", "until", "when"),
    [
        (None, None, "before the first step"),
        (0, None, "before the first step"),
        (3, None, "from step 3 on"),
        (3, 9, "steps 3 to 9, over now"),
    ],
)
def test_when_it_was(step: int | None, until: int | None, when: str):
    assert f": {when}, confidence" in paragraph(found(step=step, until=until))


def test_of_the_whole_run_it_names_no_objective():
    assert title(found("numerics", None)) == "numerics"


# --- what a model wrote is data


NASTY = (
    "\x1b[2J\x1b]0;owned\x07",  # clears a terminal, sets its title
    "\x9b31m",  # the same by one character
    "line\r\nACT  numerics: from step 1 on",  # would begin a finding of its own
    "\u202egnp.exe",  # turns the rest of the line round
    "tab\there\x00null\x7f",
    "\u2028\u2029\x85new lines of another kind",
)


@pytest.mark.parametrize("text", NASTY)
def test_control_characters_do_not_reach_the_terminal(text: str):
    own = found(samples=(text,), evidence=(text,), objective=f"f{text}")
    shown = page(Diagnosis((own,)), None, ())
    assert all(c == "\n" or c.isprintable() for c in shown)
    # One line of the page stays one line.
    assert sum(line.startswith("ACT ") for line in shown.split("\n")) == 1


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "[bold red]x[/]", "[link=file:///etc]y[/link]", "{0} %s"]
)
def test_markup_is_shown_as_it_is(text: str):
    assert f'"{text}"' in paragraph(found(samples=(text,)))
    assert json.loads(as_json(Diagnosis((found(samples=(text,)),)), None, ()))["findings"][0][
        "samples"
    ] == [text]


def test_a_sample_is_cut():
    shown = paragraph(found(samples=("word " * 100,)))
    assert len(" ".join(shown.split('"')[1].split())) == 160 + len("...")


def test_a_page_is_not_wider_than_it_should_be():
    own = found(evidence=("word " * 60,), samples=("word " * 60,))
    assert max(map(len, paragraph(own).split("\n"))) <= WIDTH


@settings(deadline=None)
@given(st.text(max_size=80))
def test_json_keeps_every_character(text: str):
    own = found(samples=(text,), evidence=(text,))
    (back,) = json.loads(as_json(Diagnosis((own,)), None, ()))["findings"]
    assert back["samples"] == [text]
    assert back["evidence"] == [text]


# --- the first line


def test_nothing_was_found():
    assert summary(Diagnosis(())) == "Healthy: no rule found anything."


@pytest.mark.parametrize(
    ("rows", "ended", "line"),
    [
        (0, None, "Nothing can be said: there is no step yet."),
        (1, None, "Too early to say: 1 step so far, and most rules ask for 3 in a row."),
        (2, None, "Too early to say: 2 steps so far, and most rules ask for 3 in a row."),
        (3, None, "Healthy: no rule found anything."),
        (9, "Out of memory\x1b[31m", "Stopped: Out of memory [31m\nNo rule knows why."),
        (0, "boom", "Stopped: boom\nNothing can be said: there is no step yet."),
    ],
)
def test_silence_is_no_health(rows: int, ended: str | None, line: str):
    assert summary(Diagnosis((), rows, ended)) == line


def test_what_was_not_measured_is_not_healthy():
    assert summary(Diagnosis((), 9), missing=("numerics: needs x",)) == (
        "Healthy as far as was measured; 1 cause could not be looked for (below)."
    )


def test_a_run_that_was_stopped_is_diagnosed_too():
    assert summary(Diagnosis((found("numerics", None),), 9, "boom")) == (
        "Stopped: boom\nChange this first: numerics."
    )


def test_remedies_that_were_applied_stand_below_the_first_line():
    acted = ('The doctor acted on numerics behind step 3: model.dtype "float32"',)
    assert page(Diagnosis(()), None, (), acted=acted).split("\n\n")[1] == acted[0]


def test_what_is_over_is_told():
    over = found("judge-outage", until=4)
    assert summary(Diagnosis((over,))) == "Healthy now. Over: judge-outage (fairness)."


def test_warnings_alone_change_nothing():
    listed = (found("kl-runaway", severity=Severity.WARN), found("numerics", None, Severity.NOTE))
    assert summary(Diagnosis(listed)) == (
        "Nothing is sure enough to act on; look at kl-runaway (fairness)."
    )


def test_notes_do_not_take_a_run_its_health():
    noted = found("data-leak", severity=Severity.NOTE)
    assert summary(Diagnosis((noted,), 30)) == (
        "Healthy: no rule found anything. Noted: data-leak (fairness)."
    )
    over = found("judge-outage", until=4)
    assert summary(Diagnosis((over, noted), 30)) == (
        "Healthy now. Over: judge-outage (fairness). Noted: data-leak (fairness)."
    )


def test_objectives_that_are_not_trained_are_told():
    assert page(Diagnosis((), 30, None, ("hallucination",)), None, ()).split("\n\n")[1] == (
        "Not trained (weight 0), and so not judged: hallucination."
    )


def test_what_to_change_first():
    listed = (found("kl-frozen"), found("numerics", None), found("judge-noise", until=3))
    assert summary(Diagnosis(listed)) == "Change this first: kl-frozen (fairness), and 1 more."
    assert summary(Diagnosis(listed[:1])) == "Change this first: kl-frozen (fairness)."


def test_a_cause_that_is_over_leads_while_its_symptoms_hold():
    cause = found("pays-for-filler", step=3, until=9)
    symptom = found("reward-hacking", step=10)
    assert summary(Diagnosis((cause, symptom))) == (
        "Change this first: pays-for-filler (fairness) (over now; what it brought is not: "
        "reward-hacking (fairness))."
    )


# --- the whole page


def history():
    """Hallucination is thrown about and its entropy is gone; fairness is well."""
    return made(
        20,
        kl_h=[0.0, 0.5, 0.0, 0.5] * 5,
        entropy_h=steps((2.0, 4), (0.1, 16)),
        right_frac_h=0.2,
        evasion_answerable_rate_f=steps((0.4, 3), (0.05, 17)),
        evasion_answerable_rate_h=0.6,
        zero_var_frac_f=0.2,
        zero_var_frac_h=0.2,
        gradient_signal_f=0.6,
        gradient_signal_h=0.6,
    )


def test_a_page():
    run = history()
    text = page(diagnose(run), ask(run), bands(run), missing=("judge-noise: needs verdicts",))
    parts = text.split("\n\n")
    assert parts[0] == "Change this first: learning-rate (hallucination), and 1 more."
    assert parts[1].startswith("ACT  learning-rate (hallucination): from step 3 on")
    assert parts[2].startswith("Explained by what stands above:")
    assert (
        "- entropy-collapse (hallucination), by learning-rate (hallucination): entropy" in parts[2]
    )
    assert parts[3].startswith("The step-20 tree: hallucination alone is weak, and the general")
    assert "  fairness: recovered" in parts[3]
    assert "  hallucination: weak" in parts[3]
    assert "    no  evasions on answerable prompts: 60 % (at the start 60 %)" in parts[3]
    assert "  B2: Contrastive pairs" in parts[3]
    assert parts[4] == "Change first what stands on top: the tree knows of no causes."
    assert parts[5].startswith("The hand-off's bands (shown, nothing hangs on them):")
    assert parts[6] == "not measured here:\n  judge-noise: needs verdicts"


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            found,
            code=st.sampled_from(sorted(NEEDS)),
            objective=st.sampled_from((F, H, None)),
            severity=st.sampled_from(tuple(Severity)),
            step=st.sampled_from((None, 1, 2)),
        ),
        max_size=6,
        unique_by=key,
    )
)
def test_every_finding_is_on_the_page_once(findings: list[Finding]):
    lines = page(Diagnosis(rank(findings)), None, ()).split("\n")
    for own in findings:
        heads = (f"{own.severity.upper():4} {title(own)}: ", f"    - {title(own)}, by ")
        assert sum(line.startswith(heads) for line in lines) == 1


def test_a_healthy_page_is_one_line():
    assert page(Diagnosis(()), None, ()) == "Healthy: no rule found anything."


def test_an_early_tree_says_so():
    tree = ask(history().until(9))
    assert tree is not None
    assert tree_text(tree).startswith("The step-20 tree (a first look at step 9): ")


def test_what_the_pre_flight_warned_of_in_vain_is_one_line():
    vain = found("pays-for-filler", severity=Severity.WARN, step=None, until=0)
    assert page(Diagnosis((vain,)), None, ()).split("\n\n") == [
        "Healthy: no rule found anything.",
        "Warned of before the first step, and not seen in the run: pays-for-filler (fairness).",
    ]


def test_a_page_as_json_and_back():
    run = history()
    diagnosis, tree, banded = diagnose(run), ask(run), bands(run)
    assert tree is not None
    back = json.loads(as_json(diagnosis, tree, banded, missing=("x: needs y",)))
    assert back["worst"] == "act"
    assert back["findings"] == [json.loads(json.dumps(finding_document(f))) for f in
                                diagnosis.findings]  # fmt: skip
    first = back["findings"][0]
    own = asdict(diagnosis.findings[0])
    assert {k: first[k] for k in own} == json.loads(json.dumps(own))
    assert first["link"] == f"{PAGE}#learning-rate"
    assert back["bands"] == [asdict(b) for b in banded]
    assert back["tree"]["verdict"] == tree.verdict
    assert back["tree"]["early"] is False
    assert back["tree"]["objectives"]["fairness"]["recovered"] is True
    criteria = back["tree"]["objectives"]["hallucination"]["criteria"]
    assert criteria == [asdict(c) for c in tree.branches[1].criteria]
    assert [r["name"] for r in back["tree"]["remedies"]] == ["B2"]
    assert back["missing"] == ["x: needs y"]


def test_an_empty_page_as_json():
    assert json.loads(as_json(Diagnosis(()), None, ())) == {
        "worst": None,
        "summary": "Healthy: no rule found anything.",
        "steps": None,
        "stopped": None,
        "acted": [],
        "idle": [],
        "findings": [],
        "tree": None,
        "bands": [],
        "missing": [],
    }


@pytest.mark.parametrize(("back_to", "where"), [(0, "the start"), (8, "the checkpoint of step 8")])
def test_a_remedy_says_where_it_goes_back_to(back_to: int, where: str):
    patch = {"sft.steps": 0}
    text = remedy_text(Prescription((found("template-collapse"),), patch, 12, back_to))
    assert f"acts on template-collapse (fairness) behind step 12, goes back to {where} " in text
    assert "      steps: 0\n" in text
    assert "doctor RUN --undo" in text
