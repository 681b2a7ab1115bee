import re
from pathlib import Path

import pytest
import yaml

from grpo_dual.config.load import load_config
from grpo_dual.config.objectives import FairnessConfig, HallucinationConfig
from grpo_dual.config.schema import RunConfig, SftConfig

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def parts(config: RunConfig) -> tuple[FairnessConfig, HallucinationConfig]:
    fairness, hallucination = config.objectives["fairness"], config.objectives["hallucination"]
    assert isinstance(fairness, FairnessConfig)
    assert isinstance(hallucination, HallucinationConfig)
    return fairness, hallucination


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_preset_parses(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem


def test_presets_are_there() -> None:
    names = {path.stem for path in CONFIGS.glob("*.yaml")}
    assert {"demo", "llama3-8b", "llama3-8b-handoff", "real-tiny"} <= names


def test_handoff_holds_every_number() -> None:
    # design.md, section 4
    config = load_config(CONFIGS / "llama3-8b-handoff.yaml")
    fairness, hallucination = parts(config)
    assert config.model.name == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert config.train.steps == 500
    # 2 prompts per micro-batch, 2 accumulation steps: one micro-batch of each objective a step
    assert config.train.microbatch_prompts == 2
    assert fairness.prompts_per_step == hallucination.prompts_per_step == 2
    assert config.rollout.group_size == 4
    sampling = config.rollout.sampling
    assert (sampling.min_new_tokens, sampling.max_new_tokens) == (5, 128)
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.9, 100, 0.9)
    assert sampling.repetition_penalty == 1.18
    assert fairness.data.train_samples == 1100
    assert hallucination.data.train_samples == 400
    assert (fairness.reward_scale, hallucination.reward_scale) == (0.7, 1.0)
    assert fairness.kl.beta == hallucination.kl.beta == 0.30
    assert config.rollout.max_prompt_tokens == 896
    assert fairness.data.categories == ("Gender_identity", "Disability_status")
    assert hallucination.data.subsets == {
        "qa": 1.5,
        "dialogue": 1.5,
        "summarization": 1.0,
        "general": 0.5,
    }
    assert hallucination.data.general_filter == "handoff"
    assert fairness.data.path == hallucination.data.path == "cache"


def test_recommended_preset() -> None:
    # algorithms.md, section 10, with one update per rollout batch and no dynamic sampling
    config = load_config(CONFIGS / "llama3-8b.yaml")
    fairness, hallucination = parts(config)
    assert config.model.name == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert (config.advantage.normalization, config.advantage.eps) == ("group", 1e-4)
    assert (config.loss.clip_low, config.loss.clip_high, config.loss.dual_clip) == (0.2, 0.28, 3.0)
    assert config.train.num_iterations == 1
    assert config.rollout.group_size == 8
    assert config.rollout.sampling.plain
    assert config.model.lora.dropout == 0.0
    for objective in (fairness, hallucination):
        assert objective.weight * objective.reward_scale == 1.0  # w_f = w_h = .5
        assert objective.length.margin == 0.25  # soft overlong over the last quarter
        assert (objective.kl.beta, objective.kl.target, objective.kl.gain) == (0.3, 0.05, 0.1)
        assert (objective.kl.beta_min, objective.kl.beta_max) == (0.03, 1.0)


def test_the_pairs_that_the_recommended_preset_suggests_are_a_configuration() -> None:
    path = CONFIGS / "llama3-8b.yaml"
    (line,) = re.findall(r"^#   (pairs: \{.*\})$", path.read_text(), re.MULTILINE)
    suggested = SftConfig.model_validate(yaml.safe_load(line))
    assert suggested.pairs.steps == 50
    config = load_config(path)
    _, hallucination = parts(config)
    assert (config.sft.pairs.steps, hallucination.reward.contrast) == (0, 0.0)


@pytest.mark.parametrize("name", ["demo", "real-tiny"])
def test_tiny_presets_fit_the_embedded_window(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml")
    assert config.model.name == "embedded"
    assert config.model.dtype == "float32"
    assert config.rollout.max_prompt_tokens + config.rollout.sampling.max_new_tokens <= 512


def test_real_tiny_reads_real_rows() -> None:
    config = load_config(CONFIGS / "real-tiny.yaml")
    fairness, hallucination = parts(config)
    assert fairness.data.path == "../shared/data/bbq"
    assert hallucination.data.path == "../shared/data/halueval"
    assert config.train.steps >= 30
