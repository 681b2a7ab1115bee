import errno
import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from grpo_dual.cli.fetch import fetch as command
from grpo_dual.config.places import cache_dir
from grpo_dual.errors import DataError, DownloadError
from grpo_dual.records import download
from grpo_dual.records.download import blob_id, cached, fetch
from grpo_dual.records.upstream import FILES, UpstreamFile

BODY = bytes(range(256)) * 1200  # 307200 bytes: several chunks


def git_id(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


FILE = UpstreamFile("bbq", "owner", "repo", "c0ffee", "data/Age.jsonl", git_id(BODY))
NAME = "/owner/repo/c0ffee/data/Age.jsonl"


@dataclass
class Script:
    """What the loopback server answers, one entry a request (the last one again and again)."""

    answers: list[str] = field(default_factory=lambda: ["full"])
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    base: str = ""

    def next(self) -> str:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    script = Script()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            script.requests.append((self.path, asked))
            answer = script.next()
            if answer.isdigit():
                self.send_response(int(answer))
                if answer == "429":
                    self.send_header("Retry-After", "7")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(asked[6:-1]) if asked and answer != "ignores range" else 0
            if start >= len(BODY):
                self.send_error(416)
                return
            body = BODY[start:]
            self.send_response(206 if start else 200)
            if start:
                shown = 3 if answer == "other range" else start
                self.send_header("Content-Range", f"bytes {shown}-{len(BODY) - 1}/{len(BODY)}")
            if answer == "wrong":
                body = b"x" * len(body)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if answer == "truncated" else body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        script.base = f"http://127.0.0.1:{httpd.server_address[1]}"
        yield script
        httpd.shutdown()
        thread.join(10)
        assert not thread.is_alive()


@dataclass
class Run:
    told: list[str]
    waits: list[float]
    seen: list[tuple[int, int | None]]
    outcomes: list[str]


def run(server: Script, folder: Path, file: UpstreamFile = FILE) -> Run:
    result = Run([], [], [], [])
    fetched = fetch(
        [file],
        folder=folder,
        base_url=server.base,
        progress=lambda _, done, total: result.seen.append((done, total)),
        tell=result.told.append,
        sleep=result.waits.append,
    )
    result.outcomes = [item.outcome for item in fetched]
    assert (folder / "bbq" / "Age.jsonl").read_bytes() == BODY
    assert not (folder / "bbq" / "Age.jsonl.part").exists()
    return result


def test_full(server: Script, tmp_path: Path) -> None:
    got = run(server, tmp_path)
    assert server.requests == [(NAME, None)]
    assert got.outcomes == ["fetched"]
    assert got.told == []
    assert got.seen[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in got.seen] == sorted(done for done, _ in got.seen)


def test_right_file_is_not_fetched_again_and_a_wrong_one_is(server: Script, tmp_path: Path) -> None:
    run(server, tmp_path)
    assert run(server, tmp_path).outcomes == ["already there"]
    assert len(server.requests) == 1
    place = tmp_path / "bbq" / "Age.jsonl"
    place.write_bytes(BODY + b"\n")
    got = run(server, tmp_path)
    assert got.outcomes == ["replaced"]
    assert str(place) in got.told[0]


def test_resume(server: Script, tmp_path: Path) -> None:
    (tmp_path / "bbq").mkdir()
    (tmp_path / "bbq" / "Age.jsonl.part").write_bytes(BODY[:1000])
    got = run(server, tmp_path)
    assert server.requests == [(NAME, "bytes=1000-")]
    assert got.seen[-1] == (len(BODY), len(BODY))


def test_resume_when_the_server_ignores_range(server: Script, tmp_path: Path) -> None:
    (tmp_path / "bbq").mkdir()
    (tmp_path / "bbq" / "Age.jsonl.part").write_bytes(BODY[:1000])
    server.answers = ["ignores range"]
    run(server, tmp_path)
    assert server.requests == [(NAME, "bytes=1000-")]


def test_resume_of_something_else_starts_anew(server: Script, tmp_path: Path) -> None:
    (tmp_path / "bbq").mkdir()
    (tmp_path / "bbq" / "Age.jsonl.part").write_bytes(b"z" * 1000)
    got = run(server, tmp_path)
    assert server.requests == [(NAME, "bytes=1000-"), (NAME, None)]
    assert "blob id" in got.told[0]


def test_part_is_already_whole(server: Script, tmp_path: Path) -> None:
    (tmp_path / "bbq").mkdir()
    (tmp_path / "bbq" / "Age.jsonl.part").write_bytes(BODY)
    assert run(server, tmp_path).told == []  # 416, and the blob id is right


def test_another_range_than_asked(server: Script, tmp_path: Path) -> None:
    (tmp_path / "bbq").mkdir()
    (tmp_path / "bbq" / "Age.jsonl.part").write_bytes(BODY[:1000])
    server.answers = ["other range", "full"]
    got = run(server, tmp_path)
    assert "another range" in got.told[0]
    assert server.requests[1] == (NAME, None)


def test_truncated_body_is_resumed(server: Script, tmp_path: Path) -> None:
    server.answers = ["truncated", "full"]
    got = run(server, tmp_path)
    half = len(BODY) // 2
    assert server.requests == [(NAME, None), (NAME, f"bytes={half}-")]
    assert f"{half} of {len(BODY)} bytes" in got.told[0]


def test_500_then_ok(server: Script, tmp_path: Path) -> None:
    server.answers = ["500", "503", "429", "full"]
    got = run(server, tmp_path)
    assert got.waits == [0.5, 1.0, 7.0]  # doubled each time; 429 says Retry-After: 7
    assert "500" in got.told[0]


def refused(server: Script, folder: Path) -> tuple[str, list[float]]:
    waits: list[float] = []
    with pytest.raises(DownloadError) as caught:
        fetch([FILE], folder=folder, base_url=server.base, sleep=waits.append)
    told = str(caught.value)
    assert "\n" not in told
    assert not (folder / "bbq" / "Age.jsonl").exists()
    return told, waits


def test_given_up_after_five_tries(server: Script, tmp_path: Path) -> None:
    server.answers = ["502"]
    told, waits = refused(server, tmp_path)
    assert waits == [0.5, 1.0, 2.0, 4.0]
    assert "502" in told
    assert NAME in told


def test_404_is_not_tried_again(server: Script, tmp_path: Path) -> None:
    server.answers = ["404"]
    told, waits = refused(server, tmp_path)
    assert waits == []
    assert "404" in told
    assert f"{server.base}{NAME}" in told


def test_wrong_content(server: Script, tmp_path: Path) -> None:
    server.answers = ["wrong"]
    told, _ = refused(server, tmp_path)
    assert FILE.blob in told
    assert git_id(b"x" * len(BODY)) in told
    assert len(server.requests) == 2
    assert list((tmp_path / "bbq").iterdir()) == []


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    free = Script(base="http://127.0.0.1:9")  # the discard port: refused at once
    told, _ = refused(free, tmp_path)
    assert "no answer" in told


@pytest.mark.parametrize("base", ["file:///etc", "ftp://x", "", "http://", "http://a:b"])
def test_addresses_that_are_none(base: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="no http or https address"):
        fetch([FILE], folder=tmp_path, base_url=base)


def test_unwritable(server: Script, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x", encoding="utf-8")
    with pytest.raises(DownloadError, match="--out"):
        fetch([FILE], folder=blocked, base_url=server.base)
    (tmp_path / "bbq" / "Age.jsonl").mkdir(parents=True)
    with pytest.raises(DownloadError, match=re.escape("Age.jsonl")):
        fetch([FILE], folder=tmp_path, base_url=server.base)


def test_disk_full(server: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *args: object) -> None:
            pass

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    real = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode="r": Full() if self.suffix == ".part" else real(self, mode),
    )
    with pytest.raises(DownloadError, match="No space left on device"):
        fetch([FILE], folder=tmp_path, base_url=server.base)
    assert len(server.requests) == 1


def test_table_is_upstreams(shared_data: Path) -> None:
    text = (shared_data / "UPSTREAM.md").read_text(encoding="utf-8")
    rows = set(
        re.findall(
            r"^\| ([\w-]+)/([\w-]+) \| (\w{40}) \| (\S+) \| (\w{40}) \|$", text, re.MULTILINE
        )
    )
    ours = {(f.owner, f.repository, f.commit, f.path, f.blob) for f in FILES}
    assert ours <= rows
    # the one left out is a second copy of the metadata
    assert {row[3] for row in rows - ours} == {"supplemental/additional_metadata.csv"}
    by_name = {file.name: file for file in FILES}
    assert len(by_name) == len(FILES)
    for name in ("bbq/Disability_status.jsonl", "halueval/general_data.json"):  # byte-exact copies
        assert blob_id(shared_data / name) == by_name[name].blob


def test_address() -> None:
    assert FILES[1].address(download.BASE_URL + "/") == (
        "https://raw.githubusercontent.com/nyu-mll/BBQ/"
        "bea11bd97d79217245b5871acd247b9d6eb24598/data/Age.jsonl"
    )


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    monkeypatch.delenv("GRPO_DUAL_CACHE", raising=False)
    assert cache_dir() == tmp_path / "x" / "grpo-dual"
    monkeypatch.setenv("GRPO_DUAL_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("GRPO_DUAL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == Path.home() / ".cache" / "grpo-dual"


def test_cached_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRPO_DUAL_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="grpo-dual data fetch"):
        cached("bbq")
    for file in FILES:
        (tmp_path / file.name).parent.mkdir(exist_ok=True)
        (tmp_path / file.name).write_bytes(b"")
    assert cached("bbq") == tmp_path / "bbq"
    (tmp_path / "halueval" / "qa_data.json").unlink()
    with pytest.raises(DataError, match=re.escape("halueval/qa_data.json")):
        cached("halueval")


def test_command(
    server: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GRPO_DUAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "grpo_dual.cli.fetch.FILES",
        (FILE, replace(FILE, dataset="halueval", path="data/qa_data.json")),
    )
    server.answers = ["500", "full"]
    command(base_url=server.base, only="bbq")
    shown = capsys.readouterr().out
    assert "bbq/Age.jsonl" in shown
    assert "1 file verified" in shown
    assert not (tmp_path / "cache" / "halueval").exists()
    command(base_url=server.base, out=tmp_path / "mine")
    assert (tmp_path / "mine" / "halueval" / "qa_data.json").read_bytes() == BODY
