import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from grpo_dual.config.objectives import (
    BbqData,
    FairnessConfig,
    HallucinationConfig,
    HaluEvalData,
    ObjectiveConfig,
)
from grpo_dual.errors import DataError
from grpo_dual.records.bbq import iter_bbq
from grpo_dual.records.halueval import iter_halueval
from grpo_dual.records.splits import split_bbq, split_halueval
from grpo_dual.train.objectives import build_objective
from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord, Polarity, Task


def bbq(
    key: int,
    subset: str,
    index: int,
    condition: Condition = Condition.AMBIGUOUS,
    polarity: Polarity = Polarity.NEGATIVE,
    names: bool = False,
) -> BbqRecord:
    return BbqRecord(
        record_id=f"bbq/{subset}/{key}",
        objective="fairness",
        subset=subset,
        task=Task.CHOOSE,
        origin="test",
        example_id=key,
        question_index=str(index),
        condition=condition,
        polarity=polarity,
        context=f"context {subset} {index} {key}",
        question="who?",
        options=("a", "b", "unknown"),
        label=2,
        unknown=2,
        biased=0,
        names=names,
    )


def pair(key: int, subset: str, context: str | None = None, query: str = "q") -> HaluEvalRecord:
    return HaluEvalRecord(
        record_id=f"halueval/{subset}/{key}",
        objective="hallucination",
        subset=subset,
        task=Task.ANSWER,
        origin="test",
        context=f"{subset} {key}" if context is None else context,
        query=query,
        accepted="right",
        rejected="wrong",
    )


def templates(rows: list[BbqRecord]) -> set[tuple[str, str]]:
    return {(row.subset, row.question_index) for row in rows}


def test_whole_templates_of_every_category() -> None:
    rows = [bbq(100 * t + k, c, t) for c in ("Age", "SES") for t in range(1, 26) for k in range(4)]
    train, held = split_bbq(rows, eval_templates=0.2, seed=1)
    assert not templates(train) & templates(held)
    # .2 x 25 templates = 5 in each category, 4 rows each
    assert Counter(row.subset for row in held) == {"Age": 20, "SES": 20}
    assert len(train) + len(held) == len(rows)


def test_split_depends_on_seed_and_category_only() -> None:
    rows = [bbq(100 * t + k, c, t) for c in ("Age", "SES") for t in range(1, 26) for k in range(4)]
    _, held = split_bbq(rows, eval_templates=0.2, seed=1)
    mixed = rows[:]
    random.Random(5).shuffle(mixed)
    assert templates(split_bbq(mixed, eval_templates=0.2, seed=1)[1]) == templates(held)
    alone = split_bbq([r for r in rows if r.subset == "Age"], eval_templates=0.2, seed=1)[1]
    assert templates(alone) == {t for t in templates(held) if t[0] == "Age"}
    assert templates(split_bbq(rows, eval_templates=0.2, seed=2)[1]) != templates(held)


def test_proper_name_templates_are_divided_apart() -> None:
    rows = [bbq(t, "Gender_identity", t, names=t > 25) for t in range(1, 51)]
    _, held = split_bbq(rows, eval_templates=0.2, seed=0)
    assert Counter(row.names for row in held) == {True: 5, False: 5}


def test_small_categories() -> None:
    rows = [bbq(1, "Age", 1), bbq(2, "SES", 1), bbq(3, "SES", 2)]
    train, held = split_bbq(rows, eval_templates=0.2, seed=0)
    assert len(held) == 1
    assert held[0].subset == "SES"
    assert len(train) == 2
    assert split_bbq(rows, eval_templates=0.0, seed=0) == (rows, [])
    with pytest.raises(DataError, match="eval_templates"):
        split_bbq(rows, eval_templates=1.0, seed=0)


def test_halueval_in_proportion() -> None:
    rows = [pair(k, "qa") for k in range(60)] + [pair(k, "general") for k in range(40)]
    train, held = split_halueval(rows, eval_samples=10, seed=3)
    # 10 x 60/100 = 6 and 10 x 40/100 = 4
    assert Counter(row.subset for row in held) == {"qa": 6, "general": 4}
    assert {r.record_id for r in train}.isdisjoint(r.record_id for r in held)
    assert len(train) == 90
    shuffled = rows[:]
    random.Random(0).shuffle(shuffled)
    again = split_halueval(shuffled, eval_samples=10, seed=3)[1]
    assert {r.record_id for r in again} == {r.record_id for r in held}


