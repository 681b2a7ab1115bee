"""Verdicts on disk: shared, bounded, and refused when they cannot be trusted."""

import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from grpo_dual.errors import JudgeError
from grpo_dual.judges import cache as module
from grpo_dual.judges.cache import Entry, VerdictCache
from grpo_dual.judges.client import Opinion, Usage, Verdict


def entry(reason: str = "It is so.", **more: object) -> Entry:
    values: dict[str, object] = {
        "opinion": Opinion(Verdict.RIGHT, 0.75, reason),
        "judge": "one",
        "model": "judge-1-2026-01-01",
        "rubric": 1,
        "chars": 400,
        "usage": Usage(input=100, output=20),
        "usd": 0.5,
    }
    return Entry(**{**values, **more})  # pyright: ignore[reportArgumentType]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "judge" / "verdicts.sqlite"


class Clock:
    """One second later each time it is asked."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "time", clock)
    return clock


def kept(cache: VerdictCache, keys: str) -> str:
    return "".join(key for key in keys if cache.holds(key))


def test_a_verdict_comes_back_as_it_was(path: Path) -> None:
    with VerdictCache(path, max_entries=10) as cache:
        assert cache.get("a") is None
        cache.put("a", entry("Weil es so ist: \u00fc, \U0001f600."))
        assert cache.get("a") == Opinion(Verdict.RIGHT, 0.75, "Weil es so ist: \u00fc, \U0001f600.")
        assert cache.get("b") is None
        assert len(cache) == 1
    with VerdictCache(path, max_entries=10) as again:
        assert again.get("a") == Opinion(Verdict.RIGHT, 0.75, "Weil es so ist: \u00fc, \U0001f600.")


def test_the_first_verdict_stays(path: Path) -> None:
    with VerdictCache(path, max_entries=10) as cache:
        cache.put("a", entry("first"))
        cache.put("a", entry("second"))
        opinion = cache.get("a")
    assert opinion is not None
    assert opinion.reason == "first"


def test_the_longest_unused_go_first(path: Path, clock: Clock) -> None:
    del clock
    with VerdictCache(path, max_entries=3) as cache:
        for key in "abc":
            cache.put(key, entry())
        cache.get("a")  # used last, though it is the oldest
        # The size is looked at behind every third insertion.
        for key in "def":
            cache.put(key, entry())
        assert len(cache) == 3
        assert kept(cache, "abcdef") == "def"
        cache.get("d")
        for key in "gh":
            cache.put(key, entry())
        assert len(cache) == 5
        cache.put("i", entry())
        assert kept(cache, "abcdefghi") == "ghi"


def test_what_is_used_stays(path: Path, clock: Clock) -> None:
    del clock
    with VerdictCache(path, max_entries=4) as cache:
        for key in "abcd":
            cache.put(key, entry())
        for key in "efgh":
            cache.put(key, entry())
            cache.get("a")
        assert kept(cache, "abcdefgh") == "afgh"


def test_asking_whether_it_is_there_is_no_use(path: Path, clock: Clock) -> None:
    del clock
    with VerdictCache(path, max_entries=2) as cache:
        cache.put("a", entry())
        cache.put("b", entry())
        assert cache.holds("a")
        (before,) = cache.stats()
        assert before.hits == 0
        cache.put("c", entry())
        cache.put("d", entry())
        assert kept(cache, "abcd") == "cd"


def test_statistics_by_judge_model_and_rubric(path: Path, clock: Clock) -> None:
    del clock
    with VerdictCache(path, max_entries=10) as cache:
        cache.put("a", entry())
        cache.put("b", entry(usage=Usage(input=300, output=30)))
        cache.put("c", entry(judge="two", usd=None))
        cache.get("a")
        cache.get("a")
        one, two = cache.stats()
        assert (one.judge, one.entries, one.hits, one.tokens, one.usd) == ("one", 2, 2, 450, 1.0)
        assert (two.judge, two.entries, two.hits, two.usd) == ("two", 1, 0, None)
        assert one.oldest < one.newest
        # 400 tokens for 800 characters; 25 of a reply.
        assert cache.tokens_per_char("one", 1) == pytest.approx((0.5, 25, 2))
        assert cache.tokens_per_char("three", 1) is None
        assert cache.clear("two") == 1
        assert kept(cache, "abc") == "ab"
        assert cache.clear() == 2
        assert len(cache) == 0


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\7" * 4096]
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "verdicts.sqlite"
    path.write_bytes(content)
    with pytest.raises(JudgeError, match="cannot be used") as error:
        VerdictCache(path, max_entries=10)
    assert str(path) in str(error.value)
    assert path.read_bytes() == content


def test_a_folder_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="cannot be used"):
        VerdictCache(tmp_path, max_entries=10)


def test_damage_found_while_it_is_read(path: Path) -> None:
    with VerdictCache(path, max_entries=1000) as cache:
        for number in range(400):
            cache.put(f"key {number:060}", entry())
    content = bytearray(path.read_bytes())
    assert len(content) > 5 * 4096
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    cache = VerdictCache(path, max_entries=1000)
    with pytest.raises(JudgeError, match="remove the file if it is damaged"):
        cache.get(f"key {7:060}")
    cache.close()


def test_a_verdict_that_does_not_exist_is_damage(path: Path) -> None:
    with VerdictCache(path, max_entries=10) as cache:
        cache.put("a", entry())
        db = sqlite3.connect(path)
        db.execute("UPDATE verdicts SET verdict = 'excellent'")
        db.commit()
        db.close()
        with pytest.raises(JudgeError, match="excellent"):
            cache.get("a")


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "firefox.sqlite"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE history (url TEXT)")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(JudgeError, match="no judge cache"):
        VerdictCache(path, max_entries=10)
    assert path.read_bytes() == before


def test_another_version_is_refused(path: Path) -> None:
    VerdictCache(path, max_entries=10).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(JudgeError, match=r"another version \(99\)"):
        VerdictCache(path, max_entries=10)


def test_who_opens_it_waits_for_who_makes_it(path: Path) -> None:
    """SQLite does not wait itself where the journal's mode changes."""
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    letting_go = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
    letting_go.start()
    with VerdictCache(path, max_entries=10) as cache:
        cache.put("a", entry())
        assert cache.holds("a")
    letting_go.join()
    other.close()


