"""Short runs through ``train``: paths that must agree, what must act, and what must stop."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import short_runs
from grpo_dual.cli.main import main
from grpo_dual.config.schema import RunConfig
from grpo_dual.errors import NumericsError, OutOfMemoryError
from grpo_dual.loss.kl import KlController
from grpo_dual.rollouts.collect import collect
from grpo_dual.rollouts.graph import GraphEngine
from grpo_dual.rollouts.weights import Weights
from grpo_dual.train import batch as batch_module
from grpo_dual.train import wiring
from grpo_dual.train.batch import ObjectiveBatch
from grpo_dual.train.clock import Clock
from grpo_dual.train.learning import limit_of, pack
from grpo_dual.train.objectives import begin_scoring
from grpo_dual.train.run import train
from grpo_dual.train.scoring import ScoredBatches
from grpo_dual.train.step import Updater
from grpo_dual.train.update import Update
from grpo_dual.train.wiring import Parts, build
from grpo_dual.types import RolloutGroup, Score
from short_runs import numbers, objective, only_run, rows


def make_batch(parts: Parts, name: str, groups: Sequence[RolloutGroup]) -> ObjectiveBatch:
    """One objective's groups, scored."""
    scorings = {name: [begin_scoring(parts.objectives[name], group) for group in groups]}
    (batch,) = ScoredBatches(parts, [pack(parts, name, groups, limit_of(parts))], scorings, Clock())
    return batch


def test_every_column_is_a_finite_number(run: Callable[..., Path]):
    for row in rows(run()):
        # QA rows are answerable, BBQ's may all be ambiguous; and not every step has what these
        # need: two answerable prompts, an evasion beside an answer, equal completions, or lengths
        # that differ. One micro-batch has no halves.
        allowed = {
            f"{key}_{o}"
            for o in "fh"
            for key in (
                "template_frac",
                "evasion_pay",
                "verdict_conflict",
                "length_cor",
                "grad_half_cosine",
                "max_prob_later",
            )
        }
        missing = {k for k, v in row.items() if not v} - {"evasion_answerable_rate_f"}
        assert missing <= allowed
        assert all(math.isfinite(value) for value in numbers(row).values())
        assert row["skipped_update"] == "0"
        assert float(row["grad_norm_f"]) > 0 < float(row["grad_norm_h"])
        assert -1 <= float(row["grad_cosine"]) <= 1
        assert float(row["weight_f"]) == float(row["weight_h"]) == 0.5


def test_a_run_folder_holds_what_it_must(run: Callable[..., Path]):
    folder = run(checkpoint={"every": 1})
    names = {p.name for p in folder.iterdir()}
    assert names == {
        "checkpoints",
        "completions.jsonl",
        "config.json",
        "environment.json",
        "eval_completions.jsonl",
        "eval_metrics.jsonl",
        "train_step_metrics.csv",
        "train_step_metrics.jsonl",
        "training_metrics_summary.json",
    }
    summary = json.loads((folder / "training_metrics_summary.json").read_text())
    assert summary["evaluation"]["before_step"] == 0
    assert summary["evaluation"]["after_step"] == 2
    assert {"fairness", "hallucination"} <= summary["evaluation"]["after"].keys()
    sample = json.loads((folder / "completions.jsonl").read_text().splitlines()[0])
    assert sample["total"] == pytest.approx(sum(sample["parts"].values()))
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_held_out_completions_are_of_the_same_items_before_and_after(run: Callable[..., Path]):
    folder = run(train={"completions_per_step": 3})
    lines = (folder / "eval_completions.jsonl").read_text().splitlines()
    replies = [json.loads(line) for line in lines]
    by_step = {s: [r for r in replies if r["step"] == s] for s in (0, 2)}
    assert len(replies) == 2 * 2 * 3  # steps, objectives, completions
    asked = [[(r["objective"], r["record"], r["prompt"]) for r in own] for own in by_step.values()]
    assert asked[0] == asked[1]
    assert len(set(asked[0])) == 6
    assert all(r["wanted"] for r in replies)


def test_packed_and_plain_passes_train_alike(run: Callable[..., Path]):
    """The same samples, rewards and updates; fp32 sums in another order."""
    packed, plain = (
        [numbers(r) for r in rows(run(name, train={"packed": on}))]
        for name, on in (("packed", True), ("plain", False))
    )
    for first, second in zip(packed, plain, strict=True):
        assert first == pytest.approx(second, rel=1e-5, abs=1e-5)


