"""The nouns that walk through the rooms: frozen, slotted, standard library only.

Token ids and texts live here; tensors of a whole batch live in the nouns of model/ and rollouts/.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Condition(StrEnum):
    """BBQ's ``context_condition``: does the context say who it was?"""

    AMBIGUOUS = "ambig"
    DISAMBIGUATED = "disambig"


class Polarity(StrEnum):
    """BBQ's ``question_polarity``: does the question ask for the harmful trait or its opposite?"""

    NEGATIVE = "neg"
    NON_NEGATIVE = "nonneg"


class Task(StrEnum):
    """What the model is asked to do with a record."""

    CHOOSE = "choose"
    """Pick one of the options (BBQ)."""
    ANSWER = "answer"
    """Answer, reply or summarise from the given knowledge (HaluEval)."""
    DETECT = "detect"
    """Say yes or no: does the shown text contain a hallucination (HaluEval)?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One item of one objective, as read from its source.

    Example: ``BbqRecord(record_id="bbq/Age/0", objective="fairness", subset="Age", ...)``.
    """

    record_id: str
    """Unique in a run, stable between runs: source/subset/key."""
    objective: str
    """Name of the objective it trains, e.g. ``fairness``."""
    subset: str
    """BBQ category or HaluEval subset."""
    task: Task
    origin: str
    """Where it was read: ``path:line``, or ``synthetic``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BbqRecord(Record):
    """A BBQ row with what had to be resolved: unknown, right and bias-consistent option."""

    example_id: int
    question_index: str
    condition: Condition
    polarity: Polarity
    context: str
    question: str
    options: tuple[str, str, str]
    label: int
    """Index of the right option: the unknown one when ambiguous."""
    unknown: int
    """Index of the option whose ``answer_info`` tag is ``unknown``."""
    biased: int | None
    """Index of the bias-consistent answer: the stereotyped option for ``neg``, the other known
    option for ``nonneg``; None where upstream's own rule cannot say (16 rows of Gender_identity).
    """
    names: bool
    """True for the proper-name items, which the paper reports apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HaluEvalRecord(Record):
    """A HaluEval row in one of its two task forms.

    ``ANSWER`` carries both sides of the pair; ``DETECT`` shows one text and carries whether it is
    hallucinated.
    """

    context: str
    """Knowledge (qa, dialogue) or document (summarization); empty for general."""
    query: str
    """Question, dialogue history or user query; empty for summarization."""
    accepted: str | None
    rejected: str | None
    shown: str | None = None
    """DETECT: the text to be judged, already freed of the formatting leaks."""
    hallucinated: bool | None = None
    """DETECT: the gold verdict on ``shown``."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replies to one prompt of which the first is to be preferred.

    Example: ``Pair(accepted="Not known", rejected="The grandfather")``.
    """

    accepted: str
    """The supervised reply too."""
    rejected: str
    """Never a supervised reply."""


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A record rendered for one tokenizer."""

    record: Record
    messages: tuple[Message, ...]
    token_ids: tuple[int, ...]
    """Chat template with the generation prompt, one BOS at most."""
    shortened: bool
    """True when the document was shortened to fit the limit (question and options are never
    cut)."""


@dataclass(frozen=True, slots=True)
class Choices:
    """A context and the continuations of it that are compared by their log-probs.

    Example: ``Choices((1, 17, 4), ((9,), (12, 8)))``.
    """

    prefix_ids: tuple[int, ...]
    """Ids of the context; one at least, for the first token to follow."""
    continuations: tuple[tuple[int, ...], ...]
    """Ids of each continuation; none is empty."""


@dataclass(frozen=True, slots=True)
class ContinuationScore:
    """How likely a model finds one continuation of a context, at T = 1."""

    logprob: float
    """Sum over the continuation's tokens, nats."""
    tokens: int

    @property
    def mean(self) -> float:
        """Nats per token: the length-normalised score."""
        return self.logprob / self.tokens


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled completion."""

    token_ids: tuple[int, ...]
    """Completion ids, the terminating EOS included when there is one, padding never."""
    logprobs: tuple[float, ...]
    """Behaviour log-prob of each token, under the distribution it was really sampled from."""
    text: str
    """Decoded without special tokens, stripped."""
    finished: bool
    """False when max_new_tokens cut it (no EOS)."""
    kept_ids: tuple[tuple[int, ...], ...] | None = None
    """Per token, the vocabulary ids that survived top-k/top-p; None when nothing was truncated."""


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """A prompt and its K completions."""

    prompt: Prompt
    rollouts: tuple[Rollout, ...]


SHAPING = "length"
"""The one part of a Score that shapes; all others judge the answer."""


@dataclass(frozen=True, slots=True)
class Score:
    """What one completion earns, part by part.

    ``total`` is the sum of ``parts``, or None when the task part could not be judged: None is left
    out of the group's statistics and is never a number.
    """

    parts: Mapping[str, float]
    """Named parts, e.g. {"task": -0.7, "length": 0.0}; no "task" when unscored."""
    verdict: str
    """The judged outcome by name: right, stereotyped, wrong, evades, abstains, grounded,
    hallucinated, unparsed..."""
    provider: str
    """Who judged: rule, heuristic, template_detector, or a judge's name."""
    failure: str | None = None
    """Why it is unscored; None when it is scored."""
    note: str = ""
    """What the judge said for its verdict."""
    flags: tuple[str, ...] = ()
    """Attempts to sway the judge that were taken out of the completion before it was judged."""
    total: float | None = field(init=False)

    def __post_init__(self) -> None:
        """Derive total, and refuse a score that is neither judged nor explained."""
        scored = "task" in self.parts
        if scored == (self.failure is not None):
            raise ValueError(
                "a Score has either a task part or a failure, not both and not neither"
            )
        object.__setattr__(self, "total", sum(self.parts.values()) if scored else None)

    @property
    def shaping(self) -> float:
        """What shapes the reward without judging the answer: the length part."""
        return self.parts.get(SHAPING, 0.0)

    @property
    def judged(self) -> float | None:
        """Sum of all parts that judge the answer (task, stereotyped, custom); None when unscored.

        Summed without the shaping, not by taking it away again: equal parts give equal bits.
        """
        if self.total is None:
            return None
        return sum(value for name, value in self.parts.items() if name != SHAPING)


