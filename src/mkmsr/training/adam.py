"""`torch.optim.Adam` without the work around its one kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mkmsr.layers.columns import in_memory_order, like_stored

__all__ = ["LeanAdam"]


class LeanAdam(torch.optim.Adam):
    """Adam or AdamW as PyTorch's `fused` one, bit for bit, and with the same state.

    PyTorch's looks through its settings, checks and groups weights and states at every step. Between steps that fill
    the processor's caches with other things, that takes 0.3 ms for the 22 weights of MKM-SR, as long as moving two of
    its three million numbers does.

    A matrix that is stored by columns is moved in that order; PyTorch's copies it, its gradient and both moments.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            weights = [each for each in group["params"] if each.grad is not None]
            if weights:
                self._move(weights, group)
        return None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        assert set_to_none
        for group in self.param_groups:
            for weight in group["params"]:
                weight.grad = None

    def _move(self, weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        states = [self._state_of(each) for each in weights]
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
        first, second = group["betas"]
        kernel(
            [in_memory_order(each) for each in weights],
            [in_memory_order(like_stored(each.grad, each)) for each in weights],  # type: ignore[arg-type]
            [in_memory_order(state["exp_avg"]) for state in states],
            [in_memory_order(state["exp_avg_sq"]) for state in states],
            [],
            steps,
            lr=group["lr"],
            beta1=first,
            beta2=second,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

    def _state_of(self, weight: nn.Parameter) -> dict[str, Tensor]:
        """The weight's state as PyTorch's Adam keeps it; zeros before the first step."""
        state: dict[str, Tensor] = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=weight.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        return state
