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
