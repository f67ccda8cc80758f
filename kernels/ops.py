"""The kernels that backends and the facade use; importing this module loads Triton."""

# No postponed annotations here: torch reads the types.

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from . import color, espcn, fsrcnn, gluon
from .color import enlarge_samples as enlarge_samples
from .color import planes_to_rgb as planes_to_rgb
from .color import rgb_to_planes as rgb_to_planes
from .convolution import Form as Form
from .convolution import Packed, convolution
from .convolution import pack as pack
from .launch import INTERPRETED as INTERPRETED
from .launch import LOCK as LOCK
from .launch import impatient as impatient
from .launch import patience as patience
from .launch import probe as probe
from .sampling import shuffle_to_samples as shuffle_to_samples
from .whole import WholeKernel

WHOLE: tuple[WholeKernel, ...] = (espcn.KERNEL, fsrcnn.KERNEL)
"""The kernels that compute a whole network; those for some GPUs only come first."""

if gluon.AVAILABLE:
    from . import convolution_rows, espcn_rows, fsrcnn_rows

    WHOLE = (espcn_rows.HOPPER, espcn_rows.AMPERE, fsrcnn_rows.HOPPER, fsrcnn_rows.AMPERE, *WHOLE)


def layer(packed: Packed) -> Callable[..., Tensor]:
    """A function that computes a layer on the device of its weights: a special kernel if one fits, or `convolution`.

    It takes all arguments of `convolution` but ``packed`` and ``out``.
    """
    if gluon.AVAILABLE and convolution_rows.supports(packed):
        return convolution_rows.layer(packed)
    return partial(convolution, packed=packed)


@torch.library.custom_op("vsr_plugin::enlarge", mutates_args=())
def enlarge(x: Tensor, scale: int, peak: int | None, dtype: torch.dtype) -> Tensor:
    """`color.enlarge` with edges repeated, for networks: an operator of torch, which torch.export keeps."""
    return color.enlarge(x, scale, peak=peak, dtype=dtype)


@enlarge.register_fake
def _(x: Tensor, scale: int, peak: int | None, dtype: torch.dtype) -> Tensor:
    n, c, h, w = x.shape
    return torch.empty((n, c, h * scale, w * scale), dtype=dtype, device=x.device)
