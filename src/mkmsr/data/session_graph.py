"""The transition graph of every prefix of a batch, and the tree of its operation prefixes, both ragged and vectorised.

Padding-free: a batch of 128 prefixes of the Demo log holds about 600 nodes, where padded adjacency matrices would hold
128 x 28 x 28 numbers. Dimension letters: B sessions, P positions (events of all prefixes), N nodes, U distinct values,
M transitions.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

MOST_HASH_BITS = 48
"""Bits of a prefix's number below its length; fewer where lengths need more than 15."""


class Messages(NamedTuple):
    """One of the two ways along transitions: nodes heard, nodes that hear, 1 / messages to the latter. Each [M].

    A transition that recurs stands as often as it occurs.
    """

    sender: Tensor
    receiver: Tensor
    weight: Tensor


@dataclass(frozen=True)
class SessionGraph:
    """Directed graphs of a batch's sessions, one node per distinct value of a session.

    Weights of a recurring transition add up to what counting and then dividing by the degree gives
    (`tests/data/test_session_graph.py` holds the literal matrices).

    Args:
        distinct: Distinct values of the whole batch, ascending. Shape [U].
        node_value, node_row: Position of each node's value in `distinct`, and its session. Shapes [N].
        alias: Node of each event. Shape [P].
        incoming: Along transitions, A+: who enters hears whom it was reached from.
        outgoing: Against them, A-: who leaves hears what it led to.
    """

    distinct: Tensor
    node_value: Tensor
    node_row: Tensor
    alias: Tensor
    incoming: Messages
    outgoing: Messages

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.node_value)


@dataclass(frozen=True)
class PrefixTree:
    """Distinct operation prefixes of a batch: a causal encoder need run once per tree node, not once per event.

    Most sessions begin "click, click, click": on Demo a batch of 128 prefixes has about 600 events but about 90
    distinct operation prefixes.

    Args:
        level_sizes: Nodes with prefixes of length 1, 2, ... L; nodes are numbered level by level.
        value: Last value of each node's prefix. Shape [sum of level_sizes].
        parent: Index of each node's parent within the level before (0 on the first level). Same shape.
        alias: Node of each event. Shape [P].
    """

    level_sizes: tuple[int, ...]
    value: Tensor
    parent: Tensor
    alias: Tensor


def build_session_graph(values: Tensor, rows: Tensor) -> SessionGraph:
    """Return the graph over consecutive values of each session.

    The values [P], not negative, are what nodes stand for, for example item indexes; the rows [P] are the session of
    each event, ascending.
    """
    distinct, value = torch.unique(values, return_inverse=True)
    width = max(len(distinct), 1)
    keys, alias = torch.unique(rows * width + value, return_inverse=True)
    same_session = rows[1:] == rows[:-1]
    source, destination = alias[:-1][same_session], alias[1:][same_session]
    in_degree, out_degree = torch.bincount(destination), torch.bincount(source)
    return SessionGraph(
        distinct=distinct,
        node_value=keys % width,
        node_row=keys // width,
        alias=alias,
        incoming=Messages(source, destination, 1.0 / in_degree[destination]),
        outgoing=Messages(destination, source, 1.0 / out_degree[source]),
    )


def build_prefix_tree(values: Tensor, offsets: Tensor) -> PrefixTree:
    """The tree of all distinct prefixes of sequences of small integers [P], not negative.

    Offsets [B + 1] say where each sequence begins, and P; none is empty.
    """
    if len(offsets) <= 2:  # One sequence has no prefix twice.
        return PrefixTree((1,) * len(values), values, torch.zeros_like(values), torch.arange(len(values)).to(values))
    trees = (_tree_by_hashes(values, offsets, salt) for salt in itertools.count())
    return next(tree for tree in trees if tree is not None)


def _tree_by_hashes(values: Tensor, offsets: Tensor, salt: int) -> PrefixTree | None:
    """The tree from a number for each prefix; None where two prefixes happen to share one.

    The number is the prefix's length and, below it, a sum over its events of a pseudo-random number that depends on
    place and value (Zobrist, A New Hashing Method with Application for Game Playing, 1970), so that one sort finds the
    tree, level by level. Shared numbers are found by looking at every event's value and parent.
    """
    bits = min(MOST_HASH_BITS, 63 - int(offsets.diff().max()).bit_length())
    events = torch.arange(len(values), device=values.device)
    begins = torch.repeat_interleave(offsets[:-1], offsets.diff(), output_size=len(values))
    place = events - begins
    noise = _scatter_bits(_scatter_bits(values + (salt << 32)) + place)
    sums = noise.cumsum(0)
    prefix = (sums - (sums - noise).index_select(0, begins)) & ((1 << bits) - 1)
    keys, alias = torch.unique((place << bits) | prefix, return_inverse=True)
    level_sizes = torch.bincount(keys >> bits).tolist()
    event = alias.new_empty(len(keys)).scatter_(0, alias, events)  # any event of each node
    value = values.index_select(0, event)
    before = torch.where(place > 0, alias.roll(1), -1)  # the node of each event's parent
    parent = before.index_select(0, event)
    differs = (value.index_select(0, alias) != values) | (parent.index_select(0, alias) != before)
    if bool(differs.any()):
        return None
    starts = torch.tensor([-1, *itertools.accumulate(level_sizes[:-2], initial=0)], device=values.device)
    sizes = torch.tensor(level_sizes, device=values.device)
    first = torch.repeat_interleave(starts[: len(sizes)], sizes, output_size=len(keys))
    return PrefixTree(tuple(level_sizes), value, parent - first, alias)


def _scatter_bits(numbers: Tensor) -> Tensor:
    """A pseudo-random int64 for each int64. Source: the finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        numbers = (numbers ^ (numbers >> shift)) * factor
    return numbers ^ (numbers >> 31)
