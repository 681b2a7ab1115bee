"""The offline lexical judge as a ``Judge``: the last resort of every route, and a choice itself."""

from grpo_dual.judges import heuristic
from grpo_dual.judges.client import Cause, Failure, Opinion, Question, Verdict
from grpo_dual.types import BbqRecord, HaluEvalRecord

NAME = "heuristic"
VERDICTS = {
    heuristic.Verdict.GROUNDED: Verdict.RIGHT,
    heuristic.Verdict.ABSTAINS: Verdict.ABSTAINS,
    heuristic.Verdict.HALLUCINATED: Verdict.WRONG,
}
"""The heuristic's verdicts on the scale of all judges."""


def offline(question: Question, threshold: float) -> Opinion | Failure:
    """The heuristic's opinion.

    Of BBQ it is only asked what names no option; by the reward table that is wrong.
    """
    record = question.record
    if isinstance(record, BbqRecord):
        return Opinion(Verdict.WRONG, 1.0, "names no option")
    if not isinstance(record, HaluEvalRecord):
        return Failure(NAME, Cause.NO_OPINION, 0, f"no rule for a {type(record).__name__}")
    judged = heuristic.judge(record, question.completion, threshold=threshold)
    if judged.verdict is None:
        return Failure(NAME, Cause.NO_OPINION, 0, judged.reason)
    return Opinion(VERDICTS[judged.verdict], 1.0, judged.reason)


class HeuristicJudge:
    """See Judge; nothing is sent and nothing can fail."""

    def __init__(self, name: str, threshold: float) -> None:
        """``threshold``: composite score from which an answer is right."""
        self.name = name
        self._threshold = threshold

    def key(self, question: Question) -> None:
        """See Judge: faster than a cache."""
        del question

    async def judge(self, question: Question) -> Opinion | Failure:
        """See Judge."""
        return offline(question, self._threshold)

    async def close(self) -> None:
        """See Judge."""
