"""Faults that no configuration can make: each a context manager around a run."""

import contextlib
import dataclasses
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import grpo_dual
from grpo_dual.config.schema import RunConfig
from grpo_dual.judges import local
from grpo_dual.judges.client import Failure, Opinion, Verdict
from grpo_dual.model import head
from grpo_dual.model.policy import Policy
from grpo_dual.prompts import fairness, hallucination
from grpo_dual.prompts.parse import Unparsed
from grpo_dual.records import synthetic
from grpo_dual.rewards.compose import Outcome
from grpo_dual.rewards.hallucination import HallucinationReward
from grpo_dual.rewards.judging import FAILED
from grpo_dual.train import run, step

Patch = Callable[[RunConfig], contextlib.AbstractContextManager[RunConfig]]
EVASION = "The context does not provide sufficient information to answer this question."


@contextlib.contextmanager
def nothing(config: RunConfig) -> Iterator[RunConfig]:
    """The configuration alone."""
    yield config


@contextlib.contextmanager
def stale_adapter(config: RunConfig) -> Iterator[RunConfig]:
    """The rollouts are drawn from the adapter as it was at step 0."""
    from grpo_dual.rollouts.transformers import TransformersEngine

    whole = TransformersEngine.generate

    def generate(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self._policy.reference():
            return whole(self, *args, **kwargs)

    with mock.patch.object(TransformersEngine, "generate", generate):
        yield config


@contextlib.contextmanager
def live_reference(config: RunConfig) -> Iterator[RunConfig]:
    """KL is measured against the adapter that is trained."""

    @contextlib.contextmanager
    def reference(_: Policy) -> Iterator[None]:
        with torch.no_grad():
            yield

    with mock.patch.object(Policy, "reference", reference):
        yield config


@contextlib.contextmanager
def unknown_last(config: RunConfig) -> Iterator[RunConfig]:
    """The unknown option is always (c)."""
    whole = synthetic.bbq_records

    def records(*args: Any) -> Iterator[Any]:
        for r in whole(*args):
            order = [i for i in range(3) if i != r.unknown] + [r.unknown]
            yield dataclasses.replace(
                r,
                options=tuple(r.options[i] for i in order),
                label=order.index(r.label),
                unknown=2,
                biased=None if r.biased is None else order.index(r.biased),
            )

    with mock.patch.object(synthetic, "bbq_records", records):
        yield config


@contextlib.contextmanager
def long_hallucinations(config: RunConfig) -> Iterator[RunConfig]:
    """The hallucinated side of each pair is the longer one."""
    whole = synthetic.halueval_records

    def records(*args: Any) -> Iterator[Any]:
        for r in whole(*args):
            longer = f"{r.rejected} as far as anybody can say today" if r.rejected else r.rejected
            yield dataclasses.replace(r, rejected=longer)

    with mock.patch.object(synthetic, "halueval_records", records):
        yield config


@contextlib.contextmanager
def strict_parser(config: RunConfig) -> Iterator[RunConfig]:
    """The reader wants ``ANSWER:``, which nobody asked the model for."""

    def parse(text: str, record: Any) -> Any:
        return whole(text[7:], record) if text.startswith("ANSWER:") else Unparsed("no ANSWER:")

    whole = fairness.parse
    with mock.patch.object(fairness, "parse", parse):
        yield config


@contextlib.contextmanager
def foreign_template(config: RunConfig) -> Iterator[RunConfig]:
    """The embedded model asked in ChatML, which it has never seen."""
    chatml = (
        "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "chatml"
        shutil.copytree(Path(grpo_dual.__file__).parent / "assets" / "tiny", model)
        (model / "chat_template.jinja").write_text(chatml)
        changed = config.model.model_copy(update={"name": str(model)})
        yield config.model_copy(update={"model": changed})


@contextlib.contextmanager
def failing_judge(config: RunConfig) -> Iterator[RunConfig]:
    """Two of three judgements of answers fail."""
    rng = random.Random(config.train.seed)
    whole = HallucinationReward.outcome

    def outcome(self: Any, *args: Any, **kwargs: Any) -> Outcome:
        if rng.random() < 0.67:
            return Outcome(None, FAILED, "judge", failure="timed out after 30 s")
        return whole(self, *args, **kwargs)

    with mock.patch.object(HallucinationReward, "outcome", outcome):
        yield config


@contextlib.contextmanager
def noisy_judge(config: RunConfig) -> Iterator[RunConfig]:
    """Three of ten verdicts on answers are turned round."""
    rng = random.Random(config.train.seed)
    whole = local.offline
    turned = {Verdict.RIGHT: Verdict.WRONG, Verdict.WRONG: Verdict.RIGHT}

    def offline(*args: Any, **kwargs: Any) -> Opinion | Failure:
        opinion = whole(*args, **kwargs)
        if isinstance(opinion, Opinion) and opinion.verdict in turned and rng.random() < 0.3:
            return dataclasses.replace(opinion, verdict=turned[opinion.verdict])
        return opinion

    with mock.patch.object(local, "offline", offline):
        yield config


@contextlib.contextmanager
def coarse_head(config: RunConfig) -> Iterator[RunConfig]:
    """The trainer's logits are rounded to bf16; the sampler's are not."""
    whole = head.project

    def project(*args: Any, **kwargs: Any) -> torch.Tensor:
        return whole(*args, **kwargs).bfloat16().float()

    with mock.patch.object(head, "project", project):
        yield config


@contextlib.contextmanager
def not_finite(config: RunConfig) -> Iterator[RunConfig]:
    """Every third loss from the sixth on overflows."""
    whole, calls = step.objective_loss, [0]

    def objective_loss(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        parts = whole(*args, **kwargs)
        broken = calls[0] > 5 and calls[0] % 9 == 0
        return parts._replace(total=parts.total * float("inf")) if broken else parts

    with mock.patch.object(step, "objective_loss", objective_loss):
        yield config


@contextlib.contextmanager
def evasive_targets(config: RunConfig) -> Iterator[RunConfig]:
    """The supervised warm-up teaches one evasion as the answer to everything."""
    whole = run.warm_up

    def warm_up(*args: Any, **kwargs: Any) -> None:
        with (
            mock.patch.object(fairness, "target", return_value=EVASION),
            mock.patch.object(hallucination, "target", return_value=EVASION),
        ):
            whole(*args, **kwargs)

    with mock.patch.object(run, "warm_up", warm_up):
        yield config
