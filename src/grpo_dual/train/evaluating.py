"""``grpo-dual eval``: policies one after another through the yardstick, and what came of it."""

import datetime
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, cast

import torch
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from grpo_dual.config.load import load_config
from grpo_dual.config.objectives import PluginConfig
from grpo_dual.config.schema import RolloutConfig, RunConfig, SamplingConfig
from grpo_dual.config.snapshot import environment
from grpo_dual.errors import ConfigError
from grpo_dual.evaluation.asking import Speaker
from grpo_dual.evaluation.protocols import Bootstrap
from grpo_dual.evaluation.results import difference, result, rows
from grpo_dual.evaluation.run import PARTS, Evaluated, Part, evaluate
from grpo_dual.model.continuations import continuation_logprobs
from grpo_dual.model.policy import Policy
from grpo_dual.prompts.chat import ChatEncoder, Tokenizer
from grpo_dual.records.reader import sha256
from grpo_dual.rollouts.choose import choose_engine
from grpo_dual.train.eval_items import Items, Split, eval_items, objectives_of
from grpo_dual.train.seed import step_seed
from grpo_dual.train.targets import Loader, Target, find_target

Decode = Literal["greedy", "train", "handoff"]
"""Plain decoding without sampling, the run's own sampling, or the hand-off's."""

HANDOFF = SamplingConfig(
    max_new_tokens=128,
    min_new_tokens=5,
    temperature=0.9,
    top_k=100,
    top_p=0.9,
    repetition_penalty=1.18,
)
"""The sampling of configs/llama3-8b-handoff.yaml."""

_NOT_THE_SPLIT = ("train_samples", "ambiguous_fraction", "max_repeats", "length_matched")
"""Keys of an objective's data that do not move the line between training and held-out rows."""

GROUPS: dict[str, tuple[Part, ...]] = {
    "bbq": ("bbq",),
    "halueval": ("open", "detection", "pairs"),
    "open": ("open",),
    "detection": ("detection",),
    "pairs": ("pairs",),
    "retention": ("retention",),
}
"""What ``--only`` may name, and the parts that it stands for."""

