"""SFT on chosen completions (``sft.data``) instead of the records' own replies."""

import hashlib
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from grpo_dual.errors import DataError
from grpo_dual.records.chosen import Chosen, iter_chosen
from grpo_dual.train.objectives import Objective
from grpo_dual.train.seed import step_seed
from grpo_dual.train.sft import Draw, SftSample
from grpo_dual.train.wiring import Parts

_EPOCHS = 2
"""Rounds over the same completions after which the policy is known to narrow."""


def chosen_rows(parts: Parts) -> dict[str, list[Chosen]]:
    """The rows of ``sft.data`` by objective; nothing where it is not set.

    Raises:
        DataError: A row is malformed, of an objective that this run has not, below
            ``sft.min_reward``, of a record that is held out, or too long; file and line are named.
    """
    config = parts.config.sft
    if config.data is None:
        return {}
    held_out = {name: _held_out(objective) for name, objective in parts.objectives.items()}
    found: dict[str, list[Chosen]] = defaultdict(list)
    for row in iter_chosen(config.data):
        _check(row, parts, held_out)
        found[row.objective].append(row)
    return {name: found[name] for name in parts.objectives if name in found}


def describe(rows: Mapping[str, Sequence[Chosen]], parts: Parts) -> list[str]:
    """What the user should know of the file before it is learnt."""
    config = parts.config.sft
    assert config.data is not None
    count = sum(map(len, rows.values()))
    told = [f"sft.data: {count} completions of {config.data} (sha256 {_digest(config.data)})"]
    absent = [name for name in parts.objectives if name not in rows]
    if absent:
        told.append(f"note: sft.data holds nothing of {', '.join(absent)}, which SFT leaves out")
    for name, own in rows.items():
        epochs = config.steps * config.batch_size / len(rows) / len(own)
        if epochs > _EPOCHS:
            told.append(
                f"note: {name}: SFT goes {epochs:.1f} times over its {len(own)} completions; above "
                f"{_EPOCHS} the policy narrows. Lower sft.steps, or choose more"
            )
    return told


def chosen_draws(rows: Mapping[str, Sequence[Chosen]], parts: Parts) -> dict[str, Draw]:
    """Where SFT's samples come from: each row once, in a new order every time round."""
    return {name: _draw(name, own, parts) for name, own in rows.items()}


def _draw(name: str, rows: Sequence[Chosen], parts: Parts) -> Draw:
    seed, limit = parts.config.train.seed, parts.config.rollout.sampling.max_new_tokens
    order: list[int] = []
    epoch = 0

    def sample() -> SftSample | None:
        nonlocal epoch
        if not order:
            order.extend(range(len(rows)))
            random.Random(step_seed(seed, epoch, f"sft.data/{name}")).shuffle(order)
            epoch += 1
        row = rows[order.pop()]
        reply = parts.encoder.encode_completion(row.completion)
        if len(reply) > limit:
            return None
        return SftSample(parts.encoder.encode(row.messages), reply)

    return lambda n: [sample() for _ in range(n)]


Held = tuple[frozenset[str], frozenset[object]]
"""Ids and chats of the records that are held out."""


def _held_out(objective: Objective) -> Held:
    """By id, and by chat: another file or seed may give the same item another id."""
    records = (*getattr(objective, "held_out", ()), *objective.eval_records)
    ids = frozenset(record.record_id for record in records)
    return ids, frozenset(objective.messages(record) for record in records)


def _check(row: Chosen, parts: Parts, held_out: Mapping[str, Held]) -> None:
    config = parts.config
    if row.objective not in held_out:
        raise DataError(
            f"{row.origin}: field 'objective' is '{row.objective}', which is no objective of this "
            f"run ({', '.join(held_out)}); leave the row out, or name the objective so"
        )
    if row.reward < config.sft.min_reward:
        raise DataError(
            f"{row.origin}: its reward {row.reward:g} is below sft.min_reward "
            f"({config.sft.min_reward:g}): it would teach what is not wanted. Leave the row "
            "out, or lower sft.min_reward"
        )
    ids, chats = held_out[row.objective]
    if row.record_id in ids or row.messages in chats:
        raise DataError(
            f"{row.origin}: {row.record_id} is held out for the yardstick of this run; learnt, it "
            "would be measured on what it has seen. Leave the row out, or select with this run's "
            "data split"
        )
    limit = config.rollout.max_prompt_tokens
    length = len(parts.encoder.encode(row.messages))
    if length > limit:
        raise DataError(
            f"{row.origin}: its prompt has {length} tokens, the limit is {limit}; raise "
            "rollout.max_prompt_tokens, or leave the row out"
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
