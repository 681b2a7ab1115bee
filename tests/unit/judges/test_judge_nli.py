"""The local judge: a classifier made on the fly whose verdicts are known by hand."""

import asyncio
import math
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from grpo_dual.config.judging import (
    HeuristicProviderConfig,
    JudgeCacheConfig,
    JudgeConfig,
    NliProviderConfig,
)
from grpo_dual.errors import JudgeError
from grpo_dual.judges.client import Cause, Failure, Opinion, Question, Verdict
from grpo_dual.judges.local import offline
from grpo_dual.judges.nli import NliJudge
from grpo_dual.judges.service import JudgeService
from grpo_dual.types import HaluEvalRecord, Task

LABELS = {0: "contradiction", 1: "entailment", 2: "neutral"}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
# 1.4142 = LN(1), see classifier: tanh of it is .88839, so the logit of a supported pair is
# 10 x .88839 - 4 = 4.8839, and that of any other -4.
SUPPORTED, UNSUPPORTED = 4.8839, -4.0


def tokenizer() -> PreTrainedTokenizerFast:
    """Knows one word."""
    inner = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate((*SPECIAL, "yea"))}, unk_token="[UNK]")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def classifier(labels: Mapping[int, str]) -> BertForSequenceClassification:
    """Entailment as soon as ``yea`` is among the tokens, of the premise or of the hypothesis.

    Its embedding is (1, -1, 0, 0), all others are 0. Attention is uniform, values and projections
    are the identity, and LayerNorm makes (sqrt 2, -sqrt 2, 0, 0) of any multiple of it, whatever
    its share among the tokens. The pooler takes tanh.
    """
    config = BertConfig(
        vocab_size=len(SPECIAL) + 1,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=4,
        max_position_embeddings=64,
        id2label=dict(labels),
        label2id={label: index for index, label in labels.items()},
    )
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
        layer = model.bert.encoder.layer[0].attention
        model.bert.embeddings.word_embeddings.weight[4] = torch.tensor([1.0, -1.0, 0.0, 0.0])
        for linear in (layer.self.value, layer.output.dense, model.bert.pooler.dense):
            linear.weight.copy_(torch.eye(4))
        supports = next(i for i, label in labels.items() if label.casefold() != "contradiction")
        model.classifier.weight[supports, 0] = 10.0
        model.classifier.bias[supports] = -4.0
    return model


def saved(folder: Path, labels: Mapping[int, str]) -> Path:
    classifier(labels).save_pretrained(str(folder))
    tokenizer().save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def three_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("nli"), LABELS)


@pytest.fixture(scope="module")
def one_output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("one"), {0: "LABEL_0"})


def provider(model: Path, **changes: Any) -> NliProviderConfig:
    return NliProviderConfig(model=str(model), **changes)


def record(context: str = "The mill was built in 1844.") -> HaluEvalRecord:
    return HaluEvalRecord(
        record_id="test/qa/1",
        objective="hallucination",
        subset="qa",
        task=Task.ANSWER,
        origin="test:1",
        context=context,
        query="When was the mill built?",
        accepted="1844",
        rejected="1901",
    )


def asked(judge: NliJudge, completion: str, context: str | None = None) -> Opinion | Failure:
    item = record() if context is None else record(context)
    return asyncio.run(judge.judge(Question(item, completion)))


def probability(logit: float, others: int = 2) -> float:
    """Softmax of a logit among ``others`` zeros."""
    return math.exp(logit) / (math.exp(logit) + others)


@pytest.mark.parametrize(
    ("completion", "verdict", "logit"),
    [("yea", Verdict.RIGHT, SUPPORTED), ("nay", Verdict.WRONG, UNSUPPORTED)],
)
def test_entailment_decides(three_labels: Path, completion: str, verdict: Verdict, logit: float):
    found = asked(NliJudge("local", provider(three_labels)), completion)
    assert isinstance(found, Opinion)
    # Sure is P(entailment), or its complement: .98509 and .99093.
    support = probability(logit)
    assert found.verdict is verdict
    expected = support if verdict is Verdict.RIGHT else 1 - support
    assert found.confidence == pytest.approx(expected, abs=1e-4)
    assert found.reason == f"P(entailment) = {support:.3f}"