def test_it_does_not_wait_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.1)
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    with pytest.raises(JudgeError, match="locked"):
        VerdictCache(path, max_entries=10)
    assert time.monotonic() - began < 5
    other.execute("ROLLBACK")
    other.close()


PROCESS = """
    import sys
    from pathlib import Path
    from grpo_dual.judges.cache import Entry, VerdictCache
    from grpo_dual.judges.client import Opinion, Usage, Verdict
    me = sys.argv[2]
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(5):
        with VerdictCache(Path(sys.argv[1]), max_entries=150) as cache:
            for number in range(100):
                for key in (f"{me} {number}", f"both {number}"):
                    opinion = Opinion(Verdict.WRONG, 0.5, key)
                    cache.put(key, Entry(opinion, "j", "m", 1, 1, Usage(1, 0, 0, 1), None))
                    found = cache.get(key)
                    assert found is None or found.reason == key
    print("done", flush=True)
"""


def test_two_processes_at_once(path: Path) -> None:
    """Both make it, fill it past its bound and close it, over and over."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROCESS), str(path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        said, _ = process.communicate(timeout=60)
        assert said == "done\n"
        assert process.returncode == 0
    with VerdictCache(path, max_entries=150) as cache:
        # Each process looks behind 150 insertions; the other may have made as many meanwhile.
        assert 150 <= len(cache) <= 450
        found = cache.get("both 99")
        assert found is None or found.reason == "both 99"


def test_a_killed_process_loses_nothing_it_has_kept(path: Path) -> None:
    program = """
        import os, signal, sys
        from pathlib import Path
        from grpo_dual.judges.cache import Entry, VerdictCache
        from grpo_dual.judges.client import Opinion, Usage, Verdict
        cache = VerdictCache(Path(sys.argv[1]), max_entries=10)
        opinion = Opinion(Verdict.WRONG, 0.5, "kept")
        cache.put("a", Entry(opinion, "j", "m", 1, 1, Usage(), None))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(path)], check=False, timeout=60
    )
    with VerdictCache(path, max_entries=10) as cache:
        assert cache.get("a") == Opinion(Verdict.WRONG, 0.5, "kept")


def test_its_files_are_closed(path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with VerdictCache(path, max_entries=10) as cache:
        cache.put("a", entry())
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
