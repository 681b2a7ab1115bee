"""Worked numbers of the columns that the doctor reads."""

import pytest
import torch

from grpo_dual.metrics import health
from grpo_dual.model.head import TokenStats
from grpo_dual.model.packing import flatten, pack, unpack
from grpo_dual.train.batch import ObjectiveBatch, PackedGroups, score_groups
from grpo_dual.train.health import group_cells
from grpo_dual.train.token_sums import TokenSums
from grpo_dual.types import (
    BbqRecord,
    Condition,
    Message,
    Polarity,
    Prompt,
    Rollout,
    RolloutGroup,
    Score,
)


class Answerable:
    """As much of an objective as the cells ask."""

    def answerable(self, record: BbqRecord) -> bool:
        return record.condition is Condition.DISAMBIGUATED


def a_group(key: int, condition: Condition, texts: list[str]) -> RolloutGroup:
    record = BbqRecord(
        record_id=f"bbq/{key}", objective="fairness", subset="Age", task="choose", origin="here",
        example_id=key, question_index="1", condition=condition, polarity=Polarity.NEGATIVE,
        context="", question="", options=("a", "b", "c"), label=0, unknown=2, biased=1, names=False,
    )  # fmt: skip
    prompt = Prompt(record, (Message("user", "?"),), (1, 2), False)
    rollouts = [Rollout((3,) * len(t.split()), (0.0,) * len(t.split()), t, True) for t in texts]
    return RolloutGroup(prompt, tuple(rollouts))


def a_batch() -> ObjectiveBatch:
    groups = (
        a_group(1, Condition.DISAMBIGUATED, ["Ann", "Ann", "not known here", "Bob"]),
        a_group(2, Condition.AMBIGUOUS, ["not known here"] * 4),
        a_group(3, Condition.DISAMBIGUATED, ["not known here", "Cid", "Cid", "Cid"]),
    )
    rows = [
        [(1.0, "right"), (-1.0, "wrong"), (-0.7, "evades"), (-1.0, "wrong")],
        [(0.0, "evades")] * 4,
        [(-0.7, "evades"), (1.0, "right"), (1.0, "right"), (1.0, "right")],
    ]
    scores = [
        tuple(
            Score({"task": v, "length": 0.0, "custom:x": -v}, verdict, "rule") for v, verdict in r
        )
        for r in rows[:1]
    ] + [
        tuple(Score({"task": v, "length": 0.0}, verdict, "rule") for v, verdict in r)
        for r in rows[1:]
    ]
    packed = PackedGroups("fairness", groups, ())
    return score_groups(packed, scores, [1.0] * 3, normalization="group", eps=1e-4)


def the_cells() -> dict[str, float | None]:
    cells = group_cells(a_batch(), Answerable())  # type: ignore[arg-type]
    return {k: getattr(v, "value", v) for k, v in cells.items()}


def test_what_the_doctor_reads_of_a_step():
    cells = the_cells()
    # Group 1: task and custom part cancel, all totals 0: dead. Group 2: all 0, dead. Group 3 lives.
    assert cells["dead_frac_f"] == pytest.approx(2 / 3)
    # Totals: 0 eight times, 1 three times, -.7 once, of 12: (8/12)^4 + (3/12)^4 + (1/12)^4.
    assert cells["zero_var_expected_f"] == pytest.approx((8**4 + 3**4 + 1) / 12**4, abs=1e-12)
    # Within: 0, 0 and var(-.7, 1, 1, 1) = 1.7^2 / 4 = .7225; mean .240833. Pooled: sum 2.3, squares
    # 3.49, (3.49 - 2.3^2 / 12) / 11 = .277197.
    assert cells["reward_spread_f"] == pytest.approx(0.2408333333 / 0.2771969697, abs=1e-8)
    # Largest std of a part: group 1 task var(1, -1, -.7, -1): mean -.425, squared deviations
    # 2.030625 + .330625 + .075625 + .330625 = 2.7675, / 3 = .9225; group 2: 0; group 3: .85.
    assert cells["part_std_f"] == pytest.approx((0.9225**0.5 + 0.85) / 3, abs=1e-8)
    # cov(task, A): A = R/(std) in group 3: var / (std + eps) = .7225 / .8501; 0 in the dead ones.
    assert cells["task_cov_f"] == pytest.approx(0.7225 / 0.8501 / 3, abs=1e-6)
    assert cells["other_cov_f"] == pytest.approx(0.0, abs=1e-12)
    # Group 3 alone lives: the three-word evasion is the longest and the worst: correlation -1.
    assert cells["length_cor_f"] == pytest.approx(-1.0, abs=1e-6)
    assert cells["right_frac_f"] == pytest.approx(4 / 12)
    # Answerable groups with both kinds: group 1: 0 - 0 (the parts cancel); group 3: -.7 - 1.
    assert cells["evasion_pay_f"] == pytest.approx(-0.85)
    # Equal texts: the two "Ann" were paid the same in total (0), though by other parts; the other
    # pairs too: 1 + 6 + 3 pairs.
    assert cells["verdict_conflict_f"] == 0.0
    # Answerable prompts 1 and 3: "not known here" is the start that both share: 2 of 8.
    assert cells["template_frac_f"] == pytest.approx(2 / 8)
    assert cells["duplicate_frac_f"] == pytest.approx((1 + 6 + 3) / 18)
    assert cells["ambiguous_frac_f"] == pytest.approx(1 / 3)


