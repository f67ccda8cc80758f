"""What several tests of kernels need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is not written holds NaN or 0xAB…, and so does memory that must not be written."""
    real = torch.empty

    def empty(*args: Any, **kwargs: Any) -> Tensor:
        return poison(real(*args, **kwargs))

    monkeypatch.setattr(torch, "empty", empty)
    # So that small frames have more than one segment.
    monkeypatch.setattr(import_module("vsr_plugin.kernels.strip"), "_LEAST_SEGMENT", 4)


def poison(x: Tensor) -> Tensor:
    if x.dtype.is_floating_point:
        return x.fill_(float("nan"))
    return x.fill_(0xAB if x.dtype == torch.uint8 else 0xABAB)
