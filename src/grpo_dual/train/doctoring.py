"""The doctor beside the loop: looks after every step, says what is new, and may prescribe."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from grpo_dual.config.doctoring import DoctorConfig
from grpo_dual.diagnosis.doctor import Watch, explanation
from grpo_dual.diagnosis.growing import Growing, baseline_of
from grpo_dual.diagnosis.history import History, Sample, Value
from grpo_dual.diagnosis.journal import append, before_the_run, cut
from grpo_dual.diagnosis.page import paragraph, tree_text
from grpo_dual.diagnosis.reading import read_run
from grpo_dual.diagnosis.remedies import Prescription, prescribe
from grpo_dual.diagnosis.tree import STEP, ask
from grpo_dual.train.acts import tried
from grpo_dual.types import Severity

Tell = Callable[[str], None]


class Doctor:
    """Of one run; with mode ``off`` it does nothing."""

    def __init__(self, config: DoctorConfig, folder: Path, tell: Tell) -> None:
        """Read what the run folder holds so far; findings behind its last row are dropped.

        Args:
            config: The run's.
            folder: Its folder, cut back to the checkpoint it goes on from.
            tell: Hears of new causes.
        """
        self._config = config
        self._folder = folder
        self._tell = tell
        self._growing = Growing(History((), (), {}))
        self._watch = Watch()
        if not self.watches:
            return
        begun = read_run(folder)
        cut(folder, begun.steps[-1] if begun.steps else 0)
        self._growing = Growing(begun)
        self._watch = Watch(before_the_run(folder))
        for step in begun.steps:
            self._watch.see(begun.until(step))

    @property
    def watches(self) -> bool:
        """Does it look at all?"""
        return self._config.mode != "off"

    def note_sample(self, step: int, sample: Mapping[str, object]) -> None:
        """A completion that was written down."""
        total = sample["total"]
        self._growing.add_sample(
            Sample(
                step=step,
                objective=str(sample["objective"]),
                prompt=str(sample["prompt"]),
                completion=str(sample["completion"]),
                verdict=str(sample["verdict"]),
                total=float(total) if isinstance(total, int | float) else None,
            )
        )

    def note_evaluation(self, step: int, result: Mapping[str, Mapping[str, object]]) -> None:
        """The held-out yardstick behind a step."""
        self._growing.add_evaluation(step, result)

    def note_probe(self, step: int, result: Mapping[str, Mapping[str, object]]) -> None:
        """The frozen probe behind a step."""
        if step == 0:
            self._growing.set_baseline(baseline_of(result))

    def look(self, numbers: Mapping[str, Value]) -> None:
        """Behind a step, whose completions have been noted.

        Args:
            numbers: Its row.

        Raises:
            CheckpointError: Findings cannot be written.
        """
        if not self.watches:
            return
        self._growing.add_step(numbers)
        history = self._growing.history
        fresh = self._watch.see(history)
        append(self._folder, fresh, "run")
        everything = self._watch.diagnosis.findings
        for found in fresh:
            if found.severity is not Severity.NOTE and explanation(found, everything) is None:
                self._tell(paragraph(found))
        if history.steps[-1] == STEP and (tree := ask(history, self._config.tree)) is not None:
            self._tell(tree_text(tree))

    def prescribe(self, step: int, checkpoints: Sequence[int]) -> Prescription | None:
        """The remedy to apply behind ``step``, if the doctor may act and has one.

        Args:
            step: Steps done.
            checkpoints: Steps of the checkpoints there are.
        """
        if self._config.mode != "act":
            return None
        done = tried(self._folder)
        if len(done) >= self._config.max_acts:
            return None
        return prescribe(
            self._watch.diagnosis.findings,
            allowed=self._config.allow,
            step=step,
            checkpoints=checkpoints,
            tried=done,
        )
