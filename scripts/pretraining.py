"""What both pretraining scripts share: tokens said twice, batches, and a step that is one graph."""

import math
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers


def byte_level(size: int, special: Sequence[str]) -> tuple[Tokenizer, trainers.BpeTrainer]:
    """An untrained byte-level BPE, digits one by one, and its trainer: no text is out of it."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(t, special=True) for t in special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    return core, trainer


def repeats(
    count: int, seed: int, vocabulary: int, width: int, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Random tokens said twice or more: what copying is learnt from.

    A model that has learnt to look up what followed a token before (an induction head, Olsson et
    al. 2022) reads the world at once; without it, long training ends in guesses between two names.

    Args:
        count: Rows.
        seed: Of the tokens.
        vocabulary: Tokens there are.
        width: Tokens of a row.
        first: The first token that is not special.

    Returns:
        Token ids [count, width], and [count, 2] the length of prompt and of all.
    """
    rng = np.random.default_rng(seed)
    tokens = rng.integers(first, vocabulary, (count, width), dtype=np.int16)
    periods = rng.integers(8, width // 2, count)
    rows = np.take_along_axis(tokens, np.arange(width)[None] % periods[:, None], 1)
    return rows, np.stack([periods, np.full(count, width)], 1).astype(np.int16)


def batches(
    ids: np.ndarray, spans: np.ndarray, size: int, seed: int, device: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches (ids [size, width], spans [size, 2]), every epoch in a new order."""
    torch.manual_seed(seed)
    rows, ends = torch.from_numpy(ids).to(device), torch.from_numpy(spans).to(device)
    while True:
        order = torch.randperm(len(rows), device=device)
        for start in range(0, len(rows) - size + 1, size):
            where = order[start : start + size]
            yield rows[where].long(), ends[where].long()


class Trainer:
    """AdamW on the weighted next-token loss; on a GPU the whole step is one CUDA graph.

    The model is so small that a step of separate kernel launches takes five times the graph's time.
    """

    def __init__(self, model, size: int, width: int, prompt_weight: float, device: str) -> None:
        """Keep the batch's memory, which a graph needs to stay where it is."""
        self.model, self.device, self._graph = model, device, None
        self._prompt_weight = prompt_weight
        self._ids = torch.zeros(size, width, dtype=torch.long, device=device)
        self._spans = torch.zeros(size, 2, dtype=torch.long, device=device)
        self._causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
        self.reply_loss = torch.zeros((), device=device)
        on_gpu = device == "cuda"
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=torch.zeros((), device=device), betas=(0.9, 0.98),
            weight_decay=0.01, fused=True, capturable=on_gpu,
        )  # fmt: skip

    def step(self, ids: torch.Tensor, spans: torch.Tensor, rate: float) -> None:
        """One update on a batch of ``batches`` at learning rate ``rate``."""
        for group in self._optimizer.param_groups:
            group["lr"].fill_(rate)
        if self.device != "cuda":
            width = int(spans.max())
            self._update(ids[:, :width], spans)
            return
        self._ids.copy_(ids)
        self._spans.copy_(spans)
        if self._graph is None:
            self._capture()
        self._graph.replay()

    def _capture(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._update(self._ids, self._spans)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._update(self._ids, self._spans)

    def _update(self, ids: torch.Tensor, spans: torch.Tensor) -> None:
        prompt, whole = spans.T[:, :, None]
        place = torch.arange(ids.shape[1], device=self.device)
        weights = torch.where(place < prompt, self._prompt_weight, 1.0) * (place < whole)
        weights = weights[:, 1:].flatten()
        mask = self._causal[: ids.shape[1], : ids.shape[1]].expand(len(ids), 1, -1, -1)
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none"
        )
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        said = (weights == 1.0).float()
        self.reply_loss.copy_(((losses * said).sum() / said.sum()).detach())


def phase(
    trainer: Trainer, source, steps: int, peak: float, name: str, seconds: float | None
) -> int:
    """Train with linear warm-up and cosine decay to a fiftieth of the peak.

    With ``seconds``, the number of steps is chosen after 200 of them, to last about so long.

    Returns:
        The steps taken.
    """
    trainer.model.train()
    on_gpu = trainer.device == "cuda"
    every = 1000 if on_gpu else 50
    began = time.monotonic()
    for step, (ids, spans) in enumerate(source):
        if seconds and step == 200:
            if on_gpu:
                torch.cuda.synchronize()
            began = time.monotonic()
        if seconds and step == 500:
            if on_gpu:
                torch.cuda.synchronize()
            steps = int(seconds / (time.monotonic() - began) * 300)
            print(f"{name}: {steps} steps", flush=True)
        decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1, step / steps)))
        trainer.step(ids, spans, peak * min(1, (step + 1) / 200) * decay)
        done = step + 1
        if done % every == 0 or done == steps:
            reply, spent = trainer.reply_loss.item(), time.monotonic() - began
            print(f"{name} step {done} reply {reply:.4f} {spent:.0f} s", flush=True)
        if done == steps:
            break
    return steps


@torch.no_grad()
def ask(
    model, tokenizer, prompts: Sequence[str], *, sample: bool, longest: int, at_once: int = 256
) -> list[str]:
    """Replies to prompts that are rendered already, greedy or drawn at temperature 1."""
    model.eval()
    tokenizer.padding_side = "left"
    replies: list[str] = []
    for start in range(0, len(prompts), at_once):
        batch = tokenizer(
            list(prompts[start : start + at_once]), return_tensors="pt", padding=True,
            add_special_tokens=False, return_token_type_ids=False,
        ).to(model.device)  # fmt: skip
        out = model.generate(
            **batch, max_new_tokens=longest, do_sample=sample, top_k=0, top_p=1.0,
            temperature=1.0, pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        replies += tokenizer.batch_decode(
            out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
        )
    tokenizer.padding_side = "right"
    tokenizer.backend_tokenizer.no_padding()
    return replies
