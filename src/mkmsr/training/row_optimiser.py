"""Adam and Adagrad for tables of which a step touches few rows, and clipping where some gradients are sparse.

Dimension letters: m touched rows, V rows of the table, D embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class _TouchedRows(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move the weights with sparse gradients, and drop these gradients: the other optimiser moves the rest."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and weight.grad.is_sparse:
                    self._move_rows(weight, group)
                    weight.grad = None
        super().step()
        return None

    def _move_rows(self, weight: Tensor, group: dict[str, Any]) -> None:
        raise NotImplementedError


class RowAdam(_TouchedRows, torch.optim.Adam):
    """Adam whose step moves, of a weight with a sparse gradient, the touched rows alone; others as `torch.optim.Adam`.

    Over a table of 134,549 x 100, a step that touches 4,000 rows takes 3 ms instead of 19 (and its gradient 0.2 ms
    instead of 97, because no array of the table's size is made).

    Differs from Adam over the whole table: moments of a row decay only at steps that touch it, and so does its weight;
    a row does not drift on after its last touch.
    """

    def _move_rows(self, weight: Tensor, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        gradient = weight.grad.coalesce()
        rows, gradient_mD = gradient.indices()[0], gradient.values()
        state, rate, decay = self.state[weight], group["lr"], group["weight_decay"]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=weight.device if group["fused"] else None)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        weight_mD = weight.index_select(0, rows)
        if decay and group["decoupled_weight_decay"]:
            weight_mD *= 1 - rate * decay
        elif decay:
            gradient_mD = gradient_mD + decay * weight_mD
        first, second = group["betas"]
        mean_mD = state["exp_avg"].index_select(0, rows).lerp_(gradient_mD, 1 - first)
        square_mD = state["exp_avg_sq"].index_select(0, rows).mul_(second)
        square_mD.addcmul_(gradient_mD, gradient_mD, value=1 - second)
        state["exp_avg"].index_copy_(0, rows, mean_mD)
        state["exp_avg_sq"].index_copy_(0, rows, square_mD)
        spread_mD = square_mD.div_(1 - second ** state["step"]).sqrt_().add_(group["eps"])
        weight_mD -= mean_mD.div_(spread_mD).mul_(rate / (1 - first ** state["step"]))
        weight.index_copy_(0, rows, weight_mD)


class RowAdagrad(_TouchedRows, torch.optim.Adagrad):
    """Adagrad whose step takes, of a weight with a sparse gradient, the touched rows alone.

    A row that has no gradient stays where it is anyway, so that this is Adagrad over the whole table, but for the order
    of sums (whose rounding Adagrad magnifies where gradients are nearly zero), and but for a weight decay, which here a
    row feels only at steps that touch it.
    """

    def _move_rows(self, weight: Tensor, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        gradient = weight.grad.coalesce()
        rows, gradient_mD = gradient.indices()[0], gradient.values()
        state, decay = self.state[weight], group["weight_decay"]
        state["step"] += 1
        if decay:
            gradient_mD = gradient_mD + decay * weight.index_select(0, rows)
        sum_mD = state["sum"].index_select(0, rows).addcmul_(gradient_mD, gradient_mD)
        state["sum"].index_copy_(0, rows, sum_mD)
        rate = group["lr"] / (1 + (float(state["step"]) - 1) * group["lr_decay"])
        weight.index_add_(0, rows, gradient_mD / sum_mD.sqrt_().add_(group["eps"]), alpha=-rate)


def clip_gradients(weights: Iterable[nn.Parameter], norm: float) -> None:
    """Scale all gradients down so that their norm, all together, is at most `norm`."""
    weights = [each for each in weights if each.grad is not None]
    if not any(each.grad.is_sparse for each in weights if each.grad is not None):
        nn.utils.clip_grad_norm_(weights, norm)
        return
    parts = []
    for each in weights:
        assert each.grad is not None
        if each.grad.is_sparse:
            each.grad = each.grad.coalesce()
        parts.append(each.grad.values() if each.grad.is_sparse else each.grad)
    scale = (norm / (nn.utils.get_total_norm(parts) + 1e-6)).clamp(max=1.0)
    for part in parts:
        part.mul_(scale)
