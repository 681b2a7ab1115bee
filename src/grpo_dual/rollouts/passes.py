"""Forward passes of a wave of rollouts: logits behind the prompts, then behind each token drawn.

Two ways. :class:`SharedPass`, the CPU's, keeps the keys and values of a prompt once for several of
its completions and runs flat rows without padding. :class:`CachePass` is the model's own cache,
padded on the left and repeated K times: for other devices, models that take no flat rows and
sequences longer than an attention window, and the oracle of the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache

from grpo_dual.errors import ModelError
from grpo_dual.model.attention import ByGroup
from grpo_dual.model.policy import Policy


class Pass(Protocol):
    """The sequences of a wave: K of each prompt, in prompt order."""

    def prompts(self) -> Tensor:
        """[P, V] logits behind each prompt."""
        ...

    def tokens(self, tokens_B: Tensor, active_B: Tensor, step: int) -> Tensor:
        """[B, V] logits behind the tokens of the active sequences.

        Args:
            tokens_B: the last token of each active sequence.
            active_B: which of the P K sequences those are, ascending; they only ever get fewer.
            step: place of the tokens in their completions.
        """
        ...


class CachePass:
    """See :class:`Pass`."""

    def __init__(
        self, policy: Policy, prompts: Sequence[Sequence[int]], k: int, pad_id: int
    ) -> None:
        """``pad_id``: any valid id."""
        self._policy = policy
        self._k = k
        width = max(map(len, prompts))
        device = policy.device
        ids = [[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        self._ids = torch.tensor(ids, device=device)
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        self._mask = torch.tensor(mask, device=device)
        self._lengths = self._mask.sum(1)
        self._cache = DynamicCache()
        self._active = torch.arange(len(prompts) * k, device=device)

    def prompts(self) -> Tensor:
        """See :class:`Pass`."""
        logits = self._forward(self._ids, (self._mask.cumsum(1) - 1).clamp_min(0))
        self._cache.batch_repeat_interleave(self._k)
        self._mask, self._lengths = (
            t.repeat_interleave(self._k, 0) for t in (self._mask, self._lengths)
        )
        return logits

    def tokens(self, tokens_B: Tensor, active_B: Tensor, step: int) -> Tensor:
        """See :class:`Pass`."""
        if len(active_B) < len(self._active):
            where = torch.isin(self._active, active_B).nonzero().squeeze(1)
            self._cache.batch_select_indices(where)
            self._mask, self._lengths = self._mask[where], self._lengths[where]
            self._active = active_B
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(active_B), 1)], 1)
        return self._forward(tokens_B[:, None], self._lengths[:, None] + step)

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        output = self._policy.body(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        return self._policy.logits(output.last_hidden_state[:, -1])


class SharedPass:
    """See :class:`Pass`.

    Keys and values stand in rows of token slots (:class:`_Layout`): a prompt once for several
    completions, its lanes, whose queries meet it in one product. A mask hides from a lane the
    others' tokens.
    """

    def __init__(
        self, policy: Policy, prompts: Sequence[Sequence[int]], k: int, limit: int
    ) -> None:
        """``limit``: most tokens of a completion."""
        self._policy = policy
        self._k = k
        self._limit = limit
        device = policy.device
        self._ids = torch.tensor([i for prompt in prompts for i in prompt], device=device)
        self._sizes = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._layout: _Layout | None = None

    def prompts(self) -> Tensor:
        """See :class:`Pass`."""
        sizes = self._sizes.tolist()
        among_themselves = ByGroup([[size] for size in sizes], self._policy.causal_lm.dtype)

        def run(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
            if layer != len(self._keys):
                raise ModelError(
                    f"layers of {type(self._policy.causal_lm).__name__} share keys and values or "
                    "do not know their number, which rollouts on the CPU do not support; choose "
                    "another model, such as Llama, Qwen or Mistral"
                )
            self._keys.append(k)
            self._values.append(v)
            return among_themselves(layer, q, k, v, scale)

        positions = torch.cat([torch.arange(size) for size in sizes]).to(self._ids.device)
        last = self._sizes.cumsum(0) - 1
        return self._policy.logits(self._policy.flat_states(self._ids, positions, run, last))

    def tokens(self, tokens_B: Tensor, active_B: Tensor, step: int) -> Tensor:
        """See :class:`Pass`."""
        if self._layout is None:
            layout = self._together()
        elif self._layout.few(len(active_B)):
            layout = self._apart(self._layout, active_B, step)
        else:
            layout = self._layout
        slot_B = layout.place[active_B]
        begin, stop = layout.columns(step), layout.columns(step + 1)
        mask = layout.mask[..., :stop]

        def run(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
            keys, values = self._keys[layer][:, :stop], self._values[layer][:, :stop]
            keys[:, begin:] = layout.spread(k, slot_B)
            values[:, begin:] = layout.spread(v, slot_B)
            queries = layout.spread(q, slot_B)
            return _attend(queries, keys, values, mask, scale)[slot_B]

        positions = self._sizes[active_B // self._k] + step
        return self._policy.logits(self._policy.flat_states(tokens_B, positions, run))

    def _together(self) -> "_Layout":
        """Rows of as many completions of a prompt as pay."""
        width, k = int(self._sizes.max()), self._k
        # A lane's query meets the tokens of the others for nothing: no more than twice the prompt.
        lanes = max(1, min(k, 2 * width // self._limit))
        rows = -(-k // lanes)
        sequence = torch.arange(len(self._sizes) * k, device=self._sizes.device)
        own = sequence % k
        place = (sequence // k * rows + own // lanes) * lanes + own % lanes
        starts = (self._sizes.cumsum(0) - self._sizes).repeat_interleave(rows)
        sizes = self._sizes.repeat_interleave(rows)
        columns = torch.arange(width, device=sizes.device)
        # Padding is masked; it takes the prompt's last token, so that it is finite.
        was = starts[:, None] + torch.minimum(columns, sizes[:, None] - 1)
        return self._move(sizes, width, lanes, place, was)

    def _apart(self, old: "_Layout", active_B: Tensor, step: int) -> "_Layout":
        """A row for each sequence that still runs."""
        row, lane = old.place[active_B] // old.lanes, old.place[active_B] % old.lanes
        steps = torch.arange(step, device=lane.device)
        prompt = torch.arange(old.width, device=lane.device).expand(len(active_B), -1)
        columns = torch.cat([prompt, old.width + steps * old.lanes + lane[:, None]], 1)
        place = torch.zeros_like(old.place)
        place[active_B] = torch.arange(len(active_B), device=place.device)
        was = row[:, None] * old.slots + columns
        return self._move(old.sizes[row], old.width, 1, place, was)

    def _move(self, sizes: Tensor, width: int, lanes: int, place: Tensor, was: Tensor) -> "_Layout":
        """Take a new layout; ``was``: [rows, columns so far] where each slot's token stands now."""
        dtype = self._policy.causal_lm.dtype
        layout = _Layout.of(sizes, width, lanes, place, self._limit, dtype)
        for store in (self._keys, self._values):
            for layer, tokens in enumerate(store):
                moved = tokens.new_empty(len(sizes), layout.slots, *tokens.shape[-2:])
                moved[:, : was.shape[1]] = tokens.flatten(0, -3)[was]
                store[layer] = moved
        self._layout = layout
        return layout


