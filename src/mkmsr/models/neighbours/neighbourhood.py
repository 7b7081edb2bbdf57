"""What the look-ups of `SessionIndex` share: how neighbours are weighed, and who was found.

Dimension letters: M neighbours of all prefixes, S indexed sessions.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import Tensor

from mkmsr.models.neighbours.voting import NO_DECAY, Decay


@dataclass(frozen=True)
class VoteSettings:
    """How neighbours are found and how much each of their items gets.

        sim(s, n)  = sum over i in both of  prefix_decay(steps of i in s)  [/ sqrt(|s| |n|)]  * age_decay(n)
        score(s, i) = sum over n in N(s), i in n of  sim(s, n) * match_decay(steps of i*)
                      * gap_decay(|place of i - place of i*| in n) * (1 + w_idf idf(i))

    where i* is the newest item of the prefix that n has too, steps are counted back from the prefix's last event, what
    recurs stands at its newest place, and |.| counts distinct items.

    Args:
        neighbours: k, the sessions that vote: the most similar, the newest first among equals.
        sample_size: m, the sessions that may become neighbours: the newest that share an item with the prefix.
        cosine: Divide by sqrt(|s| |n|).
        prefix_decay: Of a prefix item, with its steps.
        match_decay: Of a neighbour, with the steps of i*.
        gap_decay: Of a neighbour's item, with its distance from i* there.
        age_decay: Of a neighbour, with its age in days (86,400 rows in a log without times), counted from the youngest
            neighbour of the same prefix. For an exponential decay every fixed point of time gives the same ranking.
        idf_weight: w_idf; idf(i) = log(S / sessions with i).
    """

    neighbours: int = 100
    sample_size: int = 1000
    cosine: bool = True
    prefix_decay: Decay = NO_DECAY
    match_decay: Decay = NO_DECAY
    gap_decay: Decay = NO_DECAY
    age_decay: Decay = NO_DECAY
    idf_weight: float = 0.0


@dataclass(frozen=True)
class Neighbours:
    """The chosen neighbour sessions of every prefix, by prefix and then from the newest to the oldest; shapes [M].

    Args:
        rows: Prefix.
        places: The neighbour's place in the index, 0 for the newest session.
        similarity: sim(s, n).
        shared: Distinct items of the prefix that the neighbour has too.
        steps: Steps in the prefix of i*, the newest item of the prefix that the neighbour has too.
        anchors: Place of i* in the neighbour, in events from its beginning.
    """

    rows: Tensor
    places: Tensor
    similarity: Tensor
    shared: Tensor
    steps: Tensor
    anchors: Tensor

    def chosen(self, which: Tensor) -> Neighbours:
        """The neighbours at the given positions or where a mask is true."""
        return Neighbours(*(getattr(self, each.name)[which] for each in fields(self)))
