"""What both pretraining scripts share: tokens said twice, batches, and a step that is one graph."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaForCausalLM

TIMED = range(50, 150)
"""Steps whose pace tells how many fit: behind the compilation of the first."""


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
    count: int,
    seed: int,
    vocabulary: int,
    width: int,
    first: int,
    shortest: int | None = None,
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
        shortest: Length of the shortest repeated piece, then drawn evenly on a log scale, which is
            learnt sooner; evenly from 8 on where it is None.

    Returns:
        Token ids [count, width], and [count, 2] the length of prompt and of all.
    """
    rng = np.random.default_rng(seed)
    tokens = rng.integers(first, vocabulary, (count, width), dtype=np.int16)
    if shortest is None:
        periods = rng.integers(8, width // 2, count)
    else:
        drawn = rng.uniform(math.log(shortest), math.log(width // 2), count)
        periods = np.exp(drawn).astype(np.int64)
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


def bucketed(
    ids: np.ndarray,
    spans: np.ndarray,
    widths: Sequence[int],
    tokens: int,
    seed: int,
    device: str,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of rows of about one length, cut to the smallest of ``widths`` that holds them.

    Each batch has some ``tokens`` tokens; widths alternate in proportion to what is in them.
    """
    ends = spans[:, 1]
    bounds = [0, *widths]
    parts = [np.flatnonzero((ends > low) & (ends <= high)) for low, high in pairwise(bounds)]
    sizes = [max(1, tokens // width) for width in widths]
    kept = [i for i, (part, size) in enumerate(zip(parts, sizes, strict=True)) if len(part) >= size]
    streams = {
        i: batches(ids[parts[i], : widths[i]], spans[parts[i]], sizes[i], seed, device)
        for i in kept
    }
    shares = np.array([len(parts[i]) / sizes[i] for i in kept])
    rng = np.random.default_rng(seed)
    while True:
        yield next(streams[kept[rng.choice(len(kept), p=shares / shares.sum())]])


@dataclass(slots=True)
class _Captured:
    """A step's graph and the batch's memory, which has to stay where it is."""

    graph: torch.cuda.CUDAGraph
    ids: torch.Tensor
    spans: torch.Tensor


class Trainer:
    """AdamW on the weighted next-token loss; on a GPU the whole step is one CUDA graph a shape.

    The model is so small that a step of separate kernel launches takes five times the graph's time,
    and layers that are not compiled twice as long again.
    """

    def __init__(self, model: LlamaForCausalLM, prompt_weight: float, device: str) -> None:
        """Prompts' tokens count ``prompt_weight``, replies' 1."""
        self.model, self.device = model, device
        self._graphs: dict[tuple[int, ...], _Captured] = {}
        self._prompt_weight = prompt_weight
        self.reply_loss = torch.zeros((), device=device)
        on_gpu = device == "cuda"
        self._layer: Callable[..., torch.Tensor] = _layer
        self._token_losses: Callable[..., torch.Tensor] = _token_losses
        if on_gpu:
            torch._dynamo.config.recompile_limit = 64
            self._layer = torch.compile(_layer, dynamic=False)
            self._token_losses = torch.compile(_token_losses, dynamic=False)
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
        captured = self._graphs.get(tuple(ids.shape))
        if captured is None:
            captured = self._graphs[tuple(ids.shape)] = self._capture(ids.clone(), spans.clone())
        captured.ids.copy_(ids)
        captured.spans.copy_(spans)
        captured.graph.replay()

    def _capture(self, ids: torch.Tensor, spans: torch.Tensor) -> _Captured:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._update(ids, spans)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._update(ids, spans)
        return _Captured(graph, ids, spans)

    def losses(self, ids: torch.Tensor) -> torch.Tensor:
        """Negative log-probability of every token but the first [rows * (width - 1)].

        Rows are padded on the right, so that causal attention needs no mask.
        """
        body = self.model.model
        hidden = body.embed_tokens(ids)
        place = torch.arange(ids.shape[1], device=ids.device)[None]
        turns = body.rotary_emb(hidden, position_ids=place)
        for layer in body.layers:
            hidden = self._layer(layer, hidden, turns, place)
        hidden = body.norm(hidden)[:, :-1].flatten(0, 1)
        return self._token_losses(hidden, self.model.lm_head.weight, ids[:, 1:].flatten())

    @torch.no_grad()
    def exact(self, ids: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
        """Whether every token of a row's reply is the likeliest behind those before it [rows]."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            likeliest = self.model(input_ids=ids).logits[:, :-1].argmax(-1)
        place = torch.arange(1, ids.shape[1], device=ids.device)
        prompt, whole = spans.T[:, :, None]
        said = (place >= prompt) & (place < whole)
        return ((likeliest == ids[:, 1:]) | ~said).all(1)

    def _update(self, ids: torch.Tensor, spans: torch.Tensor) -> None:
        prompt, whole = spans.T[:, :, None]
        place = torch.arange(ids.shape[1], device=self.device)
        weights = torch.where(place < prompt, self._prompt_weight, 1.0) * (place < whole)
        weights = weights[:, 1:].flatten()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            losses = self.losses(ids)
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        said = (weights == 1.0).float()
        self.reply_loss.copy_(((losses * said).sum() / said.sum()).detach())


def _layer(
    layer: torch.nn.Module,
    hidden: torch.Tensor,
    turns: tuple[torch.Tensor, torch.Tensor],
    place: torch.Tensor,
) -> torch.Tensor:
    return layer(hidden, attention_mask=None, position_ids=place, position_embeddings=turns)


def _token_losses(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = torch.nn.functional.linear(hidden, head).float()
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def phase(
    trainer: Trainer,
    source,
    steps: int,
    peak: float,
    name: str,
    seconds: float | None,
    probe: Callable[[], str] | None = None,
) -> int:
    """Train with linear warm-up and cosine decay to a fiftieth of the peak.

    What ``probe`` finds is printed beside every loss.

    With ``seconds``, the number of steps is chosen by the pace of those `TIMED`, to last about so
    long.

    Returns:
        The steps taken.
    """
    trainer.model.train()
    on_gpu = trainer.device == "cuda"
    every = 1000 if on_gpu else 50
    began = time.monotonic()
    for step, (ids, spans) in enumerate(source):
        if seconds and step in (TIMED.start, TIMED.stop):
            if on_gpu:
                torch.cuda.synchronize()
            if step == TIMED.start:
                began = time.monotonic()
            else:
                steps = step + int(seconds / (time.monotonic() - began) * len(TIMED))
                print(f"{name}: {steps} steps", flush=True)
        decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1, step / steps)))
        trainer.step(ids, spans, peak * min(1, (step + 1) / 200) * decay)
        done = step + 1
        if done % every == 0 or done == steps:
            reply, spent = trainer.reply_loss.item(), time.monotonic() - began
            found = probe() if probe else ""
            print(f"{name} step {done} reply {reply:.4f} {spent:.0f} s {found}", flush=True)
        if done == steps and not (seconds and done < TIMED.stop):
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
