"""The ledger: what was spent is never forgotten, and never more than the budget."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_dual.config.judging import JudgeBudgetConfig, PriceConfig
from grpo_dual.errors import JudgeError
from grpo_dual.judges.client import Cause, ProviderError, Usage
from grpo_dual.judges.ledger import Ledger, Spent, Ticket, cost

NO_LIMIT = JudgeBudgetConfig()
PRICE = PriceConfig(input=1.0, output=10.0, cached_input=0.1, cache_write=2.0)
MOST = Usage(input=1000, output=100)
TOOK = Usage(input=800, cached=200, cache_write=100, output=40)


def reserved(ledger: Ledger, judge: str = "one", price: PriceConfig | None = PRICE) -> Ticket:
    return ledger.reserve(judge, MOST, price, step=3)


def settled(ledger: Ledger, ticket: Ticket, *, ok: bool = True) -> None:
    ledger.settle(ticket, TOOK, PRICE, "answered" if ok else "server error", ok=ok)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_cost_of_every_kind_of_token() -> None:
    # 500 fresh x 1 + 200 cached x .1 + 100 written x 2 + 40 out x 10 = 500 + 20 + 200 + 400.
    assert cost(TOOK, PRICE) == pytest.approx(1120e-6)
    # Without prices of their own, cached and written tokens are input.
    assert cost(TOOK, PriceConfig(input=1.0, output=10.0)) == pytest.approx(1200e-6)
    assert cost(TOOK, PriceConfig(input=0.0, output=0.0)) == 0.0
    assert cost(TOOK, None) is None, "unknown is not free"


def test_a_request_counts_with_the_most_until_it_is_settled() -> None:
    ledger = Ledger(NO_LIMIT)
    ticket = reserved(ledger)
    assert ledger.total.tokens == 1100
    # 1000 x 1 + 100 x 10 = 2000 micro-dollars.
    assert ledger.total.dollars == pytest.approx(2000e-6)
    assert (ledger.total.calls, ledger.total.unsettled) == (1, 1)
    settled(ledger, ticket)
    assert ledger.total.tokens == 840
    assert ledger.total.dollars == pytest.approx(1120e-6)
    assert (ledger.total.calls, ledger.total.unsettled, ledger.total.failed) == (1, 0, 0)
    assert ledger.total.reserved_usd == 0.0


def test_judges_are_summed_apart_and_together() -> None:
    ledger = Ledger(NO_LIMIT)
    settled(ledger, reserved(ledger, "one"))
    settled(ledger, reserved(ledger, "two"), ok=False)
    ledger.settle(reserved(ledger, "free", None), TOOK, None, "answered", ok=True)
    report = ledger.report()
    by_judge, total = report["by_judge"], report["total"]
    assert isinstance(by_judge, dict)
    assert isinstance(total, dict)
    assert {name: own["failed_calls"] for name, own in by_judge.items()} == {
        "one": 0,
        "two": 1,
        "free": 0,
    }
    assert by_judge["free"]["usd"] is None
    assert (by_judge["free"]["unpriced_calls"], total["unpriced_calls"]) == (1, 1)
    assert total["calls"] == 3
    assert total["input_tokens"] == 2400
    assert total["cached_input_tokens"] == 600
    assert total["output_tokens"] == 120
    assert total["usd"] == pytest.approx(2240e-6)


def test_what_came_on_top_of_a_copy() -> None:
    before = Spent(calls=2, failed=1, usage=Usage(10, 1, 1, 5), usd=0.5, unpriced=1)
    after = Spent(
        calls=5, failed=1, unsettled=1, usage=Usage(30, 2, 1, 9), usd=0.75, unpriced=1,
        reserved_tokens=100, reserved_usd=9.0,
    )  # fmt: skip
    new = after.since(before)
    assert new == Spent(calls=3, failed=0, usage=Usage(20, 1, 0, 4), usd=0.25, unpriced=0)


@pytest.mark.parametrize(
    ("budget", "fit"),
    [
        (JudgeBudgetConfig(calls=10), 10),
        (JudgeBudgetConfig(calls=0), 0),
        # A request takes 840 in the end and 1100 at most: n fit while 840 (n - 1) + 1100 <= limit.
        (JudgeBudgetConfig(tokens=840 * 9 + 1100), 10),
        (JudgeBudgetConfig(tokens=840 * 9 + 1099), 9),
        # 1120 and 2000 micro-dollars; a thousandth of one for the rounding of the sums.
        (JudgeBudgetConfig(usd=(1120 * 4 + 2000.001) / 1e6), 5),
        (JudgeBudgetConfig(usd=(1120 * 4 + 1999.999) / 1e6), 4),
    ],
)
def test_one_request_more_than_the_budget_is_refused(
    tmp_path: Path, budget: JudgeBudgetConfig, fit: int
) -> None:
    path = tmp_path / "ledger.jsonl"
    path.touch()
    ledger = Ledger(budget, path)
    for _ in range(fit):
        settled(ledger, reserved(ledger))
    for _ in range(3):
        with pytest.raises(ProviderError) as refused:
            reserved(ledger)
        assert refused.value.cause is Cause.BUDGET
    assert refused.value.detail.startswith("judge.budget.")
    ledger.close()
    assert ledger.total.calls == fit
    assert sum(line["event"] == "sent" for line in lines(path)) == fit
    # The next sitting has nothing left either.
    again = Ledger(budget, path)
    with pytest.raises(ProviderError, match=r"judge\.budget"):
        reserved(again)
    again.close()


def test_requests_in_flight_count_towards_the_budget() -> None:
    ledger = Ledger(JudgeBudgetConfig(tokens=2200))
    reserved(ledger)
    ticket = reserved(ledger)
    with pytest.raises(ProviderError):
        reserved(ledger)
    settled(ledger, ticket)
    # 1100 in flight + 840: 260 are left.
    with pytest.raises(ProviderError):
        reserved(ledger)
    ledger.reserve("one", Usage(input=260), PRICE, step=0)


def test_both_lines_of_a_request(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(NO_LIMIT, path)
    settled(ledger, reserved(ledger), ok=False)
    ledger.sync()
    ledger.close()
    sent, done = lines(path)
    assert sent == {
        "event": "sent",
        "id": 0,
        "step": 3,
        "judge": "one",
        "most_tokens": 1100,
        "most_usd": pytest.approx(2000e-6),
    }
    assert done == {
        "event": "done",
        "id": 0,
        "outcome": "server error",
        "ok": False,
        "input": 800,
        "cached": 200,
        "cache_write": 100,
        "output": 40,
        "usd": pytest.approx(1120e-6),
    }


def test_sums_over_sittings_never_go_back(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for sitting in range(1, 4):
        with_before = Ledger(JudgeBudgetConfig(calls=6), path)
        assert with_before.total.calls == 2 * (sitting - 1)
        settled(with_before, reserved(with_before, "one"))
        settled(with_before, reserved(with_before, "two"), ok=False)
        with_before.close()
    last = Ledger(JudgeBudgetConfig(calls=6), path)
    assert last.by_judge["one"].usage == Usage(2400, 600, 300, 120)
    assert (last.by_judge["two"].failed, last.by_judge["one"].failed) == (3, 0)
    assert last.total.dollars == pytest.approx(6 * 1120e-6)
    assert len({line["id"] for line in lines(path) if line["event"] == "sent"}) == 6
    with pytest.raises(ProviderError):
        reserved(last)


def test_a_kill_between_the_two_lines_counts_with_the_most(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    program = """
        import os, signal, sys
        from pathlib import Path
        from grpo_dual.config.judging import JudgeBudgetConfig
        from grpo_dual.judges.client import Usage
        from grpo_dual.judges.ledger import Ledger
        ledger = Ledger(JudgeBudgetConfig(), Path(sys.argv[1]))
        ticket = ledger.reserve("one", Usage(input=1000, output=100), None, step=1)
        ledger.settle(ticket, Usage(input=1, output=1), None, "answered", ok=True)
        ledger.reserve("one", Usage(input=1000, output=100), None, step=1)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(path)], check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    ledger = Ledger(JudgeBudgetConfig(tokens=1200), path)
    assert (ledger.total.calls, ledger.total.unsettled) == (2, 1)
    assert ledger.total.tokens == 2 + 1100
    with pytest.raises(ProviderError):
        ledger.reserve("one", Usage(input=99), None, step=2)
    # What comes later has numbers of its own.
    ticket = ledger.reserve("one", Usage(input=98), None, step=2)
    assert ticket.number == 2
    ledger.close()


