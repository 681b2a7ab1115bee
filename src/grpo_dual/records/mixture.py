"""What each step trains on: exact shares over time, and the same draws after a resume."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Generic, TypeVar, cast

from grpo_dual.config.objectives import BbqData, HaluEvalData
from grpo_dual.errors import CheckpointError, ConfigError, DataError
from grpo_dual.records.apportion import next_by_quota, own_rng, water_fill
from grpo_dual.records.halueval import SUBSETS
from grpo_dual.records.strata import (
    Branch,
    Leaf,
    Node,
    bbq_gaps,
    bbq_tree,
    halueval_tree,
    leaves,
    size,
)
from grpo_dual.types import BbqRecord, HaluEvalRecord, Record

R = TypeVar("R", bound=Record)

_VERSION = 1


class Sampler(Generic[R]):
    """Draws the records of one objective, step after step.

    After every draw each branch of the tree has its share to within less than one record (quota
    method). Within a leaf every record is drawn once before any is drawn again, each time in a new
    order. All randomness follows from ``seed`` and the number of draws, so that the state is a
    count per leaf.

    A leaf with few records would be repeated often to fill its share. With ``max_repeats`` the
    shares of the first level are cut so that no record is drawn more than that often in an epoch
    (as many draws as there are records), the others take the rest in proportion, and ``notes`` says
    so. Where no branch can take the rest, the shares stay in proportion to what each may give.
    """

    def __init__(
        self,
        tree: Node[R],
        *,
        seed: int,
        max_repeats: int | None = None,
        what: str = "records",
        notes: Sequence[str] = (),
    ) -> None:
        if not size(tree):
            raise DataError(f"{what}: there are no records to draw from; check data.path.")
        self._seed = seed
        cut = list(notes)
        if max_repeats is not None and isinstance(tree, Branch):
            tree, told = cap_repeats(tree, max_repeats, what)
            cut += told
        self.notes: tuple[str, ...] = tuple(cut)
        """What differs from what was asked, one sentence each; to be shown to the user."""
        self._tree = tree
        self._drawn = {path: 0 for path, _ in leaves(tree)}
        self._orders: dict[str, tuple[int, list[int]]] = {}
        self._ranked = _rank(tree, "", seed)
        self._counts = _count(tree, "", self._drawn)

    @property
    def records(self) -> tuple[R, ...]:
        """All that it can draw, by stratum."""
        return tuple(record for _, node in leaves(self._tree) for record in node.records)

    def draw(self, n: int) -> list[R]:
        """The next ``n`` records."""
        return [self._next() for _ in range(n)]

    def _next(self) -> R:
        node, path = self._tree, ""
        while isinstance(node, Branch):
            name = next_by_quota(self._counts[path], self._ranked[path])
            self._counts[path][name] += 1
            node, path = node.children[name], f"{path}/{name}" if path else name
        count = self._drawn[path]
        self._drawn[path] += 1
        epoch, position = divmod(count, len(node.records))
        known = self._orders.get(path)
        if known is None or known[0] != epoch:
            order = list(range(len(node.records)))
            own_rng(self._seed, "epoch", path, epoch).shuffle(order)
            known = self._orders[path] = (epoch, order)
        return node.records[known[1][position]]

    def fingerprint(self) -> str:
        """Hash of seed, shares and record ids: two samplers with the same one draw the same."""
        digest = hashlib.sha256(str(self._seed).encode())
        for path, shares in sorted(self._ranked.items()):
            digest.update(f"{path}:{sorted(shares.items())}".encode())
        for path, node in sorted(leaves(self._tree)):
            digest.update(f"{path}:{[record.record_id for record in node.records]}".encode())
        return digest.hexdigest()

    def state_dict(self) -> dict[str, object]:
        """The state as JSON values."""
        return {
            "version": _VERSION,
            "fingerprint": self.fingerprint(),
            "drawn": dict(self._drawn),
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Goes on exactly where ``state_dict`` was taken.

        Raises:
            CheckpointError: the state is of other records, shares or another seed, or is damaged.
        """
        if state.get("version") != _VERSION or state.get("fingerprint") != self.fingerprint():
            raise CheckpointError(
                "The sampler's state belongs to other data: records, shares or seed have changed "
                "since the checkpoint. Resume with the configuration and data of the run, or start "
                "a new one."
            )
        drawn = state.get("drawn")
        if not isinstance(drawn, dict) or set(cast("dict[str, object]", drawn)) != set(self._drawn):
            raise CheckpointError(
                "The sampler's state is damaged: `drawn` does not fit its strata."
            )
        counts = cast("dict[str, object]", drawn)
        for path, count in counts.items():
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise CheckpointError(f"The sampler's state is damaged: {path} is {count!r}.")
            self._drawn[path] = count
        self._counts = _count(self._tree, "", self._drawn)


