"""CSV files from elsewhere: what is read."""

import csv
import json
import re
from pathlib import Path

import pytest
from foreign_files import TRL, Row, found, trl, verl, write
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.diagnosis.doctor import diagnose, examine
from grpo_dual.diagnosis.foreign import read_csv
from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.needs import missing
from grpo_dual.diagnosis.page import page
from grpo_dual.errors import DataError
from grpo_dual.metrics import names
from grpo_dual.types import Severity

HERE = Path(__file__).parent


class TestTheLogThatTrlWrote:
    """tests/unit/diagnosis/trl_log*.csv, by scripts/trl_log.py."""

    def test_only_rows_of_training_are_read_and_renamed(self) -> None:
        history = read_csv(HERE / "trl_log.csv")
        assert (history.source, history.objectives) == ("trl", ("all",))
        # 12 steps; two evaluations and the line of totals are left out.
        assert history.steps == tuple(range(1, 13))
        with (HERE / "trl_log.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["loss"]]
        for ours, theirs in (
            (names.ENTROPY.of("all"), "entropy"),
            (names.GEN_LEN.of("all"), "completions/mean_length"),
            (names.ZERO_VARIANCE_FRAC.of("all"), "frac_reward_zero_std"),
            ("rewards/right/std", "rewards/right/std"),
            ("lr", "learning_rate"),
        ):
            assert history.column(ours).known == [float(row[theirs]) for row in rows]
        assert not [c for c in history.columns if c.startswith("eval")]

    def test_spread_over_the_batch_is_not_called_that_of_groups(self) -> None:
        assert not read_csv(HERE / "trl_log.csv").of(names.REWARD_STD, "all")

    @pytest.mark.parametrize(
        ("case", "first", "severity"),
        [
            ("", "cancelling-rewards", Severity.ACT),
            ("_dead", "dead-rewards", Severity.WARN),
            ("_hot", "learning-rate", Severity.ACT),
            ("_cut", "completion-truncation", Severity.ACT),
            ("_long", "length-hacking", Severity.ACT),
        ],
    )
    def test_the_cause_is_named_first(self, case: str, first: str, severity: Severity) -> None:
        named = diagnose(read_csv(HERE / f"trl_log{case}.csv")).findings
        assert (named[0].code, named[0].severity) == (first, severity)

    def test_a_healthy_run_is_left_alone(self) -> None:
        assert diagnose(read_csv(HERE / "trl_log_healthy.csv")).findings == ()

    def test_cancelling_rewards_are_named_with_their_numbers(self) -> None:
        (cause,) = diagnose(read_csv(HERE / "trl_log.csv")).findings
        # Last three rows of the file: right -.0625, -.125, -.1875, std .998 to 1.014.
        assert cause.step == 3
        assert "right: mean -0.125, spread 1.01" in cause.evidence
        assert "right and contrary move against each other (correlation -1.00)" in cause.evidence
        assert cause.patch == {}

    def test_the_page_shows_what_the_doctor_says(self) -> None:
        history = read_csv(HERE / "trl_log.csv")
        said = page(diagnose(history), None, (), missing=[m.says for m in missing(history)])
        text = (HERE.parents[2] / "docs" / "doctor-foreign.md").read_text()
        (shown,) = re.findall(r"```text\n(.*?)\n```", text, re.DOTALL)
        assert shown == said


class TestReading:
    def test_rows_of_one_step_are_merged_and_sorted(self, tmp_path: Path) -> None:
        rows: list[Row] = [
            {"step": 2, "reward": 0.2, "kl": None, "eval_reward": None, "note": "x"},
            {"step": 1, "reward": 0.1, "kl": None, "eval_reward": None, "note": ""},
            {"step": 2, "reward": None, "kl": 0.5, "eval_reward": None, "note": ""},
            {"step": 2, "reward": None, "kl": None, "eval_reward": 0.9, "note": ""},
            {"step": 3, "reward": None, "kl": None, "eval_reward": 0.9, "note": ""},
        ]
        history = read_csv(write(tmp_path / "log.csv", rows))
        assert history.steps == (1, 2)
        assert history.of(names.REWARD_MEAN, "all").values == (0.1, 0.2)
        assert history.of(names.KL, "all").values == (None, 0.5)
        assert "note" not in history.columns

    @given(order=st.permutations(range(8)), extra=st.booleans())
    def test_order_of_rows_and_foreign_columns_do_not_matter(
        self, order: list[int], extra: bool, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        rows = trl(8, reward=[i / 8 for i in range(8)])
        shuffled = [{**rows[i], **({"train_runtime": 3.0} if extra else {})} for i in order]
        folder = tmp_path_factory.mktemp("order")
        a, b = (read_csv(write(folder / "log.csv", r)) for r in (rows, shuffled))
        assert (a.steps, a.column("reward_all_mean")) == (b.steps, b.column("reward_all_mean"))
        assert examine(a) == examine(b)

    def test_without_a_step_rows_are_numbered(self, tmp_path: Path) -> None:
        history = read_csv(write(tmp_path / "log.csv", [TRL, TRL, TRL]))
        assert history.steps == (1, 2, 3)

    def test_the_export_of_wandb(self, tmp_path: Path) -> None:
        rows: list[Row] = [
            {
                "train/global_step": i,
                "lucky-sun-7 - train/reward": i / 10,
                "lucky-sun-7 - train/reward__MIN": 0.0,
                "lucky-sun-7 - train/reward__MAX": 9.0,
                "lucky-sun-7 - train/rewards/right/std": 0.3,
                "lucky-sun-7 - eval/reward": 5.0,
            }
            for i in (10, 20)
        ]
        history = read_csv(write(tmp_path / "wandb.csv", rows))
        assert (history.source, history.steps) == ("trl", (10, 20))
        assert history.of(names.REWARD_MEAN, "all").values == (1.0, 2.0)
        assert history.column("rewards/right/std").values == (0.3, 0.3)

    def test_several_runs_in_one_export_are_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path / "two.csv", [{"Step": 1, "a - reward": 1.0, "b - reward": 2.0}])
        with pytest.raises(DataError, match=r"two\.csv: holds the columns of 2 runs \(a, b\)"):
            read_csv(path)

    def test_unknown_columns_are_refused_by_name(self, tmp_path: Path) -> None:
        path = write(tmp_path / "prices.csv", [{"day": 1, "price": 2.0}])
        with pytest.raises(DataError, match=r"It has day, price\..*frac_reward_zero_std.*actor/"):
            read_csv(path)

    @pytest.mark.parametrize("text", ["reward,kl\n", "reward,kl\n,\n", "reward,kl\na,b\n"])
    def test_known_columns_without_a_number_are_refused(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "empty.csv"
        path.write_text(text)
        with pytest.raises(DataError, match="no number in them"):
            read_csv(path)

    def test_what_is_no_csv_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "huge.csv"
        path.write_text("reward,text\n1," + "x" * 200_000 + "\n")
        with pytest.raises(DataError, match="cannot be read as CSV"):
            read_csv(path)
        with pytest.raises(DataError, match="cannot be read"):
            read_csv(tmp_path / "none.csv")

    def test_a_nan_is_nothing_but_in_loss_and_gradient(self, tmp_path: Path) -> None:
        rows = trl(2, reward=["nan", 1.0], grad_norm=["nan", 1.0])
        history = read_csv(write(tmp_path / "log.csv", rows))
        assert history.of(names.REWARD_MEAN, "all").values == (None, 1.0)
        assert history.column("grad_norm").values[0] != history.column("grad_norm").values[0]


class TestReadingVerl:
    def test_its_columns_are_renamed(self, tmp_path: Path) -> None:
        history = read_csv(write(tmp_path / "verl.csv", verl(3)))
        assert (history.source, history.steps) == ("verl", (1, 2, 3))
        expected = {
            "reward_all_mean": 0.4, "entropy_all": 0.8, "kl_all": 0.01, "clip_frac": 0.001,
            "gen_len_all_mean": 210.0, "completion_trunc_frac_all": 0.02, "trunc_frac_all": 0.01,
            "loss": 0.02, "grad_norm": 0.3, "lr": 1e-6, "actor/ppo_kl": 0.0002,
        }  # fmt: skip
        assert {key: history.column(key).first(3) for key in expected} == pytest.approx(expected)
        assert examine(history) == ()

    def test_a_kl_that_is_not_computed_is_no_kl_of_zero(self, tmp_path: Path) -> None:
        # 0.8 logs actor/kl_loss 0 where use_kl_loss is off, and no actor/kl_coef.
        rows = verl(12, actor__kl_loss=[0.0] * 12, actor__kl_coef=[None] * 12)
        history = read_csv(write(tmp_path / "verl.csv", rows))
        assert not history.of(names.KL, "all")
        assert examine(history) == ()

    def test_a_width_that_follows_the_batch_is_no_limit(self, tmp_path: Path) -> None:
        rows = verl(6, response_length__max=[300.0 + i for i in range(6)],
                    response_length__clip_ratio=[0.5] * 6)  # fmt: skip
        history = read_csv(write(tmp_path / "verl.csv", rows))
        assert not history.of(names.COMPLETION_TRUNC_FRAC, "all")
        assert history.of(names.TRUNC_FRAC, "all")

    def test_prompts_of_one_length_are_not_cut(self, tmp_path: Path) -> None:
        rows = verl(6, prompt_length__min=[256.0] * 6, prompt_length__clip_ratio=[1.0] * 6)
        assert found(tmp_path / "verl.csv", rows) == {}


class TestOwnCsvAlone:
    def table(self, path: Path, objectives: tuple[str, ...], **values: float) -> Path:
        header = names.columns(objectives)
        filled: dict[str, float | None] = dict.fromkeys(header)
        return write(path, [{**filled, **values, "step": i + 1} for i in range(6)])

    def test_objectives_come_from_the_suffixes(self, tmp_path: Path) -> None:
        objectives = ("fairness", "hallucination", "polite_tone")
        path = self.table(tmp_path / "a.csv", objectives, kl_f=0.1, reward_f_mean=1.0)
        history = read_csv(path)
        assert (history.objectives, history.own, history.config) == (objectives, True, {})
        assert history.of(names.KL, "fairness").known == [0.1] * 6

    def test_what_needs_the_configuration_says_nothing_of_it(self, tmp_path: Path) -> None:
        path = self.table(
            tmp_path / "a.csv", ("fairness",), kl_f=0.7, completion_trunc_frac_f=0.5,
            sampler_gap_max=0.4, gen_len_f_mean=9.0,
        )  # fmt: skip
        findings = {f.code: f for f in examine(read_csv(path))}
        # 0.7 is above the absolute bound; a gap of .4 is what bfloat16 leaves, and nobody knows.
        assert set(findings) == {"kl-runaway", "completion-truncation"}
        assert all(f.patch == {} for f in findings.values())
        assert "50 % of the completions reach the limit" in findings[
            "completion-truncation"
        ].evidence[0]  # fmt: skip

    def test_beside_its_configuration_it_is_the_whole_run(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"objectives": {"fairness": {}}}))
        path = self.table(tmp_path / "train_step_metrics.csv", ("fairness",), kl_f=0.1)
        assert read_csv(path).config == {"objectives": {"fairness": {}}}


def test_a_history_from_elsewhere_can_be_cut(tmp_path: Path) -> None:
    history: History = read_csv(write(tmp_path / "log.csv", trl(6)))
    cut = history.until(4)
    assert (cut.source, cut.steps) == ("trl", (1, 2, 3, 4))
