"""``grpo-dual eval predictions``: the published numbers, the JSON, what is said beside it."""

import json
from pathlib import Path

import pytest

from grpo_dual.cli.main import MISTAKE, main
from grpo_dual.records import synthetic

# BBQ_calculate_bias_score.R on UnifiedQA-11B's RACE predictions of the rows at hand (the full
# categories give the paper's figure): accuracy ambiguous, s_AMB, accuracy disambiguated, s_DIS.
PUBLISHED = {"Age": (0.5353, 0.3006, 0.9340, 0.0144), "Religion": (0.6596, 0.1481, 0.9135, 0.0)}


@pytest.mark.parametrize("category", PUBLISHED)
def test_unified_qa_scores_what_the_papers_script_says(
    category: str, shared_data: Path, tmp_path: Path
) -> None:
    file = shared_data / "bbq_unifiedqa_preds" / f"preds_{category}.jsonl"
    command = f"eval predictions {file} --field unifiedqa-t5-11b_pred_race --policy exclude"
    command += f" --data {shared_data / 'bbq'} --json {tmp_path / 'out.json'} --draws 200"
    assert main(command.split()) == 0
    got = json.loads((tmp_path / "out.json").read_text())["categories"][category]
    keys = ("accuracy_ambig", "s_amb", "accuracy_disambig", "s_dis")
    assert tuple(round(got[key], 4) for key in keys) == PUBLISHED[category]
    low, high = got["intervals_95"]["s_amb"]
    assert low < got["s_amb"] < high


def written(folder: Path, answer: str) -> Path:
    rows = [{**row, "pred": row.get(answer, answer)} for row in synthetic.bbq_rows("test", 8, 0)]
    path = folder / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_result_is_whole_and_says_where_it_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = written(tmp_path, "banana"), tmp_path / "out.json"
    assert main(["eval", "predictions", str(path), "--field", "pred", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert sorted(result["categories"]) == sorted(synthetic.CATEGORIES)
    age = result["categories"]["Age"]
    assert (age["accuracy_ambig"], age["s_amb"], age["s_dis"], age["unparsed"]) == (
        0,
        None,
        None,
        1,
    )
    assert result["provenance"]["policy"] == "wrong"
    assert len(result["provenance"]["sha256"]) == 64
    printed = capsys.readouterr().out
    assert "100.0% unparsed" in printed
    assert "--data" in printed
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json", "p.jsonl"]


def test_a_result_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "ans0")
    out = tmp_path / "nowhere" / "out.json"
    assert (
        main(["eval", "predictions", str(path), "--field", "pred", "--json", str(out)]) == MISTAKE
    )
    assert "out.json: cannot be written" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["p.jsonl"]