@dataclass(frozen=True, slots=True)
class _Layout:
    """Rows of slots ``[prompt, padded | first token of each lane | second of each | ...]``.

    So all that is there at a step is the beginning of its row.
    """

    sizes: Tensor
    """[rows] tokens of each row's prompt."""
    width: int
    """Slots of a prompt."""
    lanes: int
    slots: int
    """Of a row."""
    place: Tensor
    """[P K] row and lane of each sequence, as row * lanes + lane."""
    mask: Tensor
    """[rows, 1, lanes, slots] to be added to the products: what a lane must not see."""

    @classmethod
    def of(
        cls, sizes: Tensor, width: int, lanes: int, place: Tensor, limit: int, dtype: torch.dtype
    ) -> "_Layout":
        """With its mask, for completions of ``limit`` tokens."""
        slots = width + lanes * limit
        column = torch.arange(slots, device=sizes.device)
        lane = torch.arange(lanes, device=sizes.device)
        others = (column - width) % lanes != lane[:, None]
        padding = column >= sizes[:, None, None]
        hidden = torch.where(column < width, padding, others)
        mask = torch.zeros(hidden.shape, dtype=dtype, device=sizes.device)
        mask.masked_fill_(hidden, -torch.inf)
        return cls(sizes, width, lanes, slots, place, mask[:, None])

    def columns(self, step: int) -> int:
        """Slots in front of a step's tokens."""
        return self.width + step * self.lanes

    def few(self, count: int) -> bool:
        """Does it pay to move so many sequences into rows of their own?"""
        return count * (4 if self.lanes > 1 else 2) <= len(self.sizes) * self.lanes

    def spread(self, x: Tensor, place_B: Tensor) -> Tensor:
        """[rows, lanes, heads, D] of the active sequences' [B, heads, D], zeros elsewhere."""
        shape = (len(self.sizes), self.lanes, *x.shape[1:])
        if len(x) == shape[0] * shape[1]:  # all are active, in order
            return x.reshape(shape)
        whole = x.new_zeros(shape)
        whole.flatten(0, 1).index_copy_(0, place_B, x)
        return whole


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float | None) -> Tensor:
    """[rows lanes, Hq, D] of queries [rows, lanes, Hq, D] and keys [rows, columns, Hkv, D]."""
    rows, lanes, heads, dim = q.shape
    shared = heads // k.shape[2]
    # Heads that share keys stand behind one another as more queries: no key is repeated for them.
    queries = q.view(rows, lanes, -1, shared, dim).permute(0, 2, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(
        queries.reshape(rows, -1, shared * lanes, dim),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask if shared == 1 else mask.repeat(1, 1, shared, 1),
        scale=scale,
    )
    mixed = mixed.view(rows, -1, shared, lanes, v.shape[-1]).permute(0, 3, 1, 2, 4)
    return mixed.reshape(rows * lanes, heads, v.shape[-1])


def choose_pass(
    policy: Policy, prompts: Sequence[Sequence[int]], k: int, limit: int, pad_id: int
) -> Pass:
    """The fastest pass that is exact.

    Args:
        policy: What is sampled from.
        prompts: Token ids of P prompts.
        k: Completions of each.
        limit: Most tokens of a completion.
        pad_id: Any valid id.
    """
    longest = max(map(len, prompts)) + limit
    in_window = policy.window is None or longest <= policy.window
    if policy.flat and policy.device.type == "cpu" and in_window:
        return SharedPass(policy, prompts, k, limit)
    return CachePass(policy, prompts, k, pad_id)
