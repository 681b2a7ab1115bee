"""One objective as the pre-flight sees it: what it would draw, how that fits, and what it pays.

The records are the first that the run would draw, so a subset counts as often as it is trained.
Texts are scored by the run's own reward tables with the offline judge: nothing is sent.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from grpo_dual.config.objectives import FairnessConfig, HallucinationConfig
from grpo_dual.config.schema import RunConfig
from grpo_dual.diagnosis.preflight_chat import Reply
from grpo_dual.diagnosis.preflight_rewards import RIGHT, Earned, probes
from grpo_dual.errors import PromptError
from grpo_dual.prompts import fairness, hallucination
from grpo_dual.prompts.chat import ChatEncoder
from grpo_dual.prompts.parse import Choice, FreeAnswer, Unparsed, YesNo
from grpo_dual.prompts.truncation import Auditor, Fit, Twins, kind_of
from grpo_dual.rewards.fairness import FairnessReward
from grpo_dual.rewards.hallucination import HallucinationReward
from grpo_dual.train.objectives import Fairness, Hallucination, Objective
from grpo_dual.types import (
    BbqRecord,
    HaluEvalRecord,
    Prompt,
    Record,
    Rollout,
    RolloutGroup,
    Score,
)

SAMPLE = 400
"""Draws of each objective that are looked at."""
PROBED = 20
"""Records of each kind on which the filler probes are scored."""

Scorer = Callable[[RolloutGroup], tuple[Score, ...]]


@dataclass(frozen=True, slots=True)
class View:
    """One objective as the checks see it."""

    objective: Objective
    drawn: tuple[Record, ...]
    fits: tuple[Fit, ...]
    """Of every draw."""
    replies: list[Reply] = field(default_factory=list[Reply])
    earned: list[Earned] = field(default_factory=list[Earned])

    @property
    def shares(self) -> dict[str, float]:
        """Of each kind in the draws."""
        counts = Counter(kind_of(record) for record in self.drawn)
        return {kind: count / len(self.drawn) for kind, count in counts.items()}


def view_of(config: RunConfig, objective: Objective, encoder: ChatEncoder) -> View:
    """Draw, fit to the limits, and score; the sampler is left as it was.

    Args:
        config: The run.
        objective: One of its objectives.
        encoder: The chat format.

    Raises:
        RewardError: A user's reward fails.
    """
    before = objective.state_dict()
    drawn = tuple(objective.draw(SAMPLE))
    objective.load_state_dict(before)
    pool = objective.train_records if isinstance(objective, Fairness) else ()
    auditor = Auditor(
        objective.messages, encoder, Twins(pool), overlong=config.rollout.overlong_prompt
    )
    fits: dict[str, Fit] = {}
    targets: dict[str, str | None] = {}
    for record in drawn:
        if record.record_id in fits:
            continue
        target = targets[record.record_id] = _target(objective, record)
        fits[record.record_id] = auditor.fit(
            record,
            auditor.tokens(record),
            config.rollout.max_prompt_tokens,
            None if target is None else len(encoder.encode_completion(target)),
        )
    view = View(objective, drawn, tuple(fits[r.record_id] for r in drawn))
    scorer = _offline_reward(config, objective)
    if scorer is not None:
        _score(view, scorer, encoder, targets)
    return view


def _target(objective: Objective, record: Record) -> str | None:
    """The supervised reply; None where the data have none."""
    try:
        return objective.target(record)
    except PromptError:
        return None


def _offline_reward(config: RunConfig, objective: Objective) -> Scorer | None:
    """The objective's reward with the offline judge, so that nothing is sent.

    None for a plug-in, whose judges are its own.
    """
    limit = config.rollout.sampling.max_new_tokens
    if isinstance(objective, Fairness):
        assert isinstance(objective.config, FairnessConfig)
        return FairnessReward(objective.config, max_new_tokens=limit).score
    if isinstance(objective, Hallucination):
        assert isinstance(objective.config, HallucinationConfig)
        return HallucinationReward(objective.config, max_new_tokens=limit).score
    return None


def _score(
    view: View, scorer: Scorer, encoder: ChatEncoder, targets: Mapping[str, str | None]
) -> None:
    """Score the right reply of every record, and all probes on the first of each kind."""
    probed: Counter[str] = Counter()
    for record in {r.record_id: r for r in view.drawn}.values():
        target, kind = targets[record.record_id], kind_of(record)
        decoded = None if target is None else encoder.decode(encoder.encode_completion(target))
        probed[kind] += 1
        texts = {} if decoded is None else {RIGHT: decoded}
        if probed[kind] <= PROBED:
            texts = probes(record, decoded)
        if not texts:
            continue
        scores = dict(
            zip(texts, scorer(_group(view.objective, record, texts, encoder)), strict=True)
        )
        if target is not None and decoded is not None:
            view.replies.append(
                Reply(
                    record_id=record.record_id,
                    kind=kind,
                    target=target,
                    decoded=decoded,
                    same=_same(record, target, decoded),
                    earned=scores[RIGHT].parts.get("task"),
                    best=view.objective.best(record),
                )
            )
        if probed[kind] <= PROBED:
            answerable = view.objective.answerable(record)
            view.earned.extend(
                Earned(record, answerable, name, score.parts, len(texts[name].split()))
                for name, score in scores.items()
                if score.total is not None
            )


def _group(
    objective: Objective, record: Record, texts: Mapping[str, str], encoder: ChatEncoder
) -> RolloutGroup:
    """Texts as completions of a record that the model might have written."""
    prompt = Prompt(
        record=record, messages=objective.messages(record), token_ids=(), shortened=False
    )
    rollouts: list[Rollout] = []
    for text in texts.values():
        ids = encoder.encode_completion(text)
        rollouts.append(Rollout(ids, (0.0,) * len(ids), text, finished=True))
    return RolloutGroup(prompt, tuple(rollouts))


def _same(record: Record, target: str, decoded: str) -> bool:
    """Is the same answer read in both?"""
    if isinstance(record, BbqRecord):
        read = [fairness.parse(text, record) for text in (target, decoded)]
    else:
        assert isinstance(record, HaluEvalRecord)
        read = [hallucination.parse(text, record) for text in (target, decoded)]
    answers = [_answer(r) for r in read]
    return answers[0] is not None and answers[0] == answers[1]


def _answer(read: Choice | YesNo | FreeAnswer | Unparsed) -> object:
    """What is said, apart from how."""
    if isinstance(read, Choice):
        return read.index
    if isinstance(read, YesNo):
        return read.yes
    return " ".join(read.text.split()) if isinstance(read, FreeAnswer) else None
