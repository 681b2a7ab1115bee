"""What a HaluEval completion earns (design table): answering by a judge, detecting by rule."""

from collections.abc import Callable
from functools import partial

from grpo_dual.config.schema import HallucinationConfig
from grpo_dual.errors import RewardError
from grpo_dual.judges import heuristic
from grpo_dual.judges.heuristic import Judgement, Verdict
from grpo_dual.prompts import hallucination
from grpo_dual.prompts.parse import YesNo
from grpo_dual.rewards.compose import Composer, Outcome
from grpo_dual.rewards.evasion import is_evasive
from grpo_dual.types import HaluEvalRecord, RolloutGroup, Score, Task

Judge = Callable[[HaluEvalRecord, str], Judgement]


class HallucinationReward:
    """Scores groups of HaluEval completions.

    | item | right | between | wrong |
    |---|---|---|---|
    | answer, with knowledge | grounded | abstains or evades | hallucinates, empty, echo, paste |
    | answer, general | judged grounded | evades | judged hallucinated; no opinion: unscored |
    | detect | right yes/no | | wrong, unparsed |

    Verdicts: grounded, evades (one of the six phrases), abstains (declines otherwise),
    hallucinated; right, wrong, unparsed for detection; unjudged.
    """

    def __init__(
        self,
        config: HallucinationConfig,
        *,
        max_new_tokens: int,
        judge: Judge | None = None,
        provider: str = "heuristic",
    ) -> None:
        """Build it from the objective's config.

        Args:
            config: The objective.
            max_new_tokens: Completion limit, for length shaping.
            judge: Judge of answers; the offline one if None.
            provider: Its name in scores.

        Raises:
            RewardError: a custom reward cannot be loaded.
        """
        self._values = config.reward
        self._judge = judge or partial(heuristic.judge, threshold=config.reward.threshold)
        self._provider = provider
        self._composer = Composer(config, max_new_tokens=max_new_tokens)

    def outcome(self, record: HaluEvalRecord, text: str) -> Outcome:
        """The task's outcome for one completion."""
        if record.task is Task.DETECT:
            return self._detection(record, text)
        judged = self._judge(record, text)
        if judged.verdict is Verdict.GROUNDED:
            return Outcome(self._values.grounded, "grounded", self._provider)
        if judged.verdict is Verdict.HALLUCINATED:
            return Outcome(self._values.hallucinated, "hallucinated", self._provider)
        declined = self._values.abstains
        if record.subset == "general":
            declined = self._values.general_evasion
        if is_evasive(text):
            return Outcome(declined, "evades", "template_detector")
        if judged.verdict is Verdict.ABSTAINS:
            return Outcome(declined, "abstains", self._provider)
        return Outcome(None, "unjudged", self._provider, failure=judged.reason)

    def _detection(self, record: HaluEvalRecord, text: str) -> Outcome:
        if record.hallucinated is None:
            raise RewardError(
                f"{record.record_id} ({record.origin}) has no gold verdict to score by"
            )
        reply = hallucination.parse(text, record)
        if not isinstance(reply, YesNo):
            return Outcome(self._values.detect_wrong, "unparsed", "rule")
        if reply.yes == record.hallucinated:
            return Outcome(self._values.detect_right, "right", "rule")
        return Outcome(self._values.detect_wrong, "wrong", "rule")

    def score(self, group: RolloutGroup) -> tuple[Score, ...]:
        """One score per rollout.

        Raises:
            RewardError: no HaluEval group, an item without gold, or a custom reward failed.
        """
        record = group.prompt.record
        if not isinstance(record, HaluEvalRecord):
            raise RewardError(
                f"the hallucination reward cannot score {record.record_id}: no HaluEval record"
            )
        outcomes = [self.outcome(record, rollout.text) for rollout in group.rollouts]
        return self._composer.scores(group, outcomes)