def test_a_scorer_that_contradicts_itself_is_seen():
    groups = (a_group(1, Condition.DISAMBIGUATED, ["Ann", "Ann", "Bob", "Bob"]),)
    values = [1.0, -1.0, -1.0, -1.0]
    scores = [tuple(Score({"task": v}, "right", "rule") for v in values)]
    batch = score_groups(
        PackedGroups("fairness", groups, ()), scores, [1.0], normalization="group", eps=1e-4
    )
    cells = group_cells(batch, Answerable())  # type: ignore[arg-type]
    # Two pairs of equal texts, one of them paid differently.
    assert cells[health.VERDICT_CONFLICT.of("fairness")].value == 0.5  # type: ignore[union-attr]


def test_nothing_scored_is_missing_and_not_zero():
    groups = (a_group(1, Condition.DISAMBIGUATED, ["Ann", "Bob"]),)
    scores = [tuple(Score({}, "failed", "judge", failure="down") for _ in range(2))]
    batch = score_groups(
        PackedGroups("fairness", groups, ()), scores, [1.0], normalization="group", eps=1e-4
    )
    cells = group_cells(batch, Answerable())  # type: ignore[arg-type]
    for metric in (health.DEAD_FRAC, health.ZERO_VARIANCE_EXPECTED, health.RIGHT_FRAC):
        assert cells[metric.of("fairness")].value is None  # type: ignore[union-attr]
    assert cells[health.REWARD_SPREAD.of("fairness")] is None


def one_row(rows, pad_id):
    del pad_id
    return flatten(rows)


@pytest.mark.parametrize("lay", [pack, unpack, one_row])
def test_token_sums_know_where_a_token_stands(lay):
    # Completions of 2, 10 and 1 tokens: three first tokens, 1 + 7 of 2..8, two later ones.
    rows = [((1, 2), [(3,) * 2, (3,) * 10]), ((1,), [(3,)])]
    batch = lay(rows, 0)
    offsets_N = batch.token_offsets
    top_N = torch.where(offsets_N == 0, 0.25, torch.where(offsets_N < 8, 0.5, 1.0))
    ones = torch.ones(13)
    stats = TokenStats(ones, ones * 2, ones * 3, top_N, ones)
    sums = TokenSums(torch.device("cpu"))
    for _ in range(2):  # two micro-batches that are alike
        sums.add(batch, stats, loss=torch.tensor(1.5), kl_N=ones * 0.1, drift_N=ones * 0.2)
    totals = sums.read()
    assert totals.loss == pytest.approx(3.0)
    assert (totals.entropy.value, totals.entropy_sampling.value) == (2.0, 3.0)
    assert totals.max_prob_first.value == pytest.approx(0.25)
    assert (totals.max_prob_start.value, totals.max_prob_start.count) == (0.5, 16)
    assert (totals.max_prob_later.value, totals.max_prob_later.count) == (1.0, 4)
    assert totals.kl_model.value == pytest.approx(0.2, abs=1e-7)
    # The longest completion: ten tokens of .1.
    assert totals.kl_sequence_max.value == pytest.approx(1.0, abs=1e-6)