@pytest.mark.parametrize(
    ("completion", "verdict", "logit"),
    [("yea", Verdict.RIGHT, SUPPORTED), ("nay", Verdict.WRONG, UNSUPPORTED)],
)
def test_a_single_output_goes_through_a_sigmoid(
    one_output: Path, completion: str, verdict: Verdict, logit: float
):
    found = asked(NliJudge("local", provider(one_output, entailment="whatever")), completion)
    assert isinstance(found, Opinion)
    support = 1 / (1 + math.exp(-logit))
    assert found.verdict is verdict
    assert max(support, 1 - support) == pytest.approx(found.confidence, abs=1e-4)


def test_the_threshold_decides(three_labels: Path):
    strict = asked(NliJudge("local", provider(three_labels, threshold=0.99)), "yea")
    lenient = asked(NliJudge("local", provider(three_labels, threshold=0.005)), "nay")
    # .98509 < .99 and .00907 >= .005
    assert isinstance(strict, Opinion)
    assert strict.verdict is Verdict.WRONG
    assert isinstance(lenient, Opinion)
    assert lenient.verdict is Verdict.RIGHT


def test_what_declines_abstains_unless_it_answers_too(three_labels: Path):
    judge = NliJudge("local", provider(three_labels))
    declined = asked(judge, "I do not know.")
    assert isinstance(declined, Opinion)
    assert declined.verdict is Verdict.ABSTAINS
    hedged = asked(judge, "I do not know. It was yea.")
    assert isinstance(hedged, Opinion)
    assert hedged.verdict is Verdict.RIGHT


def test_without_knowledge_it_has_no_opinion(three_labels: Path):
    judge = NliJudge("local", provider(three_labels))
    found = asked(judge, "yea", context="  ")
    assert isinstance(found, Failure)
    assert found.cause is Cause.NO_OPINION
    assert judge.key(Question(record(" "), "yea")) is None


def test_the_knowledge_is_cut_and_never_the_answer(three_labels: Path):
    # Special tokens 3, question 5 words and a sign, answer 3 words: 16 tokens hold 4 of it.
    judge = NliJudge("local", provider(three_labels, max_tokens=16))
    told = "The mill was built " + "long ago " * 20
    behind = asked(judge, "It was yea", context=told)
    assert isinstance(behind, Opinion)
    assert behind.verdict is Verdict.RIGHT
    cut_off = asked(judge, "It was nay", context=f"{told} yea")
    assert isinstance(cut_off, Opinion)
    assert cut_off.verdict is Verdict.WRONG
    kept = asked(judge, "It was nay", context=f"yea {told}")
    assert isinstance(kept, Opinion)
    assert kept.verdict is Verdict.RIGHT


def test_an_answer_that_leaves_no_room_is_no_opinion(three_labels: Path):
    judge = NliJudge("local", provider(three_labels, max_tokens=16))
    # Special tokens 3, question 5 words and a sign: an answer of 6 words leaves one token.
    fits = asked(judge, "yea " * 6)
    assert isinstance(fits, Opinion)
    found = asked(judge, "yea " * 7)
    assert isinstance(found, Failure)
    assert found.cause is Cause.NO_OPINION
    assert "16 tokens" in found.detail


def test_a_probability_that_is_no_number_is_no_verdict(
    three_labels: Path, monkeypatch: pytest.MonkeyPatch
):
    judge = NliJudge("nli", provider(three_labels))
    monkeypatch.setattr(judge, "_support", lambda *_: math.nan)
    answer = asked(judge, "1844")
    assert isinstance(answer, Failure)
    assert (answer.cause, answer.detail) == (Cause.INVALID, "its probability is nan")