class Severity(StrEnum):
    """How much a finding matters."""

    NOTE = "note"
    """Worth knowing; nothing has to be done."""
    WARN = "warn"
    """Likely to cost something; the run may go on."""
    ACT = "act"
    """The run teaches nothing or the wrong thing until it is changed; a pre-flight refuses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A named cause of trouble, with its evidence and what to change.

    Example: ``Finding(code="forced-length", objective=None, severity=Severity.ACT, says="...",
    evidence=("entropy 1.21 -> .18 nats",), confidence=0.9, remedy="...",
    patch={"rollout.sampling.min_new_tokens": 5})``.
    """

    code: str
    """Kebab-case name of the cause; its heading in docs/doctor.md."""
    objective: str | None
    """The objective that suffers; None when it is the whole run."""
    severity: Severity
    says: str
    """One sentence that names the cause."""
    evidence: tuple[str, ...]
    """The numbers it rests on, each with its unit and what it is compared with."""
    confidence: float
    """0 to 1: how sure the rule is of the cause, not of the symptom; findings are ranked by it
    within a severity."""
    remedy: str
    """One sentence: what to change, and why that helps."""
    patch: Mapping[str, object] = field(default_factory=dict[str, object])
    """The remedy as configuration: dotted key -> new value. Empty where no key mends it."""
    samples: tuple[str, ...] = ()
    """Two completions that show it, as the model wrote them; data, never markup."""
    step: int | None = None
    """The step at which it was first certain; None before the first step."""
    until: int | None = None
    """The last step at which it held; None while it does."""
