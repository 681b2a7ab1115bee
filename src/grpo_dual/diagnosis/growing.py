"""A history that grows with its run, so that its files need not be read again at every step."""

from collections.abc import Mapping

from grpo_dual.diagnosis.history import History, Sample, Value


class Growing:
    """Collects what a run measures; ``history`` is what is known so far."""

    def __init__(self, begun: History) -> None:
        """Go on behind what ``begun`` holds."""
        self._begun = begun
        self._steps = list(begun.steps)
        self._columns: dict[str, list[Value]] = {k: list(v) for k, v in begun.columns.items()}
        self._samples = list(begun.samples)
        self._evaluations = dict(begun.evaluations)
        self._baseline = dict(begun.baseline)

    def add_step(self, numbers: Mapping[str, Value]) -> None:
        """One row of metrics, ``step`` among them; what it leaves out is missing."""
        before = len(self._steps)
        self._steps.append(int(numbers["step"] or 0))
        for key in (*self._columns, *(k for k in numbers if k not in self._columns)):
            if key != "step":
                self._columns.setdefault(key, [None] * before).append(numbers.get(key))

    def add_sample(self, sample: Sample) -> None:
        """A completion that was written down."""
        self._samples.append(sample)

    def add_evaluation(self, step: int, result: Mapping[str, Mapping[str, object]]) -> None:
        """The held-out yardstick behind a step."""
        self._evaluations[step] = result

    def set_baseline(self, baseline: Mapping[str, float]) -> None:
        """H0 by objective."""
        self._baseline = dict(baseline)

    @property
    def history(self) -> History:
        """As it is now."""
        return History(
            objectives=self._begun.objectives,
            steps=tuple(self._steps),
            columns={key: tuple(values) for key, values in self._columns.items()},
            config=self._begun.config,
            evaluations=dict(self._evaluations),
            samples=tuple(self._samples),
            baseline=dict(self._baseline),
        )


def baseline_of(result: Mapping[str, Mapping[str, object]]) -> dict[str, float]:
    """H0 by objective: the entropy that the frozen probe measured at step 0."""
    found: dict[str, float] = {}
    for name, own in result.items():
        entropy = own.get("entropy")
        if isinstance(entropy, int | float):
            found[name] = float(entropy)
    return found
