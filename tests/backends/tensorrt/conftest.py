"""A library that stands in for TensorRT-RTX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from tests.backends.tensorrt.fakes import Library


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    """The only one that can be imported, on a machine with an L4."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from tests.backends.tensorrt.fakes import Library, install

    found = Library()
    install(monkeypatch, tensorrt_rtx=found)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA L4")
    return found
