"""Plain torch, on the CPU and on CUDA: the reference for all other backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..kernels import exact_float32
from ..models.deconvolution import with_subpixel_deconvolutions
from ..models.own import check_result
from .memory import translated_errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from ..models import NetworkSpec
    from ..sources import Source
    from . import Device, Precision


class EagerBackend:
    """Runs the module unchanged, channels-last, in float32, float16 or bfloat16."""

    devices = ("cpu", "cuda")
    own_threads = False
    has_cache = False
    reads_samples = False
    is_lazy = False
    largest_batch = 16

    def default_precision(self, sources: Iterable[Source], spec: NetworkSpec, device: Device) -> Precision:
        """float16 on CUDA, which costs no model more than 0.003 dB; float32 on the CPU, where bfloat16 costs 0.06."""
        return "float16" if device.type == "cuda" else "float32"

    def compile(
        self,
        module: nn.Module,
        spec: NetworkSpec,
        shape: tuple[int, int, int, int],
        precision: Precision,
        device: Device,
    ) -> EagerNetwork:
        """Copy the module to the device; the copy takes inputs of any shape."""
        with translated_errors(f"eager: loading {spec.name}"):
            module = with_subpixel_deconvolutions(module).eval().requires_grad_(requires_grad=False)
            dtype: torch.dtype = getattr(torch, precision)
            module = module.to(device, dtype).to(memory_format=torch.channels_last)
            return EagerNetwork(module, spec.name, dtype)


class EagerNetwork:
    """A module in its precision; float32 in and out."""

    def __init__(self, module: nn.Module, name: str, dtype: torch.dtype) -> None:
        self._module = module
        self._name = name
        self._dtype = dtype

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Run one batch."""
        with translated_errors(f"eager: running {self._name}"):
            x = x.to(self._dtype, memory_format=torch.channels_last)
            with exact_float32(x):
                result = check_result(self._module(x), self._name)
            return result.to(torch.float32)

    def close(self) -> None:
        """Free the module."""
        del self._module
