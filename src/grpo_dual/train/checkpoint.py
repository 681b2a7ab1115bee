"""Checkpoints: whole or absent, safetensors and JSON only, damage named.

A checkpoint is a folder ``step-00000050`` with ``tensors.safetensors``, ``state.json``, an optional
``adapter/`` (loadable by ``PeftModel.from_pretrained``) and ``manifest.json`` with the SHA-256 of
each file. It is written as a hidden sibling, forced to the disk and renamed, so a reader never sees
half of one; ``torch.save`` is never used and a pickled file is refused, since unpickling runs code.
"""

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from grpo_dual.errors import CheckpointError
from grpo_dual.metrics.files import write_atomically

TENSORS = "tensors.safetensors"
STATE = "state.json"
MANIFEST = "manifest.json"
ADAPTER = "adapter"
BEST = "best.json"
FORMAT = 1

_PICKLED = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
_PREFIX = "step-"


class Checkpoints:
    """The checkpoints of one run: the last few and the best."""

    def __init__(self, folder: Path, keep_last: int = 2, *, keep_first: bool = False) -> None:
        """Nothing is written before the first save.

        Args:
            folder: Holds one folder per checkpoint.
            keep_last: How many of the newest stay, the best one apart; at least 1.
            keep_first: The one of step 0 stays too: a doctor may go back to it.
        """
        if keep_last < 1:
            raise ValueError("keep_last must be at least 1")
        self.folder = folder
        self.keep_last = keep_last
        self._keep_first = keep_first

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is, or would be."""
        return self.folder / f"{_PREFIX}{step:08d}"

    def steps(self) -> list[int]:
        """Steps of all checkpoints, ascending."""
        names = (p.name.removeprefix(_PREFIX) for p in self.folder.glob(f"{_PREFIX}*"))
        return sorted(int(name) for name in names if name.isdecimal())

    def latest(self) -> Path | None:
        """The newest checkpoint, whole or damaged (``load`` tells); None when there is none."""
        steps = self.steps()
        return self.path(steps[-1]) if steps else None

    def save(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        state: Mapping[str, object],
        adapter_writer: Callable[[Path], None] | None = None,
    ) -> Path:
        """Write the checkpoint of a step, then remove the ones no longer kept.

        Args:
            step: Steps done.
            tensors: Any device and dtype; copied to the CPU.
            state: JSON-able, without NaN; floats come back to the same double, tuples as lists, and
                keys in their order as strings.
            adapter_writer: Called with the folder in which to write the adapter.

        Returns:
            The checkpoint's folder.

        Raises:
            CheckpointError: The file system refuses, or the adapter was written as a pickle. The
                checkpoints that were there before are untouched.
            TypeError, ValueError: ``state`` cannot be JSON; nothing is written.
        """
        document = _json(state)
        target = self.path(step)
        # A random name, so that what a killed run left behind is never mistaken for our own.
        part = self.folder / f".{target.name}.{uuid.uuid4().hex}.part"
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._clear()
            try:
                part.mkdir()
                _fill(part, step, tensors, document, adapter_writer)
                _put(part, target)
                _sync(self.folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            self._clear()
            self._prune(step)
        return target

    def load(self, path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Read a checkpoint, checksums first.

        Returns:
            Tensors on the CPU, and the state.

        Raises:
            CheckpointError: It is incomplete, damaged or holds a pickle; the text names the file at
                fault and the newest earlier checkpoint that is whole.
        """
        try:
            verify(path)
            tensors = load_file(path / TENSORS)
            state = json.loads((path / STATE).read_text(encoding="utf-8"))
        except CheckpointError as error:
            raise CheckpointError(f"{error} {self._way_out(path)}") from error
        except (OSError, ValueError, SafetensorError) as error:
            raise CheckpointError(
                f"{path}: cannot be read ({error}). {self._way_out(path)}"
            ) from error
        return tensors, cast("dict[str, object]", state)

    def mark_best(self, step: int, score: float) -> bool:
        """Remember the checkpoint of ``step`` as the best if ``score`` beats the best so far.

        The best one is never removed. Equal scores keep the earlier one; NaN never wins.

        Returns:
            Whether it is the best now.

        Raises:
            CheckpointError: There is no such checkpoint, or the file system refuses.
        """
        if not self.path(step).is_dir():
            raise CheckpointError(
                f"{self.path(step)}: there is no such checkpoint; save it before it is marked best."
            )
        best = self.best()
        if score != score or (best is not None and best[1] >= score):
            return False
        content = json.dumps({"step": step, "score": score}) + "\n"
        write_atomically(self.folder / BEST, content.encode())
        return True

    def best(self) -> tuple[int, float] | None:
        """Step and score of the best checkpoint; None when none was marked or it is gone.

        Raises:
            CheckpointError: best.json is damaged.
        """
        path = self.folder / BEST
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            step, score = int(found["step"]), float(found["score"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}: cannot be read ({error}). Delete it; the next evaluation writes it anew."
            ) from error
        return (step, score) if self.path(step).is_dir() else None

    def _prune(self, newest: int) -> None:
        """Remove all but the last N up to the one just saved, the best, and the first if asked.

        Later ones (the run was resumed from before them) stay until they are written anew.
        """
        earlier = [step for step in self.steps() if step <= newest]
        best = self.best()
        for step in earlier[: -self.keep_last]:
            first = self._keep_first and step == 0
            if not first and (best is None or step != best[0]):
                _remove(self.path(step))

    def _clear(self) -> None:
        """Tidy up after a killed run: put back what it was replacing, remove what is half there."""
        for old in self.folder.glob(f".{_PREFIX}*.replaced"):
            target = self.folder / old.name.split(".")[1]
            if not target.exists():
                old.rename(target)
        for pattern in ("part", "replaced", "removed"):
            for left in self.folder.glob(f".{_PREFIX}*.{pattern}"):
                shutil.rmtree(left)

    def _way_out(self, path: Path) -> str:
        for step in reversed(self.steps()):
            earlier = self.path(step)
            if earlier.name < path.name:
                with contextlib.suppress(CheckpointError):
                    verify(earlier)
                    return (
                        f"The one before, {earlier}, is whole: delete {path.name} to resume there."
                    )
        return "No earlier checkpoint is whole: start the run again."