def cap_repeats(tree: Branch[R], max_repeats: int, what: str) -> tuple[Branch[R], tuple[str, ...]]:
    """Cuts first-level shares so that no record is drawn over ``max_repeats`` times an epoch."""
    epoch = size(tree)
    caps = {name: _capacity(child, max_repeats) / epoch for name, child in tree.children.items()}
    shares = water_fill(tree.shares, caps)
    notes = [
        f"{what}: {name} has {size(tree.children[name])} records; repeated at most {max_repeats} "
        f"times in an epoch of {epoch} draws, it gets {float(shares[name]):.1%} of them instead of "
        f"{float(tree.shares[name]):.1%}, and the other subsets take the rest."
        for name in shares
        if shares[name] < tree.shares[name]
    ]
    return Branch(shares, tree.children), tuple(notes)


def _capacity(node: Node[R], max_repeats: int) -> Fraction:
    """Draws that a subtree can give while no record is drawn over ``max_repeats`` times."""
    if isinstance(node, Leaf):
        return Fraction(max_repeats * len(node.records))
    return min(
        _capacity(child, max_repeats) / node.shares[name] for name, child in node.children.items()
    )


def _rank(node: Node[R], path: str, seed: int) -> dict[str, dict[str, Fraction]]:
    """Shares of every branch in a seeded order, which decides ties; by path."""
    if isinstance(node, Leaf):
        return {}
    names = sorted(node.shares)
    own_rng(seed, "rank", path).shuffle(names)
    ranked = {path: {name: node.shares[name] for name in names}}
    for name, child in node.children.items():
        ranked.update(_rank(child, f"{path}/{name}" if path else name, seed))
    return ranked


def _count(node: Node[R], path: str, drawn: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Draws of every child of every branch, from the draws of the leaves; by path."""
    if isinstance(node, Leaf):
        return {}
    counts: dict[str, dict[str, int]] = {path: {}}
    for name, child in node.children.items():
        inner = f"{path}/{name}" if path else name
        counts[path][name] = sum(
            drawn[f"{inner}/{tail}" if tail else inner] for tail, _ in leaves(child)
        )
        counts.update(_count(child, inner, drawn))
    return counts


def bbq_sampler(records: Iterable[BbqRecord], data: BbqData, *, seed: int) -> Sampler[BbqRecord]:
    """Sampler of BBQ: the ambiguous fraction, then polarities and categories equally.

    Raises:
        DataError: there are no records.
    """
    tree = bbq_tree(records, ambiguous_fraction=data.ambiguous_fraction)
    gaps = bbq_gaps(tree, data.ambiguous_fraction)
    return Sampler(tree, seed=seed, what="BBQ", notes=gaps)


def halueval_sampler(
    records: Iterable[HaluEvalRecord], data: HaluEvalData, *, seed: int
) -> Sampler[HaluEvalRecord]:
    """Sampler of HaluEval: subset weights with capped repeats, task form, detection half yes.

    Args:
        records: pairs in ANSWER form, ``general`` in DETECT form, as the reader gives them.
        data: weights, shares of the task forms, length matching and the cap on repeats.
        seed: of all draws.

    Raises:
        ConfigError: a subset has an unknown name or a negative weight, or all weights are 0.
        DataError: there are no records to draw from.
    """
    for name, weight in data.subsets.items():
        if name not in SUBSETS or weight < 0:
            raise ConfigError(
                f"data.subsets.{name}: {weight} is no weight of a HaluEval subset; the subsets are "
                f"{', '.join(SUBSETS)}, and weights are 0 or more."
            )
    if not any(data.subsets.values()):
        raise ConfigError("data.subsets: all weights are 0; give at least one subset a weight.")
    tree, notes = halueval_tree(records, data, seed=seed)
    return Sampler(tree, seed=seed, max_repeats=data.max_repeats, what="HaluEval", notes=notes)