def test_a_cut_last_line_was_no_request(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(NO_LIMIT, path)
    settled(ledger, reserved(ledger))
    ledger.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event": "sent", "id": 1, "jud')
    again = Ledger(NO_LIMIT, path)
    assert again.total.calls == 1
    assert path.read_bytes() == whole
    settled(again, reserved(again))
    again.close()
    assert Ledger(NO_LIMIT, path).total.calls == 2


SENT = '{"event": "sent", "id": 0, "step": 1, "judge": "a", "most_tokens": 5, "most_usd": null}'


@pytest.mark.parametrize(
    "line",
    [
        "",
        "not json",
        "[]",
        "null",
        "7",
        '{"event": "sent"}',
        SENT.replace("5", '"five"'),
        '{"event": "done", "id": 77, "ok": true, "input": 1, "cached": 0, "cache_write": 0, '
        '"output": 0, "usd": null}',
        '{"event": "done", "id": 0, "ok": true, "input": 1}',
        "\x00\x00\x00",
        "\udcff\udcfe",
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "ledger.jsonl"
    damaged = f"{SENT}\n{line}\n{SENT}\n".encode("utf-8", "surrogateescape")
    path.write_bytes(damaged)
    with pytest.raises(JudgeError, match="line 2: not an entry of the ledger") as error:
        Ledger(NO_LIMIT, path)
    assert str(path) in str(error.value)
    assert path.read_bytes() == damaged, "what may be mended by hand is left as it is"


def test_a_ledger_that_cannot_be_written_sends_nothing(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="cannot be written"):
        Ledger(NO_LIMIT, tmp_path / "no such folder" / "ledger.jsonl")


def test_the_file_is_there_before_anything_is_spent(tmp_path: Path) -> None:
    """Else one that somebody removed could not be told from one that was never needed."""
    Ledger(NO_LIMIT, tmp_path / "ledger.jsonl").close()
    assert (tmp_path / "ledger.jsonl").read_bytes() == b""
    assert Ledger(NO_LIMIT, tmp_path / "ledger.jsonl").total.calls == 0


def test_half_a_line_on_a_full_disk_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(NO_LIMIT, path)
    first = reserved(ledger)
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, data: write(file, data[: len(data) // 2]))
        with pytest.raises(JudgeError, match="No space left"):
            reserved(ledger)
    settled(ledger, first)  # there is room again
    ledger.close()
    assert [line["event"] for line in lines(path)] == ["sent", "done"]
    assert Ledger(NO_LIMIT, path).total.calls == 1


STEPS = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from(["one", "two"]),
        st.integers(0, 50),
        st.integers(0, 20),
        st.booleans(),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=50)
@given(STEPS, st.integers(0, 300), st.integers(0, 12))
def test_no_order_of_events_passes_the_budget_or_is_forgotten(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[bool, str, int, int, bool]],
    tokens: int,
    calls: int,
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    ledger = Ledger(JudgeBudgetConfig(tokens=tokens, calls=calls), path)
    out: list[Ticket] = []
    refused: set[Cause] = set()
    for send, judge, most, took, ok in steps:
        if send:
            try:
                out.append(ledger.reserve(judge, Usage(input=most), PRICE, step=0))
            except ProviderError as error:
                refused.add(error.cause)
        elif out:
            ticket = out.pop(took % len(out))
            ledger.settle(ticket, Usage(input=min(took, ticket.tokens)), PRICE, "x", ok=ok)
        assert ledger.total.tokens <= tokens
        assert ledger.total.calls <= calls
    assert refused <= {Cause.BUDGET}
    ledger.close()
    again = Ledger(NO_LIMIT, path)
    for name, spent in ledger.by_judge.items():
        read = again.by_judge[name]
        assert (read.calls, read.failed, read.unsettled) == (
            spent.calls,
            spent.failed,
            spent.unsettled,
        )
        assert read.tokens == spent.tokens
        assert read.usd == pytest.approx(spent.usd, abs=1e-12)
    assert again.total.tokens == ledger.total.tokens
