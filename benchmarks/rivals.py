"""What ours is measured against: TRL's GRPOTrainer, and Transformers' ``generate``.

The same shapes with random weights, the same prompts, LoRA and sampling. TRL draws with
Transformers or with vLLM in the same process ("colocate").
"""

import contextlib
import functools
import importlib.metadata
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch

import shapes
from grpo_dual.config.schema import LoraConfig
from grpo_dual.model.loading import attach_lora

NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
Trl = Literal["trl", "trl-vllm", "trl-vllm-uncorrected"]
"""TRL with its transformers rollouts, or with vLLM's, whose log-probs it corrects by default."""
PACKAGES: dict[Trl, tuple[str, ...]] = {
    "trl": ("trl",),
    "trl-vllm": ("trl", "vllm"),
    "trl-vllm-uncorrected": ("trl", "vllm"),
}
PIP = {"trl": 'pip install "grpo-dual[rivals]"', "vllm": 'pip install "trl[vllm]"'}


def require(names: Collection[str]) -> None:
    """Are the packages of these contestants installed? To be asked before anything runs.

    Raises:
        SystemExit: One is not; with the command to type.
    """
    wanted = [package for rival in PACKAGES if rival in names for package in PACKAGES[rival]]
    for package in wanted:
        if importlib.util.find_spec(package) is None:
            sys.exit(f"{package} is not installed: {PIP[package]}")


def versions(rival: Trl) -> dict[str, str]:
    """Of its packages."""
    return {package: importlib.metadata.version(package) for package in PACKAGES[rival]}


@contextlib.contextmanager
def trl_trainer(
    rival: Trl,
    shape: str,
    work: shapes.Work,
    device: torch.device,
    *,
    steps: int,
    batch: int | None = None,
    checkpointing: bool = False,
    callbacks: Sequence[Any] = (),
) -> Iterator[Any]:
    """TRL's GRPOTrainer, in a folder that goes with it.

    vLLM gets a folder without weights: TRL sends it all of them before the first rollout.

    Args:
        rival: What it draws with.
        shape: Of the model.
        work: Prompts, completions, sampling.
        device: Where.
        steps: That it trains.
        batch: Sequences in one of its passes, which divides theirs; None: all.
        checkpointing: Of activations.
        callbacks: Of Transformers' trainer.
    """
    import datasets
    import trl
    from peft import LoraConfig as PeftLoraConfig

    vocabulary = shapes.SHAPES[shape]["vocab_size"]
    tokenizer = shapes.words(vocabulary)
    texts = [
        " ".join(tokenizer.convert_ids_to_tokens(list(p.token_ids)))
        for p in shapes.prompts(list(work.prompts), vocabulary)
    ]
    random = torch.Generator().manual_seed(0)
    model = shapes.model(shape, device)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as while_made:
        if rival != "trl":
            save_without_weights(model, tokenizer, Path(folder))
            while_made.enter_context(vllm_without_weights())
        trainer = trl.GRPOTrainer(
            model=model,
            reward_funcs=lambda completions, **_: torch.rand(
                len(completions), generator=random
            ).tolist(),
            args=trl.GRPOConfig(
                output_dir=folder,
                use_cpu=device.type == "cpu",
                bf16=device.type == "cuda",
                **settings(rival, work, steps=steps, batch=batch, checkpointing=checkpointing),
            ),
            train_dataset=datasets.Dataset(
                # With a fingerprint of its own: datasets 5.2 cannot hash a table of pyarrow 26.
                datasets.table.InMemoryTable.from_pydict({"prompt": texts}),
                fingerprint="prompts",
            ),
            processing_class=tokenizer,
            peft_config=PeftLoraConfig(
                r=shapes.RANK,
                lora_alpha=2 * shapes.RANK,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
            callbacks=list(callbacks),
        )
        while_made.close()
        yield trainer


def save_without_weights(model: Any, tokenizer: Any, folder: Path) -> None:
    """A checkpoint's folder but for its weights; the model takes it for where it came from.

    Args:
        model: Of Transformers, made from a configuration.
        tokenizer: Of its ids.
        folder: Is there.
    """
    model.config.architectures = [type(model).__name__]
    model.config.dtype = model.dtype
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model.name_or_path = str(folder)


def vllm_without_weights() -> contextlib.AbstractContextManager[Any]:
    """While it lasts, TRL makes its vLLM without reading weights."""
    import vllm

    llm = functools.partial(vllm.LLM, load_format="dummy")
    return mock.patch("trl.generation.vllm_generation.LLM", llm)


def settings(
    rival: Trl, work: shapes.Work, *, steps: int, batch: int | None, checkpointing: bool
) -> dict[str, Any]:
    """Of TRL's ``GRPOConfig``: its defaults but for what ours is given too.

    That is the reference pass (TRL's default is none), no shuffling, and checkpointing as asked
    (TRL's default is on). The arguments are those of :func:`trl_trainer`.

    Raises:
        SystemExit: The batch does not divide the sequences.
    """
    in_a_pass = min(batch or work.sequences, work.sequences)
    if work.sequences % in_a_pass:
        sys.exit(f"passes of {in_a_pass} sequences do not divide {work.sequences}: --rival-batch")
    return dict(
        per_device_train_batch_size=in_a_pass,
        gradient_accumulation_steps=work.sequences // in_a_pass,
        num_generations=work.k,
        max_completion_length=work.new_tokens,
        max_steps=steps,
        num_train_epochs=10**6,
        learning_rate=1e-5,
        beta=0.02,
        gradient_checkpointing=checkpointing,
        logging_steps=steps,
        save_strategy="no",
        report_to="none",
        shuffle_dataset=False,
        use_vllm=rival != "trl",
        vllm_importance_sampling_correction=rival != "trl-vllm-uncorrected",
        **NEUTRAL | shapes.SAMPLINGS[work.sampling],
    )


def generate(
    shape: str, work: shapes.Work, device: torch.device
) -> Callable[[int], Callable[[], int]]:
    """Transformers' ``generate`` as TRL's trainer calls it.

    The model is PEFT's, untouched by this package, under bf16 autocast on CUDA; every prompt stands
    in the batch K times, padded on the left; log-probs are not asked for. No sequence ends early.

    Args:
        shape: Of the model.
        work: Prompts, completions, sampling.
        device: Where.

    Returns:
        From a number of new tokens to a call that draws so many of every sequence and returns how
        many it has drawn.
    """
    from transformers import GenerationConfig

    config = LoraConfig(rank=shapes.RANK, alpha=2 * shapes.RANK)
    model: Any = attach_lora(shapes.model(shape, device), config)
    shapes.enliven(model.named_parameters())
    vocabulary = shapes.SHAPES[shape]["vocab_size"]
    width = max(work.prompts)
    rows = [
        list(p.token_ids)
        for p in shapes.prompts(list(work.prompts), vocabulary)
        for _ in range(work.k)
    ]
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)

    def limited(new_tokens: int) -> Callable[[], int]:
        settings = GenerationConfig(
            do_sample=True,
            max_new_tokens=new_tokens,
            pad_token_id=0,
            eos_token_id=shapes.never(vocabulary),
            disable_compile=True,
            **NEUTRAL | shapes.SAMPLINGS[work.sampling],
        )

        def draw() -> int:
            half = torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda")
            with torch.no_grad(), half:
                drawn = model.generate(
                    input_ids=ids, attention_mask=mask, generation_config=settings
                )
            return drawn[:, width:].numel()

        return draw

    return limited
