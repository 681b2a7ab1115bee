"""From a run folder to an exported one: what of the run goes where."""

import importlib.metadata
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from transformers.utils.logging import disable_progress_bar

from grpo_dual.config.objectives import FairnessConfig, HallucinationConfig, PluginConfig
from grpo_dual.config.schema import RunConfig
from grpo_dual.errors import CheckpointError, ConfigError
from grpo_dual.evaluation.acceptance import Scores, Value
from grpo_dual.metrics.sinks import EVALUATIONS, evaluations
from grpo_dual.model.export import (
    Decoding,
    Dtype,
    is_public,
    new_folder,
    refuse_full,
    write_adapter,
    write_merged,
    write_spoken,
)
from grpo_dual.model.loading import load_spoken
from grpo_dual.prompts.chat import ChatEncoder, Tokenizer
from grpo_dual.report.card import Card, DataSet, Evaluated, markdown
from grpo_dual.report.card_results import Results, section
from grpo_dual.train.acts import tried
from grpo_dual.train.stored import Stored, find

_PACKAGES = ("grpo-dual", "torch", "transformers", "peft")


def export(
    name: str,
    out: Path,
    *,
    merged: bool,
    dtype: Dtype | None,
    results: tuple[str, Mapping[str, object]] | None,
    licence: str | None,
    repo: str | None,
) -> tuple[str, ...]:
    """Write the folder, whole or not at all.

    Args:
        name: ``RUN`` or ``RUN@STEP``.
        out: Where to; nothing may be there.
        merged: One model instead of an adapter.
        dtype: Of the weights; None: fp32 for an adapter, ``model.dtype`` for a model.
        results: Name and content of a result file.
        licence: An identifier for the card; None claims none.
        repo: The repository that it will be pushed to.

    Returns:
        What differs from the run's own policy.

    Raises:
        GrpoDualError: Run, base or target folder is wrong.
    """
    refuse_full(out)
    if not sys.stdout.isatty():
        disable_progress_bar()
    stored = find(name)
    model = stored.config.model
    public = is_public(model)
    if repo is not None and not merged and not public:
        raise ConfigError(
            f"--push {repo}: the adapter's base model ({_base(stored.config)}) is on no hub, so "
            "nobody could load it; push --merged instead."
        )
    kind: Dtype = dtype or (model.dtype if merged else "float32")
    measured = None if results is None else Results(*results, stored.sha256, stored.name)
    if measured is not None:
        section(measured)  # refuses one of other policies before anything is written
    decoding = _decoding(stored.config)
    with new_folder(out) as part:
        notes: tuple[str, ...] = ()
        if merged:
            notes = write_merged(stored.adapter, model, part, kind, decoding)
        else:
            write_adapter(stored.adapter, model, part, kind)
        write_spoken(model, part, decoding)
        card = _card(
            stored, measured, merged=merged, dtype=kind, licence=licence, repo=repo, notes=notes
        )
        (part / "README.md").write_text(markdown(card), encoding="utf-8")
    return notes


def _decoding(config: RunConfig) -> Decoding:
    spoken = load_spoken(config.model)
    tokenizer = cast("Tokenizer", spoken.tokenizer)  # special ids are set at run time
    encoder = ChatEncoder(tokenizer, generation_eos_ids=spoken.generation_eos_ids)
    return Decoding(
        config.rollout.sampling, config.eval.decode == "greedy", encoder.eos_ids, encoder.pad_id
    )


def _card(
    stored: Stored,
    results: Results | None,
    *,
    merged: bool,
    dtype: Dtype,
    licence: str | None,
    repo: str | None,
    notes: tuple[str, ...],
) -> Card:
    config = stored.config
    evaluated, missing = _evaluated(stored)
    data = tuple(_data(config))
    return Card(
        title=(repo or stored.name).rpartition("/")[2],
        base=_base(config),
        merged=merged,
        run=stored.name,
        folder=repo or ".",
        dtype=dtype,
        licence=licence,
        data=data,
        settings=tuple(_settings(config, stored.run, stored.step)),
        versions=_versions(stored.run),
        evaluated=evaluated,
        missing=missing,
        results=results,
        notes=notes,
        synthetic=all(d.name == _WORLD for d in data),
        public_base=is_public(config.model),
        base_dtype=config.model.dtype,
        fourbit=config.model.quantization != "none",
        remote_code=config.model.trust_remote_code,
    )


def _base(config: RunConfig) -> str:
    """The base's name; of a folder of one's own only its last part, as paths are private."""
    return config.model.name if is_public(config.model) else Path(config.model.name).name


