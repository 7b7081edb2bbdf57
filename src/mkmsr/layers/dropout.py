"""Dropout whose mask costs a quarter of a random number a component."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["dropout", "fixed_masks"]

_LEVELS = 2**16
"""A component's random number has 16 bits."""


def dropout(values: Tensor, share: float, training: bool) -> Tensor:
    """Zero each component with probability `share` and scale the others up, so that expectations stay.

    On a processor PyTorch draws a Bernoulli number for each component, at 9 to 13 ns. Here one random integer of 64
    bits serves four components: kept are those whose 16 bits are at least share x 65,536. The share is therefore
    rounded to a 65,536th, and the scale is that of the rounded share. PyTorch's generator is the only source of chance.
    """
    cut = round(share * _LEVELS)
    if not training or cut == 0:
        return values
    if values.device.type != "cpu" or cut >= _LEVELS:
        return F.dropout(values, share)
    result: Tensor = _Dropout.apply(values, cut)  # type: ignore[no-untyped-call]
    return result


def fixed_masks(count: int, width: int, share: float) -> Tensor:
    """Dropout masks that stay, for the mean of what a network says under each (Monte Carlo dropout). Shape [K, D].

    They are drawn once, the same ones everywhere, and balanced: every component is kept by the same number of masks,
    round((1 - share) K). Kept components are 1: nothing is scaled up. One mask keeps everything.

    Source: Gal, Ghahramani, ICML 2016, "Dropout as a Bayesian approximation", with masks drawn anew each time.
    """
    if count == 1 or share == 0:
        return torch.ones(1, width)
    order = torch.rand(count, width, generator=torch.Generator().manual_seed(0)).argsort(dim=0)
    return (order < max(1, round((1 - share) * count))).float()


class _Dropout(torch.autograd.Function):
    """y = f * x with f either 0 or the scale, and dx = f * dy."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, cut: int) -> Tensor:
        whole = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        numbers = whole.view(torch.int16)[: values.numel()].view(values.shape)
        factor = (numbers >= cut - _LEVELS // 2).to(values.dtype).mul_(_LEVELS / (_LEVELS - cut))
        ctx.save_for_backward(factor)
        return values * factor

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return gradients[0] * factor, None
