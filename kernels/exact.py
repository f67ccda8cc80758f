"""Convolutions of float32 without TF32 rounding on CUDA."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_lock = threading.Lock()
_users = 0
_put_back: Callable[[], None]


def exact_float32(x: Tensor) -> AbstractContextManager[None]:
    """Make convolutions of float32 on CUDA keep all bits; torch would round factors to 11 bits."""
    if not x.is_cuda or torch.compiler.is_compiling():
        return nullcontext()
    return _exact()


@contextmanager
def _exact() -> Iterator[None]:
    """Change torch's global setting; of several threads at once, the first changes it and the last restores it."""
    global _users, _put_back
    with _lock:
        if _users == 0:
            _put_back = _forbid_tf32()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _put_back()


def _forbid_tf32() -> Callable[[], None]:
    """Change torch's global setting; return a function that restores it."""
    cudnn: Any = torch.backends.cudnn
    try:
        before = cudnn.allow_tf32
    except RuntimeError:  # torch refuses this reading once `fp32_precision`, its newer name, has been set
        conv = cudnn.conv
        before = conv.fp32_precision
        conv.fp32_precision = "ieee"
        return partial(setattr, conv, "fp32_precision", before)
    cudnn.allow_tf32 = False
    return partial(setattr, cudnn, "allow_tf32", before)