_LONGEST = 2048
"""Tokens that a prompt of the recognition task may have, where the model has room for them."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What a command asks for."""

    targets: tuple[str, ...]
    config: Path | None = None
    """Objectives, data, prompts and sampling, in place of a run's own."""
    data: Path | None = None
    """BBQ and HaluEval files, in place of the configuration's objectives."""
    decode: Decode = "greedy"
    split: Split | None = None
    """None: ``all`` of ``data``, else the ``yardstick``."""
    only: tuple[str, ...] = ()
    """Keys of `GROUPS`; none: everything."""
    limit: int | None = None
    seed: int | None = None
    """None: the configuration's."""
    max_new_tokens: int | None = None
    """In place of the configuration's."""
    draws: int = 1000
    """Of the bootstrap."""
    device: str | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A request, looked over: nothing is loaded yet, and most mistakes have been found."""

    request: Request
    targets: tuple[Target, ...]
    config: RunConfig
    source: str
    """Where the configuration comes from."""
    split: Split
    seed: int
    rollout: RolloutConfig
    """With the sampling that is asked for."""
    items: tuple[Items, ...]
    parts: tuple[Part, ...]

    @property
    def boot(self) -> Bootstrap:
        """How intervals are drawn."""
        return Bootstrap(self.request.draws, self.seed)

    @property
    def notes(self) -> tuple[str, ...]:
        """What differs from what was asked, or what to beware of."""
        told = [note for own in self.items for note in own.notes]
        for target in self.targets:
            own = {} if target.config is None else _held_out(target.config)
            if own and own != _held_out(self.config):
                told.append(
                    f"{target.name}: its own held-out items are others than these ({self.source}, "
                    f"{self.split}), so that it may have been trained on some of them"
                )
            elif own and self.split == "all":
                told.append(f"{target.name}: was trained on some of these items (split: all)")
        return tuple(told)


def plan(request: Request) -> Plan:
    """Find targets, configuration and data.

    Raises:
        ConfigError: There is nothing that says what to ask, or the configuration is wrong.
        CheckpointError: A run has no such checkpoint.
        ModelError: A target is no model.
        DataError: Data are missing or wrong.
    """
    targets = tuple(
        find_target(text, device=request.device, dtype=request.dtype) for text in request.targets
    )
    names = request.only or tuple(GROUPS)
    wanted: set[Part] = {part for name in names for part in GROUPS[name]}
    parts: tuple[Part, ...] = tuple(part for part in PARTS if part in wanted)
    config, source = _configuration(request, targets, needed=wanted != {"retention"})
    split: Split = request.split or ("yardstick" if request.data is None else "all")
    seed = config.train.seed if request.seed is None else request.seed
    sampling = HANDOFF if request.decode == "handoff" else config.rollout.sampling
    if request.max_new_tokens is not None:
        least = min(sampling.min_new_tokens, request.max_new_tokens)
        sampling = sampling.model_copy(
            update={"max_new_tokens": request.max_new_tokens, "min_new_tokens": least}
        )
    rollout = config.rollout.model_copy(update={"sampling": sampling})
    kinds = [kind for kind, own in _KINDS.items() if wanted & set(own)]
    items = eval_items(config, split, kinds, limit=request.limit, seed=seed) if kinds else []
    return Plan(request, targets, config, source, split, seed, rollout, tuple(items), parts)


_KINDS = {"fairness": GROUPS["bbq"], "hallucination": GROUPS["halueval"]}
"""Kind of an objective -> the parts that ask its items."""


def _configuration(
    request: Request, targets: Sequence[Target], *, needed: bool
) -> tuple[RunConfig, str]:
    """``--config``, else that of the first run; ``--data`` replaces its objectives."""
    run = next((t for t in targets if t.config is not None), None)
    if request.config is not None:
        config, source = load_config(request.config), str(request.config)
    elif run is not None and run.config is not None:
        config, source = run.config, str(run.folder)
    elif request.data is not None or not needed:
        config, source = RunConfig(), "defaults"
    else:
        raise ConfigError(
            f"{targets[0].name}: is no run, so nothing says what to ask: give BBQ and HaluEval "
            "files with --data, or a configuration with --config"
        )
    if request.data is not None:
        config = config.model_copy(update={"objectives": objectives_of(request.data)})
    return config, source


def _held_out(config: RunConfig) -> dict[str, object]:
    """What decides which rows of files a run holds out."""
    found: dict[str, object] = {}
    for name, objective in config.objectives.items():
        if isinstance(objective, PluginConfig) or objective.data.path == "synthetic":
            continue  # the embedded world never trains on what it asks
        data = objective.data.model_dump()
        found[name] = {key: value for key, value in data.items() if key not in _NOT_THE_SPLIT}
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one target."""

    target: Target
    found: Evaluated
    numbers: Mapping[str, object]

    def rows(self) -> Iterable[dict[str, object]]:
        """Per-item rows, the target's name in each."""
        return ({"target": self.target.name, **row} for row in rows(self.found))


def carry_out(
    made: Plan, tell: Tell, done: Callable[[Outcome], None] = lambda _: None
) -> dict[str, object]:
    """Evaluate all targets.

    Args:
        made: From `plan`.
        tell: Hears notes and what is going on.
        done: Gets each target's outcome as it comes.

    Returns:
        The whole result, JSON-able; docs/evaluation.md has its keys.

    Raises:
        GrpoDualError: A model cannot be loaded, or a policy has diverged.
    """
    rests_on = provenance(made)
    notes = Notes(tell)
    for note in made.notes:
        notes.add(note)
    if made.config.train.threads is not None:
        torch.set_num_threads(made.config.train.threads)
    loader = Loader()
    first: Evaluated | None = None
    results: list[Mapping[str, object]] = []
    for number, target in enumerate(made.targets, start=1):
        tell(f"{target.name} ({number} of {len(made.targets)})")
        outcome = _one(made, target, loader.load(target), first, notes)
        first = first or outcome.found
        results.append(outcome.numbers)
        done(outcome)
    return {"provenance": {**rests_on, "notes": notes.told}, "targets": results}