def verify(path: Path) -> None:
    """Check a checkpoint's files against its manifest.

    Raises:
        CheckpointError: A file is missing, changed or a pickle; the text names it.
    """
    _refuse_pickles(path)
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version, files = manifest["format"], dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / MANIFEST}: cannot be read ({error}).") from error
    if version != FORMAT:
        raise CheckpointError(f"{path}: has format {version}; this version reads format {FORMAT}.")
    for name in (TENSORS, STATE):
        if name not in files:
            raise CheckpointError(f"{path / MANIFEST}: does not list {name}.")
    for name, checksum in files.items():
        try:
            found = _checksum(path / name)
        except OSError as error:
            raise CheckpointError(f"{path / name}: {error.strerror or error}.") from error
        if found != checksum:
            raise CheckpointError(f"{path / name}: is damaged (its SHA-256 is not the manifest's).")


def _fill(
    part: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    document: bytes,
    adapter_writer: Callable[[Path], None] | None,
) -> None:
    """Write all files of a checkpoint into an empty folder and force them to the disk."""
    # Copies: safetensors refuses tensors that share memory, and the run may go on meanwhile.
    copies = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    save_file(copies, part / TENSORS)
    (part / STATE).write_bytes(document)
    if adapter_writer is not None:
        (part / ADAPTER).mkdir()
        adapter_writer(part / ADAPTER)
    _refuse_pickles(part)
    files = sorted(p for p in part.rglob("*") if p.is_file())
    sums = {p.relative_to(part).as_posix(): _checksum(p) for p in files}
    (part / MANIFEST).write_bytes(_json({"format": FORMAT, "step": step, "files": sums}))
    for entry in sorted(part.rglob("*")):
        _sync(entry)
    _sync(part)


def _put(part: Path, target: Path) -> None:
    """Rename a finished folder into place; one of the same step is kept until that has worked."""
    old = part.with_suffix(".replaced")
    if target.exists():
        target.rename(old)
    try:
        part.rename(target)
    except OSError:
        with contextlib.suppress(OSError):  # Should this fail too, the next save puts it back.
            old.rename(target)
        raise


def _refuse_pickles(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _PICKLED:
            raise CheckpointError(
                f"{path}: may be a pickle, and reading one runs code. Checkpoints hold "
                "safetensors and JSON only; remove that file if you do not know where it is from."
            )


def _remove(path: Path) -> None:
    """Remove a checkpoint: hidden first, so that a kill leaves no half of it to be found."""
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex}.removed")
    path.rename(hidden)
    shutil.rmtree(hidden)


def _json(content: Mapping[str, object]) -> bytes:
    return (json.dumps(content, allow_nan=False, indent=1) + "\n").encode()


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _writing(folder: Path) -> Generator[None]:
    try:
        yield
    except CheckpointError:
        raise
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: the checkpoint cannot be written ({error}). Check that the folder belongs "
            "to you and has free space, or choose another one with --out; the checkpoints written "
            "before are untouched."
        ) from error
