"""What the processor can do that decides how networks are computed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_BYTES = {"avx_vnni", "avx512_vnni", "amx_int8"}


@cache
def features() -> frozenset[str]:
    """Names of instruction sets, as torch and Linux have them, such as amx_bf16."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), None)
    if flags is not None:
        return frozenset(flags)
    import torch  # seconds, where the system does not say

    return frozenset(name for name, there in torch.cpu.get_capabilities().items() if there is True)


def multiplies_bytes() -> bool:
    """Whether the processor multiplies bytes and sums them in 32 bits; on ARM, OpenVINO handles it."""
    import platform

    return platform.machine().lower() not in ("x86_64", "amd64", "x86", "i686") or bool(features() & _BYTES)
