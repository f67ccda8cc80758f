"""How far the result of a kernel may be from the truth."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

LAUNCH: Any = import_module("vsr_plugin.kernels.launch")


def judge(result: Tensor, plain: Tensor, truth: Tensor, *, samples: bool, dtype: torch.dtype) -> None:
    """Rule 2: no further from the truth than twice plain torch in the same dtype; samples within 1, few of them."""
    assert result.shape == truth.shape
    if samples:
        away, theirs = ((x.int() - truth.int()).abs() for x in (result, plain))
        assert int(away.max()) <= max(1, 2 * int(theirs.max()))  # half precision has not the bits of 16-bit samples
        # Among few samples one that falls on the other side of a half is many.
        allowed = max(2 * int((theirs > 0).sum()), round(0.001 * truth.numel()), 2)
        assert int((away > 0).sum()) <= allowed
        return
    error = float((result.double() - truth).abs().max())
    # Other orders of summing have other luck: a thousandth of a code value of 8 bits, or one unit in the last place of
    # the largest number, is nobody's fault.
    luck = max(2**-18, torch.finfo(dtype).eps * float(truth.abs().max()))
    # Interpreted, bfloat16 is cut off where a GPU rounds, which is twice the error.
    cut = 2 if dtype == torch.bfloat16 and LAUNCH.INTERPRETED else 1
    assert error <= cut * max(2 * float((plain.double() - truth).abs().max()), luck)
