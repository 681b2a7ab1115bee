"""Downloads both data sets into a cache: resumed, retried, verified, never half a file in place.

A file is written beside its place as ``<name>.part``; only when its git blob id is upstream's it is
renamed. What is already there and right is not fetched again.
"""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import urlsplit

from grpo_dual.config.places import cache_dir
from grpo_dual.errors import DataError, DownloadError
from grpo_dual.records.upstream import FILES, DataSet, UpstreamFile

BASE_URL = "https://raw.githubusercontent.com"
ATTEMPTS = 5
"""Tries of one file before it is given up."""
_TIMEOUT_S = 30.0
_CHUNK = 1 << 16
_LONGEST_WAIT_S = 60.0


class Progress(Protocol):
    """Told how a file comes along."""

    def __call__(self, file: UpstreamFile, done: int, total: int | None) -> None:
        """Bytes there so far, and of how many when the server says so."""
        ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """What happened to one file."""

    file: UpstreamFile
    path: Path
    outcome: str
    """``fetched``, ``already there``, or ``replaced`` (what was there was not upstream's)."""
    size: int
    """Bytes."""


class _TransientError(Exception):
    """Worth another try: the network, a server's bad moment, a body cut short."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def cached(dataset: DataSet) -> Path:
    """Folder with a downloaded data set, as ``path: cache`` in a configuration means it.

    Raises:
        DataError: files are missing; the text says how to get them.
    """
    folder = cache_dir()
    missing = [
        file.name
        for file in FILES
        if file.dataset == dataset and not (folder / file.name).is_file()
    ]
    if missing:
        raise DataError(
            f"{dataset} is not in the cache {folder}: missing {', '.join(missing[:3])}"
            f"{' and more' if len(missing) > 3 else ''}. Run `grpo-dual data fetch`, or set "
            "`data.path` to your own copy or to `synthetic`."
        )
    return folder / dataset


def blob_id(path: Path) -> str:
    """Git's id of a file's content: sha1 of ``blob <size>``, a NUL byte and the bytes.

    Raises:
        DownloadError: the file cannot be read.
    """
    try:
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise _disk(path, error) from error
    return digest.hexdigest()


def fetch(
    files: Iterable[UpstreamFile] = FILES,
    *,
    folder: Path | None = None,
    base_url: str = BASE_URL,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Fetched]:
    """Downloads files that are not there yet, or not upstream's.

    Args:
        files: which ones.
        folder: where to; the cache by default. Files lie in ``bbq/`` and ``halueval/`` in it.
        base_url: host of the raw files.
        progress: called while bytes arrive.
        tell: called with a sentence for everything out of the ordinary: a wrong file that is
            replaced, a retry.
        sleep: waits between tries; replaced in tests.

    Returns:
        What happened to each file, in order.

    Raises:
        DownloadError: names the file and address and what to do. Files finished before it stay.
    """
    if not _is_web_address(base_url):
        raise DownloadError(f"`{base_url}` is no http or https address to download from.")
    into = folder or cache_dir()
    told = tell or _silent
    done: list[Fetched] = []
    for file in files:
        path = into / file.name
        outcome = "fetched"
        if path.exists():
            if path.is_file() and blob_id(path) == file.blob:
                done.append(Fetched(file, path, "already there", path.stat().st_size))
                continue
            told(f"{path} is not upstream's file (its blob id differs); it is fetched anew.")
            outcome = "replaced"
        _fetch_one(file, path, file.address(base_url), progress, told, sleep)
        done.append(Fetched(file, path, outcome, path.stat().st_size))
    return done


def _is_web_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a malformed host or port
        return False


def _fetch_one(
    file: UpstreamFile,
    path: Path,
    address: str,
    progress: Progress | None,
    tell: Callable[[str], None],
    sleep: Callable[[float], None],
) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _disk(part.parent, error) from error
    strangers = 0
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _receive(file, part, address, progress)
            got = blob_id(part)
            if got == file.blob:
                break
            strangers += 1
            _remove(part)  # perhaps the rest of a file to the beginning of another: from the start
            if strangers == 2:
                raise DownloadError(
                    f"{address}: arrives whole, twice, but is not upstream's file: its blob id is "
                    f"{got} instead of {file.blob}. A proxy or mirror may have changed it; nothing "
                    "was put in its place."
                )
            raise _TransientError(f"blob id is {got} instead of {file.blob}")
        except _TransientError as error:
            if attempt == ATTEMPTS:
                raise DownloadError(
                    f"{address}: given up after {ATTEMPTS} tries: {error}. Check the network and "
                    "run `grpo-dual data fetch` again; it goes on from what has arrived."
                ) from error
            wait = min(_LONGEST_WAIT_S, error.wait_s or 0.5 * 2.0 ** (attempt - 1))
            tell(f"{file.name}: {error}; trying again in {wait:g} s.")
            sleep(wait)
    try:
        part.replace(path)
    except OSError as error:
        raise _disk(path, error) from error


def _receive(file: UpstreamFile, part: Path, address: str, progress: Progress | None) -> None:
    """Brings ``part`` to its full length, going on from what it has."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address, headers={"User-Agent": "grpo-dual"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = cast(
            "http.client.HTTPResponse", urllib.request.urlopen(request, timeout=_TIMEOUT_S)
        )
    except urllib.error.HTTPError as error:
        with error:
            _status(error, address, resuming=have > 0)
        return
    except (OSError, http.client.HTTPException) as error:
        raise _TransientError(f"no answer ({_reason(error)})") from error
    with response:
        resumed = response.status == 206 and _starts_at(response, have)
        if response.status == 206 and not resumed:
            _remove(part)
            raise _TransientError("the server sent another range than the one asked for")
        have = have if resumed else 0
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        try:
            stream = part.open("ab" if resumed else "wb")
        except OSError as error:
            raise _disk(part, error) from error
        with stream:
            while chunk := _read(response):
                try:
                    stream.write(chunk)
                    stream.flush()
                except OSError as error:
                    raise _disk(part, error) from error
                have += len(chunk)
                if progress:
                    progress(file, have, total)
    if total is not None and have < total:
        raise _TransientError(f"the answer ended after {have} of {total} bytes")


def _status(error: urllib.error.HTTPError, address: str, *, resuming: bool) -> None:
    """An answer that is no file: try again, take the part as whole (416), or give up."""
    if error.code == 416 and resuming:
        return  # nothing beyond what is there: the blob id decides
    if error.code in (408, 425, 429) or error.code >= 500:
        after = error.headers.get("Retry-After", "")
        raise _TransientError(
            f"the server answers {error.code} {error.reason}",
            float(after) if after.isdigit() else None,
        )
    raise DownloadError(
        f"{address}: the server answers {error.code} {error.reason}. Check the address and "
        "--base-url; nothing was written in place of the file."
    )


def _starts_at(response: http.client.HTTPResponse, offset: int) -> bool:
    return response.headers.get("Content-Range", "").strip().startswith(f"bytes {offset}-")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _TransientError(f"the connection broke ({_reason(error)})") from error


def _remove(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError as error:
        raise _disk(part, error) from error


def _reason(error: Exception) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(inner) or type(inner).__name__


def _disk(path: Path, error: OSError) -> DownloadError:
    return DownloadError(
        f"{path}: cannot be written or read ({error.strerror or error}). Free space or mend the "
        "permissions, or choose another folder with --out or GRPO_DUAL_CACHE."
    )


def _silent(_: str) -> None:
    """Says nothing."""
