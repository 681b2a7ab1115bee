"""The judges that only count: the right questions, by the right judge, each paid once."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from grpo_dual.config.judging import (
    JudgeCacheConfig,
    JudgeConfig,
    OpenAiProviderConfig,
    PriceConfig,
)
from grpo_dual.judges import rubric
from grpo_dual.judges.cache import Entry, VerdictCache
from grpo_dual.judges.client import GroupVerdicts, Opinion, Question, Usage, Verdict
from grpo_dual.judges.counting import CountingService, asked, bounds, chars, distinct
from grpo_dual.judges.estimate import Asked, Bound, Ratio
from grpo_dual.judges.local import offline
from grpo_dual.judges.measure import kept, kept_ratio, sample
from grpo_dual.records import synthetic
from judge_servers import JudgeServer, reference

RECORDS = list(synthetic.halueval_records("train", "qa", 40, 0))
ANSWER = partial(offline, threshold=0.7)


def config(*names: str, **changes: Any) -> JudgeConfig:
    providers = {
        name: OpenAiProviderConfig(model="m", api_key="env:NOT_THERE", price=None) for name in names
    }
    return JudgeConfig.model_validate({"providers": providers, **changes})


def judged(service: CountingService, *texts: str, record: int = 0) -> GroupVerdicts:
    questions = [Question(RECORDS[record], text) for text in texts]
    return service.submit(questions, ANSWER).result()


def test_it_needs_no_key_and_answers_as_the_offline_judge():
    with CountingService(config("one"), 0.7).start() as service:
        found = judged(service, RECORDS[0].accepted or "", "Nobody knows.", "Gouda")
        (ask, *others) = service.take()
        assert service.take() == []
    answers = [a for a in found.answers if isinstance(a, Opinion)]
    assert [a.verdict for a in answers] == [Verdict.RIGHT, Verdict.WRONG, Verdict.WRONG]
    assert len(others) == 2
    chat = rubric.render(Question(RECORDS[0], RECORDS[0].accepted or ""), 1)
    assert ask.chars == chars(chat) == len(chat.system) + len(chat.turns[0].content)


def test_equal_questions_share_a_request():
    with CountingService(config("one"), 0.7).start() as service:
        service.begin_step(1)
        judged(service, "Gouda", "Delft", "Gouda")
        service.begin_step(2)
        judged(service, "Gouda", "Leiden")
        judged(service, "Gouda", record=1)
        asks = service.take()
    assert [(a.step, a.question.completion) for a in asks] == [
        (1, "Gouda"),
        (1, "Delft"),
        (2, "Gouda"),
        (2, "Leiden"),
        (2, "Gouda"),
    ]
    # With a cache the second step finds Gouda there; of another record it is another question.
    once = distinct(asks, across_steps=True)
    assert [(a.groups, a.questions) for a in asked(once, 3)] == [(1, 2), (2, 2), (0, 0)]
    each = distinct(asks, across_steps=False)
    assert [(a.groups, a.questions) for a in asked(each, 3)] == [(1, 2), (2, 3), (0, 0)]


def test_bounds_are_one_question_a_group_times_the_group():
    with CountingService(config("one"), 0.7).start() as service:
        service.begin_step(1)
        judged(service, "Gouda")
        judged(service, "Gouda", record=1)
        asks = service.take()
    size = asks[0].chars + asks[1].chars
    assert asked(asks, 1) == [Asked(2, 2, size)]
    assert bounds(asks, 2, group_size=8) == [Bound(2, 16, 8 * size), Bound()]


@pytest.mark.parametrize(
    ("route", "first", "second"),
    [("primary-then-fallback", 40, 0), ("split", 10, 30), ("both-and-agree", 40, 20)],
)
def test_the_route_is_the_run_s_own(route: str, first: int, second: int):
    made = config("one", "two", route=route, agree_share=0.5)
    shares = {"one": 1.0, "two": 3.0}
    providers = {
        name: provider.model_copy(update={"share": shares[name]})
        for name, provider in made.providers.items()
    }
    with CountingService(made.model_copy(update={"providers": providers}), 0.7).start() as service:
        for number in range(len(RECORDS)):
            judged(service, "Gouda", record=number)
        asks = service.take()
    counts = [sum(ask.judge == name for ask in asks) for name in ("one", "two")]
    # Shares are drawn by a hash of the record: within four standard deviations of a coin, 12.
    assert counts[0] == pytest.approx(first, abs=12 if route == "split" else 0)
    assert counts[1] == pytest.approx(second, abs=0 if route == "primary-then-fallback" else 13)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with JudgeServer("openai", reference()) as running:
        yield running


def real(server: JudgeServer, folder: Path, **cache: Any) -> JudgeConfig:
    provider = OpenAiProviderConfig(
        model="m",
        base_url=server.base_url,
        api_key="none",
        price=PriceConfig(input=1, output=2),
    )
    kept_in = JudgeCacheConfig(path=folder / "v.sqlite", **cache)
    return JudgeConfig(providers={"one": provider}, cache=kept_in)


@pytest.mark.parametrize("enabled", [True, False])
def test_a_sample_measures_tokens_and_time(server: JudgeServer, tmp_path: Path, enabled: bool):
    settings = real(server, tmp_path, enabled=enabled)
    questions = [Question(record, "Gouda") for record in RECORDS]
    found = sample(settings, "one", questions, 10)
    sent = [rubric.render(Question(r, "Gouda"), 1) for r in RECORDS[::4]]
    assert server.calls == found.spent.calls == 10
    assert found.ratio is not None
    assert found.ratio.per_char == pytest.approx(
        server.usage.input_tokens / sum(map(chars, sent)), abs=1e-12
    )
    assert found.ratio.reply == pytest.approx(server.usage.output_tokens / 10, abs=1e-12)
    assert found.ratio.verdicts == 10
    assert found.answer_seconds is not None
    assert found.answer_seconds > 0


def test_a_sample_of_what_is_kept_pays_nothing(server: JudgeServer, tmp_path: Path):
    settings = real(server, tmp_path)
    questions = [Question(record, "Gouda") for record in RECORDS[:3]]
    first = sample(settings, "one", questions, 3)
    again = sample(settings, "one", questions, 3)
    assert server.calls == 3
    assert again.spent.calls == 0
    assert again.ratio == first.ratio == kept_ratio(settings, "one")
    assert again.answer_seconds is None


def test_what_is_kept_is_known_without_a_trace(server: JudgeServer, tmp_path: Path):
    settings = real(server, tmp_path)
    sample(settings, "one", [Question(RECORDS[0], "Gouda")], 1)
    with CountingService(settings, 0.7).start() as service:
        judged(service, "Gouda", "Delft")
        asks = service.take()
    assert kept(settings, "one", asks) == {asks[0].digest}
    with VerdictCache(tmp_path / "v.sqlite", max_entries=9) as cache:
        assert [row.hits for row in cache.stats()] == [0]
    other = settings.model_copy(update={"rubric": 1, "cache": JudgeCacheConfig(enabled=False)})
    assert kept(other, "one", asks) == frozenset()


def test_without_a_cache_there_is_no_ratio(tmp_path: Path):
    settings = config("one", cache=JudgeCacheConfig(path=tmp_path / "none.sqlite"))
    assert kept_ratio(settings, "one") is None
    assert not (tmp_path / "none.sqlite").exists()
    entry = Entry(
        opinion=Opinion(Verdict.RIGHT, 1.0, ""),
        judge="two",
        model="m",
        rubric=1,
        chars=400,
        usage=Usage(input=100, output=20),
        usd=None,
    )
    with VerdictCache(tmp_path / "none.sqlite", max_entries=9) as cache:
        cache.put("key", entry)
    assert kept_ratio(settings, "one") is None
    assert kept_ratio(config("two", cache=settings.cache), "two") == Ratio(0.25, 20.0, 1)


def test_another_programs_database_is_left_alone(tmp_path: Path):
    import sqlite3

    from grpo_dual.errors import JudgeError

    path = tmp_path / "bookmarks.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE places (url TEXT)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(JudgeError, match="no judge cache"):
        VerdictCache(path, max_entries=9)
    assert path.read_bytes() == before