def test_micro_batches_train_as_one_batch(run: Callable[..., Path]):
    split, whole = (
        [numbers(r) for r in rows(run(f"m{n}", train={"microbatch_prompts": n}))] for n in (1, 2)
    )
    for first, second in zip(split, whole, strict=True):
        halves = {k for k in first if k.startswith("grad_half_cosine")}  # one batch has none
        assert halves == {"grad_half_cosine_f", "grad_half_cosine_h"}
        same = {k: v for k, v in first.items() if k not in halves}
        assert same == pytest.approx(second, rel=1e-5, abs=1e-5)
    # A budget of tokens: one prompt is more than 1, and all of an objective are less than 10,000.
    for tokens, same in ((1, split), (10_000, whole)):
        found = rows(run(f"t{tokens}", train={"microbatch_tokens": tokens}))
        assert [numbers(r) for r in found] == same


def short_of_memory(monkeypatch: pytest.MonkeyPatch, most: int, *, from_update: int = 0) -> None:
    """A device that holds passes of ``most`` prompts in a backward pass."""
    backward = Updater._backward

    def limited(self: Updater, batch: ObjectiveBatch) -> Any:
        if self.updates >= from_update:
            for micro in batch.micro:
                if len(micro.batch.prompt_lengths) > most:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return backward(self, batch)

    monkeypatch.setattr(Updater, "_backward", limited)