def _evaluated(stored: Stored) -> tuple[Evaluated | None, str]:
    """The run's evaluation of the exported step beside its first, or why there is none."""
    found = evaluations(stored.run / EVALUATIONS)
    if stored.step not in found or stored.step == min(found):
        steps = ", ".join(map(str, sorted(found))) or "none"
        return None, (
            f"The run did not evaluate step {stored.step} against an earlier one (steps evaluated: "
            f"{steps}), so no numbers are given."
        )
    first = min(found)
    return (
        Evaluated(
            first,
            _scores(found[first]),
            stored.step,
            _scores(found[stored.step]),
            stored.config.eval.decode,
        ),
        "",
    )


def _scores(result: Mapping[str, object]) -> Scores:
    return {
        name: {str(k): v for k, v in own.items() if isinstance(v, Value)}
        for name, own in result.items()
        if isinstance(own, dict)
    }


_WORLD = "the embedded synthetic world"


def _data(config: RunConfig) -> list[DataSet]:
    found: list[DataSet] = []
    for name, objective in config.objectives.items():
        if isinstance(objective, PluginConfig):
            told = f"objective `{name}`, a plug-in: its factory says what it reads"
            found.append(DataSet(objective.factory, "not known", told))
            continue
        assert isinstance(objective, FairnessConfig | HallucinationConfig)
        if objective.data.path == "synthetic":
            told = f"objective `{name}`: sentences made by the grpo-dual package"
            found.append(DataSet(_WORLD, "Apache-2.0", told))
        elif isinstance(objective, FairnessConfig):
            parts = ", ".join(objective.data.categories) or "all categories that were there"
            told = f"objective `{name}`: {parts}; whole question templates are held out"
            found.append(DataSet("BBQ", "CC-BY-4.0", told))
        else:
            subsets = ", ".join(s for s, weight in objective.data.subsets.items() if weight > 0)
            found.append(
                DataSet("HaluEval", "MIT", f"objective `{name}`: {subsets}; rows are held out")
            )
    return found


def _settings(config: RunConfig, run: Path, step: int) -> list[tuple[str, str]]:
    sampling, lora, train = config.rollout.sampling, config.model.lora, config.train
    rows = [
        ("steps", f"{step} of {train.steps}"),
        ("seed", str(train.seed)),
        ("warm-up before RL", _warm_up(config)),
        (
            "LoRA",
            f"rank {lora.rank}, alpha {lora.alpha:g}, dropout {lora.dropout:g}, "
            f"{', '.join(lora.targets)}",
        ),
        ("base weights", f"{config.model.dtype}, quantization {config.model.quantization}"),
        (
            "optimiser",
            f"AdamW, learning rate {train.optimizer.learning_rate:g} ({train.optimizer.schedule})",
        ),
        (
            "rollouts",
            f"{config.rollout.group_size} completions a prompt of at most "
            f"{sampling.max_new_tokens} tokens, temperature {sampling.temperature:g}, "
            f"top_p {sampling.top_p:g}, top_k {sampling.top_k}",
        ),
        ("reference of KL", config.model.reference),
    ]
    for name, objective in config.objectives.items():
        kl = objective.kl
        beta = f"beta {kl.beta:g}" + (f" towards KL {kl.target:g}" if kl.adaptive else ", constant")
        rows.append(
            (
                f"objective {name}",
                f"weight {objective.weight:g} x {objective.reward_scale:g}, "
                f"{objective.prompts_per_step} prompts a step, {beta}",
            )
        )
    treated = tried(run)
    if treated:
        rows.append(("changed by the doctor in the run, for", ", ".join(treated)))
    if config.judge.providers:
        rows.append(("judges", ", ".join(config.judge.providers)))
    return rows


def _warm_up(config: RunConfig) -> str:
    learnt = "" if config.sft.data is None else f" on chosen completions ({config.sft.data.name})"
    return f"SFT {config.sft.steps} steps{learnt}, pairs {config.sft.pairs.steps} steps"


def _versions(run: Path) -> dict[str, str]:
    """The versions that the run began with, as it wrote them; else those of the export."""
    path = run / "environment.json"
    try:
        packages = dict(json.loads(path.read_text(encoding="utf-8"))["packages"])
    except FileNotFoundError:
        return {name: importlib.metadata.version(name) for name in _PACKAGES}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}). Delete it to export with the versions of today."
        ) from error
    return {name: str(packages[name]) for name in _PACKAGES if packages.get(name)}
