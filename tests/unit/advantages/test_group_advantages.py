"""Rules of the group advantage. Axes: P groups, K completions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.advantages.group import classify_groups, group_advantages

MODES = ("group", "none", "batch")
NAN = float("nan")


def advantages(rows, *, task=None, scored=None, dtype=torch.float64, **options):
    rewards_PK = torch.tensor(rows, dtype=dtype)
    task_PK = rewards_PK if task is None else torch.tensor(task, dtype=dtype)
    scored_PK = ~rewards_PK.isnan() if scored is None else torch.tensor(scored)
    return group_advantages(rewards_PK, task_PK, scored_PK, **options)


def test_masks_and_std_of_a_mixed_batch():
    out = advantages([[1, 0, 0, 1], [1, 1, 1, 1], [1, NAN, NAN, NAN], [NAN, 0, 1, NAN]])
    assert out.live_P.tolist() == [True, False, False, True]
    assert out.dead_P.tolist() == [False, True, False, False]
    # std of [1,0,0,1]: sqrt(4 * .25 / 3) = .577350; of [0,1]: sqrt(2 * .25 / 1) = .707107
    torch.testing.assert_close(
        out.std_P,
        torch.tensor([1 / 3**0.5, 0.0, NAN, 0.5**0.5], dtype=torch.float64),
        equal_nan=True,
        rtol=0,
        atol=1e-12,
    )
    assert out.counted_PK.tolist() == [
        [True] * 4,
        [False] * 4,
        [False] * 4,
        [False, True, True, False],
    ]


@pytest.mark.parametrize("mode", MODES)
def test_unscored_completion_is_left_out_and_never_zero(mode):
    # [1, None, 0, 1] is the group [1, 0, 1] and nothing else.
    with_none = advantages([[1, NAN, 0, 1]], normalization=mode).advantages_PK[0]
    without = advantages([[1, 0, 1]], normalization=mode).advantages_PK[0]
    assert with_none[1] == 0.0
    assert torch.equal(with_none[[0, 2, 3]], without)
    as_zero = advantages([[1, 0, 0, 1]], normalization=mode).advantages_PK[0]
    assert not torch.allclose(with_none[[0, 2, 3]], as_zero[[0, 2, 3]])


@pytest.mark.parametrize("junk", [NAN, float("inf"), -1e30, 0.0])
def test_what_stands_in_an_unscored_place_does_not_matter(junk):
    rows, scored = [[1, junk, 0, 0.5]], [[True, False, True, True]]
    out = advantages(rows, scored=scored)
    clean = advantages([[1, 7.0, 0, 0.5]], scored=scored)
    assert torch.equal(out.advantages_PK, clean.advantages_PK)
    assert torch.equal(out.std_P, clean.std_P)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("row", [[1, NAN, NAN], [NAN, NAN, NAN]])
def test_fewer_than_two_scored_gives_zero(mode, row):
    out = advantages([row, [1, 0, 1]], normalization=mode)
    assert (out.advantages_PK[0] == 0).all()
    assert not out.live_P[0]
    assert not out.dead_P[0]


@pytest.mark.parametrize("mode", MODES)
def test_shaping_alone_is_centred_and_not_divided(mode):
    # Task parts equal, one completion loses .01 for its length: advantages +.0025 and -.0075.
    # Divided by its own std (.005) the length penalty would have become -1.5.
    out = advantages(
        [[1, 1, 1, 0.99], [1, 0, 0, 1]], task=[[1, 1, 1, 1], [1, 0, 0, 1]], normalization=mode
    )
    expected = torch.tensor([0.0025, 0.0025, 0.0025, -0.0075], dtype=torch.float64)
    torch.testing.assert_close(out.advantages_PK[0], expected, rtol=0, atol=1e-12)
    assert out.shaping_only_P.tolist() == [True, False]
    assert out.live_P.tolist() == [True, True]


def test_shaping_joins_the_task_where_the_task_differs():
    out = advantages([[1, -1.2]], task=[[1, -1]], eps=0.0)
    # two members: (x - y)/2 over |x - y|/sqrt 2 = 1/sqrt 2, whatever the gap
    torch.testing.assert_close(
        out.advantages_PK[0], torch.tensor([0.5**0.5, -(0.5**0.5)], dtype=torch.float64)
    )
    assert not out.shaping_only_P[0]


def test_shaping_that_cancels_the_task_exactly_is_dead_by_its_totals():
    out = advantages([[0.5, 0.5]], task=[[1.0, 0.5]])
    assert out.dead_P[0]
    assert (out.advantages_PK == 0).all()


def test_batch_divides_by_one_std_over_live_groups_only():
    # Live totals [1,0,0,1] and [0,0,0,1]: n = 8, mean .375, sum of squares 3 - 8 * .140625 = 1.875,
    # std sqrt(1.875 / 7) = .517549; the dead group of 5s must not enter.
    out = advantages([[1, 0, 0, 1], [5, 5, 5, 5], [0, 0, 0, 1]], normalization="batch", eps=0.0)
    std = (1.875 / 7) ** 0.5
    expected = torch.tensor(
        [[0.5, -0.5, -0.5, 0.5], [0, 0, 0, 0], [-0.25, -0.25, -0.25, 0.75]], dtype=torch.float64
    )
    torch.testing.assert_close(out.advantages_PK, expected / std, rtol=0, atol=1e-12)


def test_advantages_carry_no_gradient():
    rewards_PK = torch.tensor([[1.0, 0.0]], requires_grad=True)
    out = group_advantages(rewards_PK, rewards_PK, torch.ones(1, 2, dtype=torch.bool))
    assert not out.advantages_PK.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards_PK": torch.zeros(2, 1)}, "must all be"),
        ({"scored_PK": torch.ones(2, 3)}, "bool"),
        ({"rewards_PK": torch.full((2, 3), NAN)}, "NaN or infinity"),
        ({"task_PK": torch.full((2, 3), float("inf"))}, "NaN or infinity"),
        ({"rewards_PK": torch.zeros(2, 3, dtype=torch.bfloat16)}, "fp32 or fp64"),
        ({"eps": -1.0}, "eps"),
        ({"normalization": "std"}, "normalization"),
    ],
)
def test_refusals(change, message):
    arguments = {
        "rewards_PK": torch.zeros(2, 3),
        "task_PK": torch.zeros(2, 3),
        "scored_PK": torch.ones(2, 3, dtype=torch.bool),
    } | change
    with pytest.raises(ValueError, match=message):
        group_advantages(
            arguments.pop("rewards_PK"),
            arguments.pop("task_PK"),
            arguments.pop("scored_PK"),
            **arguments,
        )


def test_groups_of_one_are_refused():
    one = torch.zeros(3, 1)
    with pytest.raises(ValueError, match="at least 2"):
        group_advantages(one, one, torch.ones(3, 1, dtype=torch.bool))


def test_classes_solved_dead_live_and_neither():
    task_PK = torch.tensor(
        [[1.0, 1, 1], [-1, -1, -1], [1, -1, 1], [1, NAN, NAN], [1, NAN, 1], [-0.7, NAN, -0.7]]
    )
    out = classify_groups(task_PK, ~task_PK.isnan(), best=1.0)
    assert out.solved_P.tolist() == [True, False, False, False, True, False]
    assert out.dead_P.tolist() == [False, True, False, False, False, True]
    assert out.live_P.tolist() == [False, False, True, False, False, False]


def test_solved_is_judged_against_each_groups_own_best():
    task_PK = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    out = classify_groups(task_PK, torch.ones(2, 2, dtype=torch.bool), torch.tensor([0.5, 1.0]))
    assert out.solved_P.tolist() == [True, False]
    assert out.dead_P.tolist() == [False, True]


def test_a_solved_group_with_unequal_lengths_is_solved_and_live_by_shaping():
    task_PK = torch.ones(1, 2)
    total_PK = torch.tensor([[1.0, 0.9]])
    scored_PK = torch.ones(1, 2, dtype=torch.bool)
    assert classify_groups(task_PK, scored_PK, 1.0).solved_P[0]
    assert group_advantages(total_PK, task_PK, scored_PK).live_P[0]


# --- invariances -------------------------------------------------------------------------------

rewards = st.sampled_from([-1.0, -0.7, -0.5, 0.0, 0.25, 0.6, 1.0, NAN])
groups = st.integers(2, 6).flatmap(
    lambda k: st.lists(st.lists(rewards, min_size=k, max_size=k), min_size=1, max_size=5)
)


@given(groups, st.floats(-10, 10), st.sampled_from(MODES))
def test_shift_of_all_rewards_does_not_act(rows, shift, mode):
    shifted = [[value + shift for value in row] for row in rows]
    a, b = advantages(rows, normalization=mode), advantages(shifted, normalization=mode)
    # A shift may merge or split nothing here: the values are .1 apart or more.
    torch.testing.assert_close(a.advantages_PK, b.advantages_PK, rtol=0, atol=1e-9)
    assert torch.equal(a.live_P, b.live_P)


@given(groups, st.integers(-8, 8))
def test_scale_by_a_power_of_two_is_exact(rows, power):
    scaled = [[value * 2.0**power for value in row] for row in rows]
    for mode in ("group", "batch"):
        a = advantages(rows, normalization=mode, eps=0.0)
        b = advantages(scaled, normalization=mode, eps=0.0)
        live_PK = a.counted_PK & ~a.shaping_only_P[:, None]
        assert torch.equal(a.advantages_PK[live_PK], b.advantages_PK[live_PK])


@given(groups, st.randoms(use_true_random=False), st.sampled_from(MODES))
def test_permutation_of_members_and_groups_moves_advantages_along(rows, random, mode):
    members = random.sample(range(len(rows[0])), len(rows[0]))
    order = random.sample(range(len(rows)), len(rows))
    a = advantages(rows, normalization=mode).advantages_PK
    b = advantages([[rows[p][k] for k in members] for p in order], normalization=mode)
    torch.testing.assert_close(b.advantages_PK, a[order][:, members], rtol=0, atol=1e-12)


@given(groups, st.sampled_from(MODES))
def test_every_group_sums_to_zero_and_every_group_is_of_one_kind(rows, mode):
    out = advantages(rows, normalization=mode)
    torch.testing.assert_close(
        out.advantages_PK.sum(-1), torch.zeros(len(rows), dtype=torch.float64), rtol=0, atol=1e-12
    )
    assert torch.equal(out.live_P, (out.advantages_PK != 0).any(-1))
    assert not (out.live_P & out.dead_P).any()
    assert torch.equal(out.live_P | out.dead_P, (~torch.tensor(rows).isnan()).sum(-1) >= 2)
