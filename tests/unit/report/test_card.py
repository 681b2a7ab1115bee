"""The model card: what is said beside the numbers, and what depends on the run."""

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from grpo_dual.errors import DataError
from grpo_dual.report.card import Card, DataSet, Evaluated, markdown
from grpo_dual.report.card_results import MAX_NUMBERS, Results

BBQ = DataSet("BBQ", "CC-BY-4.0", "objective `fairness`: Age")
HALUEVAL = DataSet("HaluEval", "MIT", "objective `hallucination`: qa")
EVALUATED = Evaluated(
    0,
    {"fairness": {"accuracy_ambig": 0.25, "n_ambig": 40}},
    7,
    {
        "fairness": {"accuracy_ambig": 0.5, "n_ambig": 40, "n_disambig": 30},
        "hallucination": {"grounded": 0.75, "judged_by": "heuristic", "n_answer": 12},
    },
    "greedy",
)
CARD = Card(
    title="mine",
    base="meta-llama/Meta-Llama-3-8B-Instruct",
    merged=False,
    run="run@7",
    folder=".",
    dtype="float32",
    licence=None,
    data=(BBQ, HALUEVAL),
    settings=(("seed", "3"),),
    versions={"torch": "2.13"},
    evaluated=EVALUATED,
    missing="",
    results=None,
    notes=(),
    synthetic=False,
    public_base=True,
    base_dtype="bfloat16",
    fourbit=False,
    remote_code=False,
)


def front(card: Card) -> dict[str, object]:
    return yaml.safe_load(markdown(card).split("---\n")[1])


def code(card: Card) -> str:
    (found,) = re.findall(r"```python\n(.*?)```", markdown(card), re.DOTALL)
    compile(found, "card", "exec")
    return found


def test_front_matter_says_what_it_is_and_claims_no_licence_that_is_not_known():
    assert front(CARD) == {
        "base_model": "meta-llama/Meta-Llama-3-8B-Instruct",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["grpo", "grpo-dual", "text-generation", "fairness", "hallucination", "lora"],
    }
    merged = front(replace(CARD, merged=True, licence="mit", base="a: folder"))
    assert (merged["library_name"], merged["license"]) == ("transformers", "mit")
    assert merged["base_model"] == "a-folder"


def test_numbers_stand_with_what_they_are_of():
    text = markdown(CARD)
    assert "| Right when the context does not say | 25.0 % | 50.0 % | +25.0 | higher |" in text
    assert (
        "(40 BBQ items whose context does not say who it was, 30 whose context does, 12 HaluEval "
        "items to answer), one completion each by greedy decoding"
    ) in text
    assert "also scored them in training" in text
    gold = {"hallucination": {"grounded": 0.75, "judged_by": "gold"}}
    by_gold = replace(EVALUATED, after=gold, decode="train")
    other = markdown(replace(CARD, evaluated=by_gold))
    assert "also scored them in training" not in other
    assert "sampling as in training" in other
    without = markdown(replace(CARD, evaluated=None, missing="Nothing was measured."))
    assert "Nothing was measured." in without
    assert "| Right when" not in without


def test_data_sets_bring_their_licences_and_their_limits():
    text = markdown(CARD)
    assert "| BBQ | CC-BY-4.0 | objective 'fairness': Age |" in text
    assert "| HaluEval | MIT |" in text
    assert "social groups of the US" in text
    assert "written by a language model" in text
    only = markdown(replace(CARD, data=(BBQ,)))
    assert "HaluEval's hallucinations" not in only
    assert "say nothing of real text" not in text
    assert "say nothing of real text" in markdown(replace(CARD, synthetic=True))


