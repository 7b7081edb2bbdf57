"""The weights of COMPASS's components, from the last micro-behaviour and from how much each has to say.

Dimension letters: B sessions, C components, F features, D size of a micro-behaviour vector.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["SMALLEST", "MixtureGates"]

SMALLEST = 1e-12
"""Probabilities below this are not told apart from it."""
_EVEN_SHARE = 0.03
"""Share of the mixture that is spread evenly: no component ever falls silent, so each goes on learning."""
_HIDDEN = 32


class MixtureGates(nn.Module):
    """Log weights of the components of a mixture.

    Args:
        width: D.
        features: F.
        components: C.
    """

    def __init__(self, width: int, features: int, components: int):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(width + features, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, components))

    def forward(self, last_BD: Tensor, features_BF: Tensor, silent_BC: Tensor, extra_BC: Tensor | None) -> Tensor:
        """last micro-behaviour, features, which components have nothing to say, what else to add -> [B, C]."""
        logits_BC: Tensor = self.network(torch.cat([last_BD, features_BF], dim=1))
        if extra_BC is not None:
            logits_BC = logits_BC + extra_BC
        gates_BC = logits_BC.masked_fill(silent_BC, -torch.inf).softmax(1)
        even_BC = ~silent_BC / (~silent_BC).sum(1, keepdim=True)
        return ((1 - _EVEN_SHARE) * gates_BC + _EVEN_SHARE * even_BC).clamp_min(SMALLEST).log()
