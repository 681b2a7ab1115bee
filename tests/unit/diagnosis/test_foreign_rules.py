"""Logs from elsewhere: what is found, what stays silent."""

from pathlib import Path

import pytest
from foreign_files import TRL_3857, Row, found, trl, verl, write

from grpo_dual.diagnosis.control import trend
from grpo_dual.diagnosis.foreign import read_csv
from grpo_dual.diagnosis.history import Series
from grpo_dual.metrics import names
from grpo_dual.types import Severity


class TestEntropy:
    """Starts at 1.0: warn below .5, act below .25."""

    FALL = (1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.3, 0.2, 0.2, 0.2)

    @pytest.mark.parametrize(
        ("reward", "severity"),
        [
            ([0.5] * 10, Severity.ACT),
            ([0.9 - 0.05 * i for i in range(10)], Severity.ACT),
            ([0.1 + 0.08 * i for i in range(10)], Severity.NOTE),
            ([None] * 10, Severity.WARN),
        ],
    )
    def test_the_reward_decides_how_grave_it_is(
        self, tmp_path: Path, reward: list[float | None], severity: Severity
    ) -> None:
        named = found(tmp_path / "log.csv", trl(10, entropy=self.FALL, reward=reward))
        assert named["entropy-collapse"].severity is severity

    def test_half_the_entropy_for_more_reward_is_learning(self, tmp_path: Path) -> None:
        half = [1.0, 1.0, 1.0, 0.8, 0.6, 0.5, 0.45, 0.4, 0.4, 0.4]
        rows = trl(10, entropy=half, reward=[0.1 + 0.08 * i for i in range(10)])
        assert "entropy-collapse" not in found(tmp_path / "log.csv", rows)

    def test_a_flat_reward_of_groups_without_spread_may_be_solved(self, tmp_path: Path) -> None:
        rows = trl(10, entropy=self.FALL, reward=[1.0] * 10, frac_reward_zero_std=[0.9] * 10)
        named = found(tmp_path / "log.csv", rows)
        assert named["entropy-collapse"].severity is Severity.WARN


class TestRewards:
    def test_trl_3857_is_no_cancellation(self, tmp_path: Path) -> None:
        """With one part alone that varies nothing can cancel: its prompts differ."""
        rows = [{"step": i + 1, **TRL_3857} for i in range(6)]
        named = found(tmp_path / "log.csv", rows)
        assert set(named) == {"dead-rewards"}
        assert named["dead-rewards"].severity is Severity.ACT
        assert named["dead-rewards"].says.startswith("Rewards differ between prompts")
        assert "of if_rewrite_reward alone 5.08" in named["dead-rewards"].evidence

    def test_parts_that_differ_between_prompts_do_not_cancel(self, tmp_path: Path) -> None:
        """TRL before 0.27: the groups' own spread is 0, and the sum wanders with the prompts."""
        rows = [
            {**row, "rewards/format/mean": 0.5, "rewards/format/std": 0.4, "reward_std": 0.0,
             "frac_reward_zero_std": 1.0}
            for row in trl(6, reward=[0.1, 0.9, 0.2, 1.1, 0.4, 0.8])
        ]  # fmt: skip
        assert set(found(tmp_path / "log.csv", rows)) == {"dead-rewards"}

    @pytest.mark.parametrize(
        ("reward", "severity", "says"),
        [
            ([0.5] * 8, Severity.WARN, "solved or dead, this file cannot tell"),
            ([0.5, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], Severity.ACT, "less than has been earned"),
        ],
    )
    def test_all_alike(
        self, tmp_path: Path, reward: list[float], severity: Severity, says: str
    ) -> None:
        rows = trl(8, reward=reward, frac_reward_zero_std=[1.0] * 8, reward_std=[0.0] * 8,
                   rewards__right__std=[0.0] * 8)  # fmt: skip
        dead = found(tmp_path / "log.csv", rows)["dead-rewards"]
        assert dead.severity is severity
        assert says in dead.says

    @pytest.mark.parametrize(
        ("reward", "severity"),
        [
            ([0.5] * 8, Severity.WARN),
            ([0.1 * i for i in range(8)], Severity.NOTE),
            ([-0.1 * i for i in range(8)], Severity.ACT),
        ],
    )
    def test_most_groups_alike(
        self, tmp_path: Path, reward: list[float], severity: Severity
    ) -> None:
        share = [0.5, 0.75, 0.875, 0.875, 0.9375, 0.875, 0.9375, 0.875]
        named = found(tmp_path / "log.csv", trl(8, reward=reward, frac_reward_zero_std=share))
        assert named["dead-rewards"].severity is severity

    def test_of_two_prompts_a_step_ten_rows_are_needed(self, tmp_path: Path) -> None:
        # Shares come in halves, so a row is two groups: 20 groups are ten rows.
        for dead, codes in ((9, set[str]()), (10, {"dead-rewards"})):
            rows = trl(13, frac_reward_zero_std=[*([0.0, 0.5] * 2)[: 13 - dead], *([1.0] * dead)])
            assert set(found(tmp_path / "log.csv", rows)) == codes

    def test_verl_has_dead_groups_where_no_advantage_is_left(self, tmp_path: Path) -> None:
        rows = verl(6, critic__advantages__max=[0.0] * 6, critic__advantages__min=[0.0] * 6)
        dead = found(tmp_path / "verl.csv", rows)["dead-rewards"]
        assert dead.severity is Severity.ACT
        assert dead.says.startswith("Rewards differ between prompts")

    def test_verl_cancels_too(self, tmp_path: Path) -> None:
        names_ = ("gdpo/a/mean", "gdpo/b/mean", "gdpo/a/std", "gdpo/b/std")
        rows = [
            {**row, **dict(zip(names_, (i / 9, -i / 9, 0.5, 0.5), strict=True))}
            for i, row in enumerate(
                verl(8, critic__score__max=[0.0] * 8, critic__score__min=[0.0] * 8,
                     critic__score__mean=[0.0] * 8)
            )
        ]  # fmt: skip
        assert next(iter(found(tmp_path / "verl.csv", rows))) == "cancelling-rewards"


