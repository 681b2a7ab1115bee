"""Legends of many runs: letters, with room for all, clear of the plot and of the title."""

import warnings
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import recorded_runs
from grpo_dual.report import colours, draw, looks, over_steps, pictures, trends
from grpo_dual.report.page import groups, write_report
from grpo_dual.report.panels import IntervalPanel, Line, TimePanel
from grpo_dual.report.reading import MANY, Run, read_runs

COUNT = 12


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, ...]:
    folder = tmp_path_factory.mktemp("runs")
    return read_runs([recorded_runs.demo(folder / f"seed-{i}") for i in range(COUNT)])


def test_few_runs_are_named_and_many_have_letters(runs: tuple[Run, ...]) -> None:
    few = read_runs([run.folder for run in runs[:MANY]])
    assert [run.tag for run in few] == [run.name for run in few]
    assert [run.tag for run in runs] == list("ABCDEFGHIJKL")
    assert runs[1].name == "B: seed-1"


def test_runs_of_one_folder_name_are_told_apart(tmp_path: Path) -> None:
    folders = [recorded_runs.demo(tmp_path / own / "run-1") for own in ("both-0", "both-1")]
    other = recorded_runs.demo(tmp_path / "both-2" / "run-2")
    names = [run.name for run in read_runs([*folders, other])]
    assert names == ["A: both-0/run-1", "B: both-1/run-1", "C: run-2"]


def test_every_line_of_many_has_a_look_of_its_own() -> None:
    each = {(colours.series(n), looks.marker(n)) for n in range(36)}
    assert len(each) == 36


def test_a_single_spike_flattens_nothing() -> None:
    """Values of .1 to .2 and one of 600: the axis ends at 1.6 times the usual, and says so."""
    values = (*tuple(0.1 + 0.001 * n for n in range(99)), 600.0)
    line = Line("KL", 0, tuple(range(100)), values)
    axes = Figure().subplots()
    over_steps.draw(axes, TimePanel("KL", "nats", (line,)), colours.light)
    low, high = axes.get_ylim()
    assert high == pytest.approx(1.6 * 0.198)
    assert 0 < low < 0.1
    assert "cut: single values up to 600" in [text.get_text() for text in axes.texts]


def test_of_many_runs_one_start_is_drawn(runs: tuple[Run, ...]) -> None:
    shares = pictures.before_after(runs)[0]
    assert [d.label for d in shares.dots] == ["A before", *(f"{r.tag} after" for r in runs)]
    assert "Before is that of A" in shares.brief


def test_legends_stand_between_plot_and_title(
    runs: tuple[Run, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    save = Figure.savefig

    def kept(figure: Figure, *args: object, **kwargs: object) -> None:
        save(figure, *args, **kwargs)  # pyright: ignore
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", kept)
    entropy = next(g for g in trends.trends(runs) if g.key == "entropy")
    held = groups(runs)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a layout that does not fit warns
        for group in (entropy, held):
            draw.png(group, tmp_path / f"{group.key}.png", "A: one, B: two")
    for figure in figures:
        whole = figure.bbox
        for axes in (a for a in figure.axes if a.get_legend() is not None):
            legend = axes.get_legend()
            assert legend is not None
            box, plot = legend.get_window_extent(), axes.get_window_extent()
            title = axes._left_title.get_window_extent()  # type: ignore[attr-defined]
            assert plot.y1 < box.y0
            assert box.y1 <= title.y0
            assert title.y1 <= whole.y1 + 2  # pixels; its extent has a margin


def test_dots_of_a_score_do_not_reach_the_next(runs: tuple[Run, ...]) -> None:
    panel = pictures.before_after(runs)[0]
    assert isinstance(panel, IntervalPanel)
    assert len(panel.dots) == COUNT + 1
    few = pictures.before_after(runs[:1])[0]
    per_score = [draw._height(p) / len(p.rows) for p in (few, panel)]
    assert per_score[1] > per_score[0] + 0.08 * (COUNT - 2)


def test_the_page_of_many_runs_draws_without_a_warning(
    runs: tuple[Run, ...], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        several = read_runs([run.folder for run in runs[: MANY + 1]])
        write_report(several, tmp_path / "page.html", png=tmp_path)
    assert (tmp_path / "entropy.png").stat().st_size > 10_000


def test_headlines_of_many_runs_are_a_list(runs: tuple[Run, ...], tmp_path: Path) -> None:
    pages: list[str] = []
    for count in (MANY, MANY + 1):
        write_report(runs[:count], tmp_path / "page.html")
        pages.append((tmp_path / "page.html").read_text())
    assert [page.count('class="lead"') for page in pages] == [MANY, 0]
    assert '<ul class="runs">' in pages[1]
    assert all(f"<strong>{run.name}</strong>" in pages[1] for run in runs[: MANY + 1])
