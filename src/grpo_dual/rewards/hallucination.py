"""What a HaluEval completion earns (design table): answering by a judge, detecting by rule."""

from collections.abc import Sequence
from functools import partial

from grpo_dual.config.judging import JudgeConfig
from grpo_dual.config.objectives import HallucinationConfig
from grpo_dual.errors import RewardError
from grpo_dual.judges import heuristic, local
from grpo_dual.judges.client import Cause, Failure, Opinion, Question, Verdict
from grpo_dual.prompts import hallucination
from grpo_dual.prompts.parse import YesNo
from grpo_dual.rewards import judging
from grpo_dual.rewards.compose import Composer, Outcome, Scoring
from grpo_dual.rewards.contrast import contrasted
from grpo_dual.rewards.evasion import group_templates, is_evasive, only_declines
from grpo_dual.rewards.judging import FAILED, UNJUDGED, Judging
from grpo_dual.types import HaluEvalRecord, RolloutGroup, Score, Task


class HallucinationReward:
    """Scores groups of HaluEval completions.

    | item | right | between | wrong |
    |---|---|---|---|
    | answer, with knowledge | grounded | abstains or evades | hallucinates, empty, echo, paste |
    | answer, general | judged grounded | evades | judged hallucinated; no opinion: unscored |
    | detect | right yes/no | | wrong, unparsed |

    Verdicts: grounded, evades (by the template detector), abstains (by a judge), hallucinated;
    right, wrong, unparsed for detection; unjudged. With ``reward.contrast`` an answer with both
    sides known has the part ``contrast`` beside ``task`` (see ``contrast.py``).
    """

    def __init__(
        self,
        config: HallucinationConfig,
        *,
        max_new_tokens: int,
        judges: JudgeConfig | None = None,
        judging: Judging | None = None,
    ) -> None:
        """Build it from the objective's config.

        Args:
            config: The objective.
            max_new_tokens: Completion limit, for length shaping.
            judges: Settings of the judges, with ``judging``.
            judging: Judges of answers; the offline one alone if None.

        Raises:
            RewardError: a custom reward cannot be loaded.
        """
        self._values = config.reward
        self._judges = judges or JudgeConfig()
        self._judging = judging
        self._composer = Composer(config, max_new_tokens=max_new_tokens)

    def outcome(self, record: HaluEvalRecord, text: str, *, template: bool = False) -> Outcome:
        """The task's outcome for one completion, by rule or by the offline judge.

        Args:
            record: The item.
            text: The completion.
            template: Does its group decline in these words in unison?
        """
        if record.task is Task.DETECT:
            return self._detection(record, text)
        answer = self._offline(Question(record, text))
        verdict = answer.verdict if isinstance(answer, Opinion) else None
        if self._declines(record, text, verdict, template=template):
            return self._evades(record)
        return self._of(record, answer, local.NAME)

    def _declines(
        self, record: HaluEvalRecord, text: str, verdict: Verdict | None, *, template: bool
    ) -> bool:
        """Does it decline, where the offline judge finds no right answer in it?"""
        if verdict is Verdict.RIGHT:
            return False
        if verdict is Verdict.WRONG:
            # "Not enough information. Paris." holds a phrase, and is an answer.
            return template or only_declines(text, record.context)
        return template or is_evasive(text, record.context, record.query)

    def _templates(self, record: HaluEvalRecord, texts: Sequence[str]) -> list[bool]:
        if record.task is Task.DETECT:
            return [False] * len(texts)
        return group_templates(texts, source=record.context)

    def _offline(self, question: Question) -> Opinion | Failure:
        return local.offline(question, self._values.threshold)

    def _of(self, record: HaluEvalRecord, answer: Opinion | Failure, scorer: str) -> Outcome:
        """What a scorer's answer earns."""
        if isinstance(answer, Failure):
            no_opinion = answer.cause is Cause.NO_OPINION
            why = answer.detail if no_opinion else str(answer)
            return Outcome(None, UNJUDGED if no_opinion else FAILED, scorer, failure=why)
        value, verdict = {
            Verdict.RIGHT: (self._values.grounded, "grounded"),
            Verdict.ABSTAINS: (self._declined(record), "abstains"),
            Verdict.WRONG: (self._values.hallucinated, "hallucinated"),
        }[answer.verdict]
        return Outcome(value, verdict, scorer, note=answer.reason)

    def _declined(self, record: HaluEvalRecord) -> float:
        general = record.subset == "general"
        return self._values.general_evasion if general else self._values.abstains

    def _evades(self, record: HaluEvalRecord) -> Outcome:
        return Outcome(self._declined(record), "evades", "template_detector")

    def _settled(self, record: HaluEvalRecord, texts: Sequence[str]) -> list[Outcome | None]:
        templates = self._templates(record, texts)
        return [self.settle(record, x, template=t) for x, t in zip(texts, templates, strict=True)]

    def settle(
        self, record: HaluEvalRecord, text: str, *, template: bool = False
    ) -> Outcome | None:
        """What needs no judge: no answer at all, a known text, or an evasion that names nothing."""
        if record.task is Task.DETECT:
            return self._detection(record, text)
        judged = heuristic.judge(record, text, threshold=self._values.threshold)
        verdict = None if judged.verdict is None else local.VERDICTS[judged.verdict]
        if self._declines(record, text, verdict, template=template):
            return self._evades(record)
        exact = judged.reason in heuristic.EXACT and self._judges.exact_match
        if exact or judged.reason in heuristic.NO_ANSWER:
            right = judged.verdict is heuristic.Verdict.GROUNDED
            value = self._values.grounded if right else self._values.hallucinated
            name = "grounded" if right else "hallucinated"
            return Outcome(value, name, "rule", note=judged.reason)
        return None

    def emptied(self, record: HaluEvalRecord, text: str) -> Outcome:
        """Of an answer that all looks like an attempt to sway the judge, so that none is asked.

        The guard may be wrong: unless the answer is false by the offline judge too, it is left
        unscored.
        """
        answer = self._offline(Question(record, text))
        if isinstance(answer, Opinion) and answer.verdict is Verdict.WRONG:
            return Outcome(self._values.hallucinated, "hallucinated", "rule", note="no answer")
        return Outcome(None, FAILED, "guard", failure="the guard left nothing to be judged")

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

    def begin(self, group: RolloutGroup) -> Scoring:
        """Start scoring a group; calling the result waits for its judges, where there are any.

        Raises:
            RewardError: no HaluEval group, or (when called) an item without gold or a custom reward
                that failed.
        """
        record = group.prompt.record
        if not isinstance(record, HaluEvalRecord):
            raise RewardError(
                f"the hallucination reward cannot score {record.record_id}: no HaluEval record"
            )
        if self._judging is None:
            outcomes = partial(self._by_rule, record, group)
        else:
            texts = (record.context, record.query, record.accepted, record.rejected)
            outcomes = judging.begin(
                group,
                self._judging,
                sources=[text or "" for text in texts],
                limit=self._judges.max_completion_chars,
                settle=partial(self._settled, record),
                empty=partial(self.emptied, record),
                value=partial(self._of, record),
                offline=self._offline,
            )
        return lambda: self._composer.scores(group, self._contrasted(record, group, outcomes()))

    def _contrasted(
        self, record: HaluEvalRecord, group: RolloutGroup, outcomes: Sequence[Outcome]
    ) -> list[Outcome]:
        return [
            contrasted(record, rollout.text, outcome, weight=self._values.contrast)
            for rollout, outcome in zip(group.rollouts, outcomes, strict=True)
        ]

    def _by_rule(self, record: HaluEvalRecord, group: RolloutGroup) -> list[Outcome]:
        texts = [rollout.text for rollout in group.rollouts]
        templates = self._templates(record, texts)
        return [self.outcome(record, x, template=t) for x, t in zip(texts, templates, strict=True)]

    def score(self, group: RolloutGroup) -> tuple[Score, ...]:
        """One score per rollout; see ``begin``."""
        return self.begin(group)()