class TestPolicy:
    def test_kl_beyond_any_target(self, tmp_path: Path) -> None:
        kl = [0.1, 0.3, 0.45, 0.55, 0.6, 0.65]
        assert found(tmp_path / "a.csv", trl(6, kl=kl))["kl-runaway"].severity is Severity.ACT
        rising = trl(6, kl=kl, reward=[0.1 * i for i in range(6)])
        assert found(tmp_path / "b.csv", rising)["kl-runaway"].severity is Severity.WARN
        summed = verl(6, actor__kl_loss=kl)
        assert found(tmp_path / "c.csv", summed)["kl-runaway"].severity is Severity.WARN

    def test_kl_of_zero_where_there_is_something_to_learn(self, tmp_path: Path) -> None:
        zero = [0.0] * 12
        assert set(found(tmp_path / "a.csv", trl(12, kl=zero))) == {"kl-frozen"}
        assert "kl-frozen" in found(tmp_path / "b.csv", verl(12, actor__kl_loss=zero))
        assert found(tmp_path / "c.csv", trl(9, kl=zero[:9])) == {}
        nothing = trl(12, kl=zero, frac_reward_zero_std=[1.0] * 12)
        assert "kl-frozen" not in found(tmp_path / "d.csv", nothing)

    def test_a_gradient_that_is_not_finite(self, tmp_path: Path) -> None:
        norm = [0.2, "nan", 0.2, "inf", 0.2, 0.2]
        warned = found(tmp_path / "a.csv", trl(6, grad_norm=norm))["numerics"]
        assert (warned.severity, warned.objective) == (Severity.WARN, None)
        assert warned.evidence[0] == "2 of 6 rows hold a nan or inf: step 2, 4"
        acted = found(tmp_path / "b.csv", trl(6, grad_norm=[*norm[:5], "inf"]))["numerics"]
        assert acted.severity is Severity.ACT

    def test_pandas_writes_nan_as_nothing(self, tmp_path: Path) -> None:
        norm = [0.2, None, 0.2, 0.2, 0.2, 0.2]
        blank = found(tmp_path / "a.csv", trl(6, grad_norm=norm))["numerics"]
        assert blank.severity is Severity.WARN
        assert "a loss but no gradient norm" in blank.evidence[0]
        never = found(tmp_path / "b.csv", trl(6, grad_norm=[None] * 6))
        assert never == {}

    def test_the_clip_counts_where_it_can_act(self, tmp_path: Path) -> None:
        rows = trl(6, clip_ratio__region_mean=[0.3] * 6)
        named = found(tmp_path / "a.csv", rows)
        assert set(named) == {"learning-rate"}
        assert named["learning-rate"].severity is Severity.WARN
        # With one update a step the ratio is 1 by construction: nothing was measured.
        assert not read_csv(write(tmp_path / "b.csv", trl(6))).run(names.CLIP_FRAC)

    def test_verl_moves_too_far_within_a_step(self, tmp_path: Path) -> None:
        moves = [0.0, 0.3, 0.0, -0.4, 0.0, 0.0]
        thrown = found(tmp_path / "a.csv", verl(6, actor__ppo_kl=moves))["learning-rate"]
        assert thrown.severity is Severity.WARN
        assert "reaches -0.4 nats per token (2 steps" in thrown.evidence[0]
        falling = verl(6, actor__ppo_kl=moves, critic__score__mean=[-0.1 * i for i in range(6)])
        assert found(tmp_path / "b.csv", falling)["learning-rate"].severity is Severity.ACT
        wider = verl(6, actor__ppo_kl=[0.0, 0.3, 0.0, 1.4, 0.0, 0.0])
        assert found(tmp_path / "c.csv", wider)["learning-rate"].severity is Severity.ACT

    def test_wide_steps_that_earn_more_are_let_be(self, tmp_path: Path) -> None:
        kl = [0.0, 0.3, 0.0, 0.3, 0.0, 0.3]
        assert "learning-rate" in found(tmp_path / "a.csv", trl(6, kl=kl))
        rising = trl(6, kl=kl, reward=[0.1 * i for i in range(6)])
        assert "learning-rate" not in found(tmp_path / "b.csv", rising)


