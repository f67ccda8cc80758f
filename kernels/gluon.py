"""The names used from Gluon, the language below Triton in which a program manages layouts and shared memory itself.

Gluon's interface is experimental, and changes between versions of Triton: this is the one of 3.9. With another one,
`AVAILABLE` is false, and modules written in Gluon must not be imported.
"""

from __future__ import annotations

from typing import Any

try:
    from triton.experimental.gluon import constexpr_function as constexpr_function
    from triton.experimental.gluon import jit as jit
    from triton.experimental.gluon import language as language
    from triton.experimental.gluon._runtime import GluonASTSource as GluonASTSource
    from triton.experimental.gluon.language.nvidia.ampere import async_copy as async_copy
    from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared as fence_async_shared
except ImportError:
    AVAILABLE = False
else:
    _NEEDED = (
        "BlockedLayout", "DistributedLinearLayout", "NVMMADistributedLayout", "SharedLinearLayout", "SliceLayout",
        "SwizzledSharedLayout", "allocate_shared_memory", "barrier", "convert_layout", "inline_asm",
    )  # fmt: skip
    AVAILABLE = all(hasattr(language, name) for name in _NEEDED) and hasattr(async_copy, "async_load")
"""Whether Gluon is available, with all names that are used from it."""


def is_gluon(kernel: Any) -> bool:
    """Whether a jitted function is written in Gluon."""
    return bool(getattr(kernel, "is_gluon", lambda: False)())
