"""Train the embedded model with TRL's GRPOTrainer and write its log as a CSV file.

    python scripts/trl_log.py --case cancelling --out tests/unit/diagnosis/trl_log.csv

What `grpo-dual doctor` makes of such a file is docs/doctor-foreign.md. The file is what a user gets
by `pandas.DataFrame(trainer.state.log_history).to_csv(path, index=False)`: rows of training and of
evaluation, and a last one with the run's totals. Needs TRL (`pip install trl==1.16.0`), which is no
dependency of this package. Seeded; a minute on one CPU core.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from grpo_dual.model.loading import EMBEDDED, resolve_source
from grpo_dual.prompts import fairness
from grpo_dual.prompts.parse import Choice
from grpo_dual.records import synthetic as world
from grpo_dual.types import BbqRecord

K = 8
"""Completions of a prompt."""
PROMPTS = 4
"""Prompts of a step."""

Reward = Callable[..., list[float]]


def right(completions: Sequence[Any], record: Sequence[str], **_: object) -> list[float]:
    """1 for naming the right option, -1 for anything else."""
    asked = [RECORDS[key] for key in record]
    answers = (fairness.parse(c[0]["content"], r) for c, r in zip(completions, asked, strict=True))
    return [
        1.0 if isinstance(a, Choice) and a.index == r.label else -1.0
        for a, r in zip(answers, asked, strict=True)
    ]


def contrary(completions: Sequence[Any], record: Sequence[str], **_: object) -> list[float]:
    """Takes back what ``right`` pays."""
    return [-value for value in right(completions, record)]


def nothing(completions: Sequence[Any], **_: object) -> list[float]:
    """The same for every completion."""
    return [0.0] * len(completions)


def characters(completions: Sequence[Any], **_: object) -> list[float]:
    """A tenth for each character: long completions are paid."""
    return [len(c[0]["content"]) / 10 for c in completions]


@dataclass(frozen=True, slots=True)
class Case:
    """What is trained, and how it is broken."""

    rewards: tuple[Reward, ...] = (right,)
    learning_rate: float = 1e-3
    new_tokens: int = 24
    steps: int = 12


CASES = {
    "healthy": Case(),
    "cancelling": Case(rewards=(right, contrary)),
    "dead": Case(rewards=(nothing,)),
    "hot": Case(learning_rate=5e-2),
    "cut": Case(new_tokens=3),
    "long": Case(rewards=(characters,), steps=30),
}

RECORDS: dict[str, BbqRecord] = {
    f"{split}/{i}": r
    for split in ("train", "test")
    for i, r in enumerate(world.bbq_records(split, 40 if split == "train" else 4, 0))
}


def rows(split: str) -> Any:
    """Prompts of a split with the keys of their records."""
    import datasets

    chosen = {key: r for key, r in RECORDS.items() if key.startswith(split)}
    chats = [
        [{"role": m.role, "content": m.content} for m in fairness.messages(r)]
        for r in chosen.values()
    ]
    return datasets.Dataset(
        # With a fingerprint of its own: datasets 5.2 cannot hash a table of pyarrow 26.
        datasets.table.InMemoryTable.from_pydict({"prompt": chats, "record": list(chosen)}),
        fingerprint=split,
    )


def train(case: Case, folder: str, *, seed: int, steps: int) -> list[dict[str, float]]:
    """The trainer's log of a run in ``folder``."""
    import trl
    from peft import LoraConfig

    source = resolve_source(EMBEDDED)
    tokenizer = AutoTokenizer.from_pretrained(source)
    trainer = trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32),
        reward_funcs=list(case.rewards),
        args=trl.GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=K * PROMPTS,
            per_device_eval_batch_size=K * PROMPTS,
            num_generations=K,
            max_completion_length=case.new_tokens,
            max_steps=steps,
            learning_rate=case.learning_rate,
            lr_scheduler_type="constant",
            beta=0.02,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            logging_steps=1,
            eval_strategy="steps",
            eval_steps=6,
            save_strategy="no",
            report_to="none",
            seed=seed,
        ),
        train_dataset=rows("train"),
        eval_dataset=rows("test").select(range(PROMPTS)),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    trainer.train()
    return trainer.state.log_history


def main() -> None:
    """Train a case and write its log."""
    import pandas

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--case", choices=CASES, default="cancelling")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="instead of the case's own")
    args = parser.parse_args()
    case = CASES[args.case]
    with tempfile.TemporaryDirectory() as folder:
        log = train(case, folder, seed=args.seed, steps=args.steps or case.steps)
    pandas.DataFrame(log).to_csv(args.out, index=False)
    print(f"{args.out}: {len(log)} rows")


if __name__ == "__main__":
    main()