def test_out_of_memory_halves_the_passes_and_repeats_the_step(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    half = [numbers(r) for r in rows(run("half", train={"microbatch_prompts": 1}))]
    capsys.readouterr()
    short_of_memory(monkeypatch, 1)
    found = [numbers(r) for r in rows(run("short", train={"microbatch_prompts": 2}))]
    assert found == half, "to the bit: nothing of the pass that failed is left"
    printed = capsys.readouterr().out
    assert printed.count("out of memory (CUDA out of memory)") == 1
    assert "train.microbatch_prompts: 1" in printed


@pytest.mark.parametrize(
    ("most", "from_update", "train"),
    [
        (0, 0, {"microbatch_prompts": 2}),  # half is still too much
        (0, 0, {"microbatch_prompts": 1}),  # nothing to halve
        (0, 0, {"microbatch_tokens": 4000}),
        (1, 1, {"microbatch_prompts": 2, "num_iterations": 2}),  # the first update is done
    ],
)
def test_memory_that_is_not_enough_ends_the_run_with_advice(
    most: int,
    from_update: int,
    train: Mapping[str, Any],
    run: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
):
    short_of_memory(monkeypatch, most, from_update=from_update)
    with pytest.raises(OutOfMemoryError, match=r"Lower train\.microbatch_prompts.*checkpointing"):
        run(train=train)


def test_several_updates_make_the_clip_act(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    olds: list[bool] = []
    update = Updater.update

    def watch(self: Updater, batches: Sequence[ObjectiveBatch], *, fresh: bool) -> Update:
        olds.extend(m.old_N is not None for b in batches for m in b.micro)
        return update(self, batches, fresh=fresh)

    monkeypatch.setattr(Updater, "update", watch)
    table = rows(run(train={"num_iterations": 2, "optimizer": {"learning_rate": 0.05}}))
    assert olds
    assert all(olds)
    assert max(float(row["clip_frac"]) for row in table) > 0
    assert all(0 <= float(row["clip_frac"]) <= 1 for row in table)


def test_one_update_never_clips_and_needs_no_old_pass(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delattr(Updater, "add_old")
    assert [row["clip_frac"] for row in rows(run())] == ["0.0", "0.0"]
    assert "clip_frac stays 0" in capsys.readouterr().out


HANDOFF = {
    "max_new_tokens": 10,
    "min_new_tokens": 5,
    "temperature": 0.9,
    "top_k": 100,
    "top_p": 0.9,
    "repetition_penalty": 1.18,
}


def test_the_handoffs_sampling_is_replayed(run: Callable[..., Path]):
    """The sampler check, run before the first update, stops a run whose log-probs differ."""
    table = rows(run(rollout={"sampling": HANDOFF}))
    for row in table:
        assert float(row["gen_len_f_mean"]) >= 5
        assert math.isfinite(float(row["kl_model_f"]))
    # Behind the first update, KL differs between the sampling distribution and the model.
    assert float(table[1]["kl_f"]) != pytest.approx(float(table[1]["kl_model_f"]), rel=1e-3)


def test_a_sampler_that_is_not_the_policy_stops_the_run(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    """Hand-off sampling that the trainer takes for plain is what the check is for."""
    original = batch_module._micro_batch

    def forget(groups: Any, **options: Any) -> Any:
        micro = original(groups, **options)
        micro.processor = None
        return micro

    monkeypatch.setattr(batch_module, "_micro_batch", forget)
    with pytest.raises(NumericsError, match="not drawn from the policy"):
        run(rollout={"sampling": HANDOFF})


def test_the_in_place_engine_trains_and_a_frozen_adapter_in_it_stops_the_run(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    """Its own code path without graphs. The stage that is not refreshed is wrong from step 2 on."""

    def in_place(policy: Any, codec: Any, config: Any, _tell: Any) -> GraphEngine:
        return GraphEngine(policy, codec, config.sampling, max_sequences=config.max_sequences)

    monkeypatch.setattr(wiring, "choose_engine", in_place)
    fast = {"steps": 3, "optimizer": {"learning_rate": 0.3}}
    table = rows(run("right", train=fast))
    assert len(table) == 3
    assert max(float(row["sampler_gap_max"]) for row in table) < 1e-4
    assert [float(row["sampler_ratio_mean"]) for row in table] == pytest.approx([1] * 3, abs=1e-5)
    refresh, calls = Weights.refresh, []

    def once(self: Weights) -> None:
        calls.append(1)
        if len(calls) <= 2:  # the yardstick before, and step 1
            refresh(self)

    monkeypatch.setattr(Weights, "refresh", once)
    with pytest.raises(NumericsError, match="not drawn from the policy"):
        run("frozen", train=fast)


def test_kl_at_temperature_one_is_the_controllers_when_sampling_is_plain(run: Callable[..., Path]):
    row = rows(run())[1]
    assert float(row["kl_f"]) > 0
    assert float(row["kl_model_f"]) == pytest.approx(float(row["kl_f"]), rel=1e-5)


def groups_of(parts: Parts, name: str) -> list[RolloutGroup]:
    own = parts.objectives[name]
    prompts = [parts.prompt(own, record) for record in own.draw(2)]
    return list(collect(parts.engine, prompts, 4).groups)


def one_live(config: RunConfig, live: str) -> tuple[float, float]:
    """Norm of the step's gradient when one objective teaches, and of that objective's own."""
    parts = build(config)
    parts.policy.freeze_reference()
    torch.manual_seed(1)
    groups = {name: groups_of(parts, name) for name in parts.objectives}
    batches = []
    for name, own in groups.items():
        made = make_batch(parts, name, own)
        if name != live:
            for micro in made.micro:
                assert micro.advantages_N is not None
                micro.advantages_N.zero_()
        batches.append(made)
    parts.updater.add_reference(batches)
    update = parts.updater.update(batches)
    return update.grad_norm, update.objectives[live].grad_norm


@pytest.mark.parametrize(("first", "second", "ratio"), [(1.0, 1.0, 1.0), (10.0, 1.0, 10.0)])
def test_weights_act_on_gradients(
    model: Path, tmp_path: Path, first: float, second: float, ratio: float
):
    """w_k |g_k| / |g_k| of both objectives, each while the other one is silent.

    KL is 0 in the first update, so a silent objective's gradient is. Ten times the weight is ten
    times the share in the gradient, whatever the scale of its rewards.
    """
    config = short_runs.config(
        model,
        tmp_path,
        objectives={
            "fairness": objective("fairness", weight=first),
            "hallucination": objective("hallucination", weight=second),
        },
    )
    shares = [
        combined / own
        for combined, own in (one_live(config, "fairness"), one_live(config, "hallucination"))
    ]
    assert shares[0] / shares[1] == pytest.approx(ratio, rel=1e-5)
    assert sum(shares) == pytest.approx(1.0, rel=1e-5)


def test_the_controller_moves_once_a_step(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    calls: list[tuple[float, int]] = []
    update = KlController.update

    def watch(self: KlController, kl_sum: float, tokens: int) -> Any:
        calls.append((kl_sum, tokens))
        return update(self, kl_sum, tokens)

    monkeypatch.setattr(KlController, "update", watch)
    table = rows(run(train={"num_iterations": 3}))
    assert len(calls) == 2 * 2
    # Its KL is the logged one: that of the policy that drew the completions.
    assert [kl / n for kl, n in calls] == [
        float(row[key]) for row in table for key in ("kl_f", "kl_h")
    ]


def test_a_custom_reward_named_in_the_yaml(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "my_rewards_e2e.py").write_text(
        "def long_enough(completions, record_id, **columns):\n"
        "    assert len(completions) == len(record_id)\n"
        "    return [len(text.split()) / 10 for text in completions]\n"
    )
    custom = [{"function": "my_rewards_e2e:long_enough", "weight": 2.0}]
    settings = short_runs.settings(
        model,
        tmp_path / "runs",
        objectives={"fairness": objective("fairness", custom_rewards=custom)},
        train={"steps": 1},
    )
    (tmp_path / "run.yaml").write_text(json.dumps(settings))
    monkeypatch.chdir(tmp_path)
    assert main(["train", "run.yaml", "--doctor", "off"]) == 0
    lines = (only_run(tmp_path / "runs") / "completions.jsonl").read_text().splitlines()
    samples = [json.loads(line) for line in lines]
    own = [s for s in samples if s["objective"] == "fairness"]
    assert own
    for sample in own:
        words = len(sample["completion"].split())
        assert sample["parts"]["custom:long_enough"] == pytest.approx(2 * words / 10)


def test_runs_of_the_same_second_get_their_own_folders(model: Path, tmp_path: Path):
    for _ in range(2):
        config = short_runs.config(model, tmp_path / "many", train={"steps": 1})
        assert train(config) == 0
    folders = [p for p in (tmp_path / "many").iterdir() if not p.name.startswith(".")]
    assert len(folders) == 2


def test_the_best_checkpoint_is_kept(run: Callable[..., Path]):
    folder = run(train={"steps": 4}, eval={"every": 1}, checkpoint={"every": 0, "keep_last": 1})
    best = json.loads((folder / "checkpoints" / "best.json").read_text())
    lines = (folder / "eval_metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert (folder / "checkpoints" / f"step-{best['step']:08d}").is_dir()
    assert (folder / "checkpoints" / "step-00000004").is_dir()


def scored(model: Path, tmp_path: Path, parts: Sequence[Mapping[str, float]]) -> ObjectiveBatch:
    """A batch of one group whose completions earn these parts."""
    built = build(short_runs.config(model, tmp_path))
    torch.manual_seed(0)
    group = groups_of(built, "fairness")[:1]
    scores = tuple(Score(own, "right", "rule") for own in parts)
    fair = built.objectives["fairness"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fair, "begin", lambda _: lambda: scores)
        return make_batch(built, "fairness", group)


def test_only_length_is_shaping(model: Path, tmp_path: Path):
    """Where length alone differs, advantages are centred, not divided: 0, -.1 gives +-.05.

    A user's reward judges: where it alone differs, the group is normalised, +-.866 for two and two
    (std of 0, 0, .1, .1 is .0577; .05 / (.0577 + eps) = .864).
    """
    length = [{"task": 1.0, "length": v} for v in (0.0, 0.0, -0.1, -0.1)]
    shaped = scored(model, tmp_path, length).advantages
    assert shaped.shaping_only_P.tolist() == [True]
    assert shaped.advantages_PK[0].tolist() == pytest.approx([0.05, 0.05, -0.05, -0.05], rel=1e-5)
    custom = [{"task": 1.0, "length": 0.0, "custom:f": v} for v in (0.0, 0.0, 0.1, 0.1)]
    batch = scored(model, tmp_path, custom)
    assert batch.advantages.shaping_only_P.tolist() == [False]
    expected = 0.05 / (0.1 / 3**0.5 + 1e-4)
    assert batch.advantages.advantages_PK[0].tolist() == pytest.approx(
        [-expected, -expected, expected, expected], rel=1e-5
    )
    # Solved is judged on the task part alone.
    assert batch.classes.solved_P.tolist() == [True]


def test_records_without_a_reply_are_left_out_of_sft(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    """Hallucinated rows of `general`, asked for an answer, have none to learn from."""
    general = objective("hallucination")
    general["data"] |= {"subsets": {"general": 1.0}, "general_as": "answer"}
    run(objectives={"hallucination": general}, sft={"steps": 3, "batch_size": 8})
    out = capsys.readouterr().out
    assert "has no accepted text to learn from" in out
    assert "hallucination: " in out
    assert "targets were left out of SFT: over 10 tokens, or absent" in out