def test_same_context_and_query_stay_together() -> None:
    rows = [pair(k, "qa", context=f"c{k // 3}") for k in range(90)]
    train, held = split_halueval(rows, eval_samples=30, seed=0)
    assert len(held) == 30
    assert {r.context for r in train}.isdisjoint(r.context for r in held)
    # groups of three do not fit into ten exactly: nine are held out, never more than asked
    assert len(split_halueval(rows, eval_samples=10, seed=0)[1]) == 9


def test_halueval_limits() -> None:
    rows = [pair(k, "qa") for k in range(5)]
    assert split_halueval(rows, eval_samples=0, seed=0) == (rows, [])
    for wrong in (5, 6, -1):
        with pytest.raises(DataError, match="eval_samples"):
            split_halueval(rows, eval_samples=wrong, seed=0)


def test_real_rows(shared_data: Path) -> None:
    rows = list(iter_bbq(shared_data / "bbq", categories=("Age", "Gender_identity")))
    train, held = split_bbq(rows, eval_templates=0.2, seed=0)
    assert not templates(train) & templates(held)
    assert {(r.context, r.question) for r in train}.isdisjoint(
        (r.context, r.question) for r in held
    )
    assert {r.condition for r in held} == set(Condition)
    pairs = list(iter_halueval(shared_data / "halueval"))
    train_h, held_h = split_halueval(pairs, eval_samples=200, seed=0)
    assert len(held_h) == 200
    assert {(r.context, r.query) for r in train_h}.isdisjoint((r.context, r.query) for r in held_h)


def with_people(key: int, index: int, people: tuple[str, str], unknown: int = 2) -> BbqRecord:
    options = list(people)
    options.insert(unknown, "Unknown")
    return replace(
        bbq(key, "Age", index), options=(options[0], options[1], options[2]), unknown=unknown
    )


def test_people_are_held_out_whole_in_every_template() -> None:
    # 10 pairs in each of 3 templates, 4 rows each in either order: a fifth is 2 pairs, 8 rows.
    pairs = [(f"person {n}", f"other {n}") for n in range(10)]
    rows = [
        with_people(100 * index + 10 * turn + n, index, pair if turn % 2 else pair[::-1], turn % 3)
        for index in (1, 2, 3)
        for n, pair in enumerate(pairs)
        for turn in range(4)
    ]
    train, held = split_bbq(rows, eval_templates=0.2, seed=0, by="people")
    assert len(held) == 3 * 8
    assert sorted(train + held, key=rows.index) == rows

    def pairs_of(some: list[BbqRecord]) -> set[tuple[str, frozenset[str]]]:
        return {(r.question_index, frozenset(r.options) - {"Unknown"}) for r in some}

    assert not pairs_of(train) & pairs_of(held)
    assert templates(train) == templates(held) == {("Age", str(i)) for i in (1, 2, 3)}
    shuffled = rows.copy()
    random.Random(0).shuffle(shuffled)
    assert pairs_of(split_bbq(shuffled, eval_templates=0.2, seed=0, by="people")[1]) == pairs_of(
        held
    )


def test_the_only_pair_of_a_template_is_trained_on() -> None:
    rows = [with_people(n, 1, ("a", "b")) for n in range(4)]
    assert split_bbq(rows, eval_templates=0.5, seed=0, by="people") == (rows, [])


def test_every_run_seed_is_held_to_the_same_real_items(shared_data: Path) -> None:
    def held_out(config: ObjectiveConfig, seed: int) -> list[str]:
        objective = build_objective("o", config, max_new_tokens=16, seed=seed)
        return [record.record_id for record in objective.eval_records]

    bbq_data = BbqData(path=str(shared_data / "bbq"), categories=("Age",), eval_samples=40)
    f = FairnessConfig(data=bbq_data)
    h = HallucinationConfig(data=HaluEvalData(path=str(shared_data / "halueval"), eval_samples=40))
    for config in (f, h):
        assert held_out(config, 0) == held_out(config, 1)
    other = FairnessConfig(data=bbq_data.model_copy(update={"split_seed": 1}))
    assert held_out(other, 0) != held_out(f, 0)
