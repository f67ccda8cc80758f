"""The tests: they mirror vsr_plugin/ and kernels/."""

from typing import Any

import numpy as np

PATIENCE = 180
"""Seconds to wait for what must come, however busy the machine is."""


def distance(one: Any, other: Any) -> float:
    """The largest difference between two samples in one place; of arrays or tensors."""
    a, b = (np.asarray(each, np.float64) for each in (one, other))
    assert a.shape == b.shape
    return float(np.abs(a - b).max())
