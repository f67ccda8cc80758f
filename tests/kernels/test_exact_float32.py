"""One setting of torch for all threads: the last that needs it puts it back."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import torch

from vsr_plugin.kernels import exact_float32


def test_overlapping_uses_leave_the_setting_as_it_was() -> None:
    x: Any = SimpleNamespace(is_cuda=True)
    before = torch.backends.cudnn.allow_tf32
    first, second = ExitStack(), ExitStack()
    try:
        torch.backends.cudnn.allow_tf32 = True
        first.enter_context(exact_float32(x))
        second.enter_context(exact_float32(x))
        first.close()
        assert not torch.backends.cudnn.allow_tf32
        second.close()
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before


def test_torchs_newer_setting_is_left_as_it_was() -> None:
    x: Any = SimpleNamespace(is_cuda=True)
    cudnn: Any = torch.backends.cudnn
    before = cudnn.allow_tf32
    try:
        cudnn.rnn.fp32_precision, cudnn.conv.fp32_precision = "ieee", "tf32"  # allow_tf32 can no longer be read
        with exact_float32(x):
            assert cudnn.conv.fp32_precision == "ieee"
        assert (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision) == ("tf32", "ieee")
    finally:
        cudnn.allow_tf32 = before
