"""Which causes a history cannot be judged on."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from grpo_dual.diagnosis import rule
from grpo_dual.diagnosis.doctor import examine
from grpo_dual.diagnosis.foreign import TRL, VERL, read_csv
from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.needs import FOREIGN_NEEDS, NEEDS, missing
from grpo_dual.metrics import names

HERE = Path(__file__).parent
ROOM = Path(rule.__file__).parent


def codes(pattern: str) -> dict[str, str]:
    """Code -> module, of every call of ``finding`` in the rules' modules."""
    found: dict[str, str] = {}
    for path in sorted(ROOM.glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "finding":
                found |= dict.fromkeys(strings(node.args[0]), path.stem)
    return found


def strings(node: ast.expr) -> Iterator[str]:
    """The values that an expression of constants can have."""
    if isinstance(node, ast.IfExp):
        yield from (*strings(node.body), *strings(node.orelse))
    else:
        assert isinstance(node, ast.Constant), ast.dump(node)
        yield str(node.value)


def test_every_code_of_the_rules_has_its_needs() -> None:
    found = codes("*_rules.py")
    assert len(found) > 20
    assert set(found) == set(NEEDS)


def test_every_code_of_the_foreign_rules_has_its_needs() -> None:
    found = set(codes("foreign_*_rules.py"))
    assert found == set(FOREIGN_NEEDS[TRL]) | set(FOREIGN_NEEDS[VERL])
    assert found <= set(NEEDS)


def test_of_a_whole_run_nothing_is_missing() -> None:
    objectives = ("fairness", "hallucination")
    columns = dict.fromkeys(names.columns(objectives), (1.0,))
    history = History(objectives, (1,), columns, config={"train": {}})
    assert missing(history) == ()


def test_its_csv_alone_lacks_what_the_folder_says() -> None:
    objectives = ("fairness", "hallucination")
    history = History(objectives, (1,), dict.fromkeys(names.columns(objectives), (1.0,)))
    lacks = {m.code: m.lacks for m in missing(history)}
    assert set(lacks) == {
        "forced-length", "sampling-mismatch", "stale-adapter", "condition-imbalance",
        "noisy-general", "starved-objective",
    }  # fmt: skip
    assert lacks["stale-adapter"] == ("stopped.json",)
    assert lacks["forced-length"] == ("the setting rollout.sampling.min_new_tokens",)


@pytest.mark.parametrize(
    ("objectives", "absent"),
    [
        (("hallucination",), {"condition-imbalance", "gradient-conflict", "starved-objective"}),
        (("manners",), {"condition-imbalance", "noisy-general", "gradient-conflict"}),
    ],
)
def test_what_a_run_cannot_have_is_not_missing(
    objectives: tuple[str, ...], absent: set[str]
) -> None:
    found = {m.code for m in missing(History(objectives, (), {}))}
    assert not found & absent
    assert "entropy-collapse" in found


def test_a_log_of_trl() -> None:
    found = {m.code: m for m in missing(read_csv(HERE / "trl_log.csv"))}
    assert set(NEEDS) - set(found) == {
        "entropy-collapse", "learning-rate", "kl-runaway", "kl-frozen", "numerics", "dead-rewards",
        "cancelling-rewards", "length-hacking", "completion-truncation", "entropy-rise",
    }  # fmt: skip
    assert found["template-collapse"].says == (
        "template-collapse: needs template_frac_*, evasion_answerable_rate_*"
    )
    assert found["sampling-mismatch"].says == (
        "sampling-mismatch: needs sampling/importance_sampling_ratio/mean (logged with vLLM)"
    )


def without(history: History, *columns: str) -> History:
    return replace(history, columns={k: v for k, v in history.columns.items() if k not in columns})


@pytest.mark.parametrize(
    ("file", "code", "column", "lacks"),
    [
        ("trl_log", "cancelling-rewards", "reward_std", "reward_std"),
        ("trl_log_dead", "dead-rewards", "zero_var_frac_all", "frac_reward_zero_std"),
        ("trl_log_hot", "learning-rate", "kl_all", "kl (logged with beta above 0)"),
        ("trl_log_hot", "kl-runaway", "kl_all", "kl (logged with beta above 0)"),
        ("trl_log_cut", "completion-truncation", "completion_trunc_frac_all",
         "completions/clipped_ratio"),
        ("trl_log_long", "length-hacking", "gen_len_all_mean", "completions/mean_length"),
    ],
)  # fmt: skip
def test_a_cause_whose_column_is_gone_is_missing_and_not_found(
    file: str, code: str, column: str, lacks: str
) -> None:
    history = read_csv(HERE / f"{file}.csv")
    assert code in {f.code for f in examine(history)}
    assert code not in {m.code for m in missing(history)}
    poorer = without(history, column)
    assert code not in {f.code for f in examine(poorer)}
    assert {m.code: m.lacks for m in missing(poorer)}[code] == (lacks,)


def test_any_of_several_ways_will_do() -> None:
    history = read_csv(HERE / "trl_log.csv")
    poorer = without(history, "zero_var_frac_all")
    assert "kl-frozen" not in {m.code for m in missing(poorer)}
    both = without(history, "zero_var_frac_all", "reward_std")
    assert {m.code: m.lacks for m in missing(both)}["kl-frozen"] == ("frac_reward_zero_std",)