def test_a_device_that_gives_up_is_a_failure(three_labels: Path, monkeypatch: pytest.MonkeyPatch):
    def failing(*_: object) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    judge = NliJudge("nli", provider(three_labels))
    monkeypatch.setattr(judge, "_support", failing)
    answer = asked(judge, "1844")
    assert isinstance(answer, Failure)
    assert (answer.cause, answer.detail) == (Cause.SERVER, "CUDA out of memory")


@pytest.mark.parametrize("device", ["cuda:99", "gpu0"])
def test_a_device_that_is_not_there_names_its_key(three_labels: Path, device: str):
    with pytest.raises(
        JudgeError, match=rf"judge\.providers\.nli\.device: {device} cannot be used"
    ):
        NliJudge("nli", provider(three_labels, device=device))


def test_the_label_is_found_whatever_its_capitals(tmp_path: Path):
    folder = saved(tmp_path, {0: "CONTRADICTION", 1: "Entailment", 2: "NEUTRAL"})
    found = asked(NliJudge("local", provider(folder, entailment="ENTAILMENT")), "yea")
    assert isinstance(found, Opinion)
    assert found.verdict is Verdict.RIGHT


def test_a_missing_label_names_the_key_and_the_labels(three_labels: Path):
    with pytest.raises(
        JudgeError, match=r"judge\.providers\.local\.entailment.*supported"
    ) as error:
        NliJudge("local", provider(three_labels, entailment="supported"))
    assert "contradiction, entailment, neutral" in str(error.value)


@pytest.mark.parametrize("there", [False, True], ids=["absent", "empty"])
def test_a_folder_without_a_model_names_the_key(tmp_path: Path, there: bool):
    folder = tmp_path / "nowhere"
    if there:
        folder.mkdir()
    with pytest.raises(JudgeError, match=r"judge\.providers\.local\.model: .*nowhere"):
        NliJudge("local", provider(folder))


def test_the_key_changes_with_whatever_changes_the_verdict(three_labels: Path, one_output: Path):
    question = Question(record(), "yea")
    usual = NliJudge("local", provider(three_labels)).key(question)
    assert usual == NliJudge("other", provider(three_labels, concurrency=3)).key(question)
    keys = {
        usual,
        NliJudge("local", provider(one_output)).key(question),
        NliJudge("local", provider(three_labels, threshold=0.6)).key(question),
        NliJudge("local", provider(three_labels, max_tokens=64)).key(question),
        NliJudge("local", provider(three_labels, entailment="neutral")).key(question),
        NliJudge("local", provider(three_labels)).key(Question(record(), "nay")),
        NliJudge("local", provider(three_labels)).key(Question(record("Else."), "yea")),
    }
    assert len(keys) == 7


def test_it_works_beside_others(three_labels: Path, tmp_path: Path):
    config = JudgeConfig(
        providers={"local": provider(three_labels), "words": HeuristicProviderConfig()},
        route="both-and-agree",
        agree_share=1.0,
        cache=JudgeCacheConfig(path=tmp_path / "verdicts.sqlite"),
    )
    texts = ("1844", "yea", "nay", "I do not know.", "nay")
    with JudgeService(config).start() as judges:
        questions = [Question(record(), text) for text in texts]
        found = judges.submit(questions, partial(offline, threshold=0.7)).result()
        tally = judges.take_tally()
        judges.close()
    # The classifier knows no 1844 and likes yea, the word judge the other way round.
    assert found.scorer == "local+words"
    verdicts = [a.verdict if isinstance(a, Opinion) else a.cause for a in found.answers]
    assert verdicts == [
        Cause.DISAGREE,
        Cause.DISAGREE,
        Verdict.WRONG,
        Verdict.ABSTAINS,
        Verdict.WRONG,
    ]
    assert (tally.agreed, tally.compared) == (3, 5)
    # Asked twice, computed once: the same question was in flight.
    assert tally.cache_hits["local"] == 1


def test_the_service_is_without_torch_until_a_local_judge_is_named():
    script = (
        "import sys\n"
        "import grpo_dual.judges.service, grpo_dual.judges.build\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
