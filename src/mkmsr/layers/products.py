"""Matrix products of 32-bit numbers on a processor, by the faster of the two libraries that PyTorch carries.

PyTorch's `mm` calls MKL, which on processors of AMD keeps to half-wide instructions; oneDNN multiplies 2 to 2.5 times
as fast there (docs/log has the figures). PyTorch keeps it for its own compiler, as an operation without a promise of
staying; where it is missing, on other devices and for other types, these functions are `mm`.

oneDNN makes a program for each shape that it meets, in 0.2 to 3 ms, and keeps the last thousand. So shapes should come
back: `padded_rows` says to which number of rows a ragged array is filled up.

Dimension letters: M rows, K inputs, N outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["padded_rows", "product"]

_SMALLEST_WORK = 2**18
"""Multiplications below which calling oneDNN costs more than it saves."""
_FEWEST_ROWS = 16
"""Rows below which a product is little more than reading the other matrix."""


def product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right, by oneDNN only where no gradient is asked for. Shapes [M, K] and [K, N] -> [M, N]."""
    rows, inputs = left.shape
    differentiable = torch.is_grad_enabled() and (left.requires_grad or right.requires_grad)
    is_large = rows >= _FEWEST_ROWS and rows * inputs * right.shape[1] >= _SMALLEST_WORK
    if is_large and not differentiable and _is_for_onednn(left, right):
        # PyTorch copies a left side that is stored by columns. Its numbers may be more than those of the right side and
        # of the product together, which are copied where the transposed product is taken: there any storage will do.
        if not left.is_contiguous() and left.numel() > right.numel() + rows * right.shape[1]:
            return _rows_times(right.T.contiguous(), _whole(left)).T.contiguous()
        return _rows_times(_whole(left), _whole(right.T))
    return left @ right


def padded_rows(rows: int) -> int:
    """The next number of rows among sixteen an octave, at least a multiple of 16."""
    step = max(16, 1 << max(0, rows.bit_length() - 5))
    return -(-rows // step) * step


def _rows_times(left: Tensor, right_columns: Tensor) -> Tensor:
    """left @ right_columns.T by oneDNN. Shapes [M, K] and [N, K] -> [M, N]."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(left, right_columns, None, "none", [], "")
    return result


def _whole(matrix: Tensor) -> Tensor:
    """The matrix without gaps between its rows or columns: for those oneDNN has nothing but a slow loop."""
    return matrix if matrix.is_contiguous() or matrix.T.is_contiguous() else matrix.contiguous()


def _is_for_onednn(*tensors: Tensor) -> bool:
    if not _has_onednn():
        return False
    return all(each.device.type == "cpu" and each.dtype == torch.float32 for each in tensors)


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