class Notes:
    """What differs from what was asked; each is told once."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.told: list[str] = []

    def add(self, note: str) -> None:
        """Tell a note, unless it was told already."""
        if note not in self.told:
            self.told.append(note)
            self._tell(f"note: {note}")


def _one(
    made: Plan, target: Target, policy: Policy, first: Evaluated | None, notes: Notes
) -> Outcome:
    began = time.monotonic()
    speaker = _speaker(made, policy, notes)
    left_out: list[str] = []
    torch.manual_seed(step_seed(made.seed, 0, "yardstick"))
    questions = [own.questions for own in made.items]
    found = evaluate(speaker, questions, made.parts, made.boot, left_out.append)
    if left_out:
        told = f"{len(left_out)} items are over the prompt limit, the first: {left_out[0]}"
        notes.add(f"{target.name}: {told}")
    numbers: dict[str, object] = {
        "name": target.name,
        "kind": target.kind,
        "model": target.model.name,
        "revision": target.model.revision,
        "dtype": target.model.dtype,
        "quantization": target.model.quantization,
        "path": None if target.folder is None else str(target.folder),
        "step": target.step,
        "adapter": None
        if target.adapter is None
        else {"path": str(target.adapter), "sha256": target.sha256},
        "device": _device(policy),
        **result(found, made.boot),
    }
    if first is not None:
        numbers["minus_first"] = difference(first, found, made.boot)
    numbers["seconds"] = round(time.monotonic() - began, 2)
    return Outcome(target, found, numbers)


def _speaker(made: Plan, policy: Policy, notes: Notes) -> Speaker:
    # Transformers sets the special ids of a tokenizer at run time, where no checker sees them.
    tokenizer = cast("Tokenizer", policy.tokenizer)
    # What is too long is measured here on purpose: without this Transformers warns of it.
    policy.tokenizer.model_max_length = VERY_LARGE_INTEGER
    encoder = ChatEncoder(tokenizer, generation_eos_ids=policy.generation_eos_ids)
    engine = choose_engine(policy, encoder, made.rollout, notes.add)
    return Speaker(
        engine,
        encoder,
        partial(continuation_logprobs, policy, head_chunk=made.config.loss.head_chunk),
        greedy=made.request.decode == "greedy",
        max_prompt_tokens=made.rollout.max_prompt_tokens,
        longest_prompt=_longest(made.rollout, policy),
        overlong=made.rollout.overlong_prompt,
        bos=tokenizer.bos_token_id,
    )


def _longest(rollout: RolloutConfig, policy: Policy) -> int:
    """Tokens of a prompt that is not the run's: what the model was built for, within reason."""
    positions = getattr(policy.causal_lm.config.get_text_config(), "max_position_embeddings", None)
    windows = [w for w in (positions, policy.window) if w is not None]
    room = min(windows, default=_LONGEST) - rollout.sampling.max_new_tokens
    return max(rollout.max_prompt_tokens, min(room, _LONGEST))


def _device(policy: Policy) -> dict[str, object]:
    cuda = policy.device.type == "cuda"
    return {
        "type": policy.device.type,
        "name": torch.cuda.get_device_name(policy.device) if cuda else None,
        "threads": torch.get_num_threads(),
    }


def provenance(made: Plan) -> dict[str, object]:
    """What a result rests on, JSON-able."""
    sampling = made.rollout.sampling
    greedy = made.request.decode == "greedy"
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "parts": list(made.parts),
        "split": made.split,
        "limit": made.request.limit,
        "seed": made.seed,
        "decode": {
            "mode": made.request.decode,
            **({"max_new_tokens": sampling.max_new_tokens} if greedy else sampling.model_dump()),
            "max_prompt_tokens": made.rollout.max_prompt_tokens,
            "overlong_prompt": made.rollout.overlong_prompt,
        },
        "bootstrap": {
            "draws": made.request.draws,
            "seed": made.seed,
            "clusters": {"bbq": "question_index", "halueval": "knowledge or document"},
        },
        "config": {"source": made.source, "sha256": _digest(made.config)},
        "data": [_data(own) for own in made.items],
        **environment(),
    }


def _digest(config: RunConfig) -> str:
    plain = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()


def _data(items: Items) -> dict[str, object]:
    return {
        "objective": items.questions.objective,
        "source": items.source,
        "n_bbq": len(items.questions.bbq),
        "n_halueval": len(items.questions.halueval),
        "files": [{"path": str(path), "sha256": sha256(path)} for path in items.files],
    }