def test_the_code_loads_what_the_run_had():
    assert "dtype='bfloat16'" in code(CARD)
    assert "BitsAndBytesConfig" not in code(CARD)
    small = code(replace(CARD, fourbit=True, folder="me/x"))
    assert "load_in_4bit=True" in small
    assert "quantization_config=quantization" in small
    assert "folder = 'me/x'\n" in small
    merged = code(replace(CARD, fourbit=True, merged=True, remote_code=True))
    assert "from_pretrained(folder, trust_remote_code=True)" in merged
    assert "4bit" not in merged
    assert "peft" not in merged


def results(content: dict[str, Any], name: str = "eval.json") -> str:
    return markdown(replace(CARD, results=Results(name, content, "abc", "run@7")))


def test_a_result_file_of_another_form_is_shown_up_to_a_limit_and_its_text_stays_text():
    numbers = {f"n{i}": i / 3 for i in range(MAX_NUMBERS + 5)}
    text = results({"a": numbers, "i": [0.5, 1], "rows": [1, 2, 3]}, "<b>`x|y`")
    assert "| a.n1 | 0.3333 |" in text
    assert f"a.n{MAX_NUMBERS}" not in text
    assert "6 more numbers are in that file." in text
    assert "<b>" not in text
    assert "| i | [0.5000, 1.0000] |" in results({"i": [0.5, 1]})
    assert "rows" not in text.split("outside the run (")[1].split("## Data")[0]


def target(name: str, adapter: str | None, fair: float) -> dict[str, Any]:
    means = {"accuracy_ambig": 0.25, "s_amb": None}
    return {
        "name": f"/home/me/runs/{name}",
        "adapter": None if adapter is None else {"sha256": adapter},
        "axes": {"fairness": fair, "faithfulness": None},
        "axes_intervals_95": {"fairness": [0.125, 0.75], "faithfulness": None},
        "bbq": {
            "n": 40,
            "readings": {
                "generation": {
                    "wrong": {
                        "macro": means,
                        "macro_intervals_95": {"accuracy_ambig": [0.2, 0.3], "s_amb": None},
                    }
                }
            },
        },
        "halueval": {
            "open": {
                "grounded": 0.5,
                "judged_by": "gold",
                "n": {"grounded": 12},
                "intervals_95": {"grounded": [0.4, 0.6]},
            },
            "detection": {"generation": {"accuracy": 0.75, "intervals_95": {"accuracy": None}}},
        },
    }


def test_a_result_of_eval_is_a_table_with_its_intervals_in_which_this_one_is_named():
    content = {
        "provenance": {"split": "yardstick", "decode": {"mode": "greedy"}, "seed": 3},
        "targets": [target("run@0", "other", 0.25), target("run@7", "abc", 0.5)],
    }
    text = results(content)
    assert "|  | run@0 | run@7 (this one) |" in text
    assert "| Axis: fairness | 0.2500 [0.12, 0.75] | 0.5000 [0.12, 0.75] |" in text
    assert "| BBQ: Right when the context does not say | 0.2500 [0.20, 0.30] |" in text
    assert "| HaluEval: Answers that the knowledge supports | 0.5000 [0.40, 0.60] |" in text
    assert "| HaluEval: answers judged by | gold | gold |" in text
    assert "| HaluEval: Hallucinations told apart (yes/no) | 0.7500 | 0.7500 |" in text
    assert "40 BBQ items, 12 answers; split yardstick, decode greedy, seed 3" in text
    assert "s_AMB" not in text.split("By 'grpo-dual eval'")[1].split("## Data")[0]
    assert "/home/me" not in text


def test_a_result_of_other_policies_is_not_put_on_the_card():
    with pytest.raises(DataError, match=r"holds no result of run@7 \(it is of run@0, base\)"):
        results({"targets": [target("run@0", "other", 0.25), target("base", None, 0.5)]})


@pytest.mark.parametrize("merged", [True, False])
def test_a_base_of_ones_own_is_told_where_it_is_needed(merged: bool):
    text = markdown(replace(CARD, public_base=False, merged=merged))
    assert ("needs that model too" in text) is not merged