class TestSampler:
    def test_the_mass_that_top_p_leaves(self, tmp_path: Path) -> None:
        # huggingface/trl#6789: .896 at top_p .8.
        column = "sampling/importance_sampling_ratio/mean"
        rows: list[Row] = [{**row, column: 0.896} for row in trl(4)]
        named = found(tmp_path / "a.csv", rows)["sampling-mismatch"]
        assert named.severity is Severity.WARN
        assert "of the policy gradient 90 % is left" in named.says
        masked: list[Row] = [{**row, column: 0.17} for row in trl(4)]
        assert found(tmp_path / "b.csv", masked)["sampling-mismatch"].severity is Severity.ACT
        exact: list[Row] = [{**row, column: 0.99} for row in trl(4)]
        assert found(tmp_path / "c.csv", exact) == {}

    def test_a_gap_that_grows_is_a_sampler_that_stays_behind(self, tmp_path: Path) -> None:
        column = "sampling/sampling_logp_difference/mean"
        rows: list[Row] = [{**row, column: 0.01 * 2**i} for i, row in enumerate(trl(8))]
        named = found(tmp_path / "a.csv", rows)["sampling-mismatch"]
        assert "keeps old weights" in named.says
        level: list[Row] = [{**row, column: 0.3} for row in trl(8)]
        assert "keeps old weights" not in found(tmp_path / "b.csv", level)["sampling-mismatch"].says

    def test_verls_probabilities(self, tmp_path: Path) -> None:
        rows = verl(4, training__rollout_probs_diff_mean=[0.02] * 4)
        assert set(found(tmp_path / "verl.csv", rows)) == {"sampling-mismatch"}


class TestLengths:
    def test_growth_without_more_reward(self, tmp_path: Path) -> None:
        rows = trl(8, completions__mean_length=[50.0 + 10 * i for i in range(8)])
        named = found(tmp_path / "log.csv", rows)
        assert set(named) == {"length-hacking"}
        assert named["length-hacking"].severity is Severity.WARN

    def test_growth_with_reward_is_noted_unless_a_part_moves_with_it(self, tmp_path: Path) -> None:
        length = [50, 60, 55, 70, 66, 80, 77, 95, 90, 110]
        rising = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
        other = trl(10, completions__mean_length=length, reward=rising, rewards__right__mean=rising)
        assert found(tmp_path / "a.csv", other)["length-hacking"].severity is Severity.NOTE
        paid = trl(10, completions__mean_length=length, reward=rising,
                   rewards__right__mean=[v / 10 for v in length])  # fmt: skip
        named = found(tmp_path / "b.csv", paid)["length-hacking"]
        assert named.severity is Severity.WARN
        assert "right moves with length from step to step (correlation 1)" in named.evidence


class TestTrend:
    def test_worked_numbers(self) -> None:
        # Moves of .1 each: sigma .1 / 1.128 = .08865; n = min(5, 5) = 5; noise 3 sigma sqrt(2/5) =
        # .1682. A ramp of .1 over 10 rows moves by .5, a zigzag between 0 and .1 by +-.02.
        assert trend(Series(tuple(0.1 * i for i in range(10)))) == 1
        assert trend(Series(tuple(-0.1 * i for i in range(10)))) == -1
        assert trend(Series(tuple(0.1 * (i % 2) for i in range(10)))) == 0

    def test_its_limit(self) -> None:
        # Zigzag of 0/.1 for five rows and then raised by d: moves .1 but the one of the raise,
        # |d - .1| ... with d = .2: rows 0,.1,0,.1,0 | .3,.2,.3,.2,.3. Means .04 and .26: moved .22.
        # Mean move (8 x .1 + .3) / 9 = .12222, sigma .10835, noise .20558: risen.
        assert trend(Series((0.0, 0.1, 0.0, 0.1, 0.0, 0.3, 0.2, 0.3, 0.2, 0.3))) == 1
        # d = .15: .25,.15,.25,.15,.25; means .04 and .21: moved .17; mean move (.8 + .25) / 9 =
        # .11667, sigma .10343, noise .19624: not.
        assert trend(Series((0.0, 0.1, 0.0, 0.1, 0.0, 0.25, 0.15, 0.25, 0.15, 0.25))) == 0

    def test_too_few_or_none(self) -> None:
        assert trend(Series((1.0, 2.0, 3.0, 4.0, 5.0))) is None
        assert trend(Series((None, *([1.0] * 6)))) == 0
        assert trend(Series((1.0, float("inf"), 1.0, float("nan"), 2.0))) is None
