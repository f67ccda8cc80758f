"""Named inputs for every kernel: the tests check small ones, and `vsr bench kernels` times large ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from . import color, espcn, fsrcnn, gluon, reference, sampling
from .convolution import convolution, empty, pack
from .examples import espcn_layers, fsrcnn_layers, in_dtype, random_layer
from .launch import is_recording
from .reference import SampleFormat

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from .reference import Layer
    from .whole import WholeKernel


@dataclass(frozen=True)
class Work:
    """One case of one size.

    Attributes:
        kernel: Calls the kernel; some take ``out``.
        plain: Makes a function that computes the same in plain torch, in a given dtype; float64 is the truth.
        result: Shape of the result, if the kernel takes ``out``; otherwise None.
        samples: Whether the result is samples.
        bytes: Bytes that must be read and written, each once.
        flops: Two for each necessary multiply-accumulate.
        layers: For a whole network: the same by one kernel for each layer.
    """

    kernel: Callable[..., Any]
    plain: Callable[[torch.dtype], Callable[[], Any]]
    result: tuple[int, ...] | None
    samples: bool
    bytes: int
    flops: int = 0
    layers: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Case:
    """A kernel and how it is used.

    Attributes:
        kernel: Its name.
        name: The name of this use.
        prepare: (n, height, width, dtype, device) → the work.
        timed: Whether the bench, which measures 1080p input, times it.
        gpus: (compute capability, such as 90 for 9.0, type) → whether it is for them; None for all.
    """

    kernel: str
    name: str
    prepare: Callable[[int, int, int, torch.dtype, torch.device], Work]
    timed: bool = False
    gpus: Callable[[int, torch.dtype], bool] | None = None

    def runs_on(self, architecture: int, dtype: torch.dtype) -> bool:
        """Whether it runs on a compute capability, in a type."""
        return self.gpus is None or self.gpus(architecture, dtype)


def _random(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, depth: int | None = None) -> Tensor:
    """Numbers in [0, 1], or samples: 8 bits in uint8; otherwise 10 bits, or ``depth``."""
    if dtype.is_floating_point and len(shape) == 4 and shape[1] > 1:
        n, c, h, w = shape
        x = empty((n, c, h, w), dtype, device)
    else:
        x = torch.empty(shape, dtype=dtype, device=device)
    if is_recording():
        return x
    generator = torch.Generator(device).manual_seed(sum(shape))
    if dtype.is_floating_point:
        return x.copy_(torch.rand(shape, generator=generator, device=device))
    high = 1 << (depth or (8 if dtype == torch.uint8 else 10))
    return x.copy_(torch.randint(0, high, shape, generator=generator, device=device))


def _convolution(
    layer: Layer,
    n: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    stored: torch.dtype | None = None,
    residual: bool = False,
    depth: int | None = None,
    rows: bool = False,
) -> Work:
    out, channels, size, _ = layer.weight.shape
    target = None if depth is None else SampleFormat((1 << depth) - 1, depth)
    x = _random((n, channels, height, width), stored or dtype, device)
    source = _format(x.dtype)
    packed = pack(layer, dtype, device)
    shape = packed.form.result(n, height, width)
    added = _random(shape, dtype, device) if residual else None

    def plain(dtype: torch.dtype) -> Callable[[], Tensor]:
        given = x if source is not None else x.to(dtype, memory_format=torch.channels_last)
        other = None if added is None else added.to(dtype, memory_format=torch.channels_last)
        form = in_dtype(layer, dtype, device)
        return partial(reference.convolution, given, form, residual=other, source=source, target=target)

    stores = (dtype if target is None else target.dtype).itemsize
    moved = x.numel() * x.element_size() + torch.Size(shape).numel() * stores
    moved += 0 if added is None else added.numel() * added.element_size()
    pixels = n * shape[2] * shape[3] // layer.shuffle**2
    kernel = partial(convolution, x, packed, residual=added, source=source, target=target)
    if rows:
        from .convolution_rows import convolution_rows
        from .convolution_rows import pack as pack_rows

        kernel = partial(convolution_rows, x, packed, pack_rows(packed), residual=added)
    return Work(kernel, plain, shape, target is not None, moved, 2 * pixels * out * channels * size**2)


def _format(stored: torch.dtype, depth: int | None = None) -> SampleFormat | None:
    """The format of full-range 8 bits or limited-range 10 bits; with ``depth``, of full range with so many bits."""
    if stored.is_floating_point:
        return None
    if depth is not None:
        return SampleFormat((1 << depth) - 1, depth)
    return SampleFormat(255, 8) if stored == torch.uint8 else SampleFormat(1020, 10)


def _chain(
    whole: WholeKernel,
    layers: tuple[Layer, ...],
    n: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    stored: torch.dtype = torch.float32,
    depth: int | None = None,
) -> Work:
    x = _random((n, 1, height, width), stored, device, depth)
    samples = _format(stored, depth)
    packed = tuple(pack(layer, dtype, device) for layer in layers)
    r = layers[-1].shuffle

    def plain(dtype: torch.dtype) -> Callable[[], Tensor]:
        given = x if samples is not None else x.to(dtype)
        forms = tuple(in_dtype(layer, dtype, device) for layer in layers)
        return partial(reference.chain, given, forms, source=samples, target=samples)

    def one_by_one() -> Tensor:
        h = convolution(x, packed[0], source=samples)
        for layer in packed[1:-1]:
            h = convolution(h, layer)
        return convolution(h, packed[-1], target=samples, dtype=torch.float32)

    moved = x.numel() * x.element_size() * (1 + r * r)
    flops = 2 * x.numel() * sum(layer.weight.numel() for layer in layers)
    result = (n, 1, height * r, width * r)
    kernel = partial(whole.run, x, whole.pack(packed), source=samples, target=samples)
    return Work(kernel, plain, result, samples is not None, moved, flops, one_by_one)


def _shuffle(
    channels: int,
    r: int,
    n: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    depth: int | None = None,
    base: bool = False,
) -> Work:
    x = _random((n, channels * r * r, height, width), dtype, device)
    result = (n, channels, height * r, width * r)
    if depth is None:
        moved = 2 * x.numel() * x.element_size()
        kernel = partial(sampling.pixel_shuffle, x, r)
        return Work(kernel, lambda dtype: partial(reference.pixel_shuffle, x.to(dtype), r), result, False, moved)
    target = SampleFormat((1 << depth) - 1, depth)
    bias = _random((channels * r * r,), torch.float32, device) - 0.5
    added = _random(result, torch.float32, device) if base else None

    def plain(dtype: torch.dtype) -> Callable[[], Tensor]:
        other = None if added is None else added.to(dtype)
        return partial(reference.shuffle_to_samples, x.to(dtype), r, target, bias=bias, base=other)

    kernel = partial(sampling.shuffle_to_samples, x, r, target, bias=bias, base=added)
    moved = x.numel() * (x.element_size() + target.dtype.itemsize + (4 if base else 0))
    return Work(kernel, plain, result, True, moved)


def _enlarge(
    scale: int,
    edges: Any,
    shift: tuple[float, float],
    n: int,
    height: int,
    width: int,
    dtype: Any,
    device: torch.device,
) -> Work:
    x = _random((n, 1, height, width), dtype, device)
    kernel = partial(color.enlarge, x, scale, shift=shift, edges=edges)
    moved = x.numel() * x.element_size() * (1 + scale**2)

    def plain(dtype: torch.dtype) -> Callable[[], Tensor]:
        return partial(reference.enlarge, x.to(dtype), scale, shift=shift, edges=edges)

    return Work(kernel, plain, None, False, moved)


def _enlarge_samples(
    scale: int, depth: int, shift: tuple[float, float], n: int, height: int, width: int, _: Any, device: torch.device
) -> Work:
    x = _random((n, height, width), torch.uint8 if depth == 8 else torch.uint16, device)
    shape = (max(1, height * scale - 1), max(1, width * scale - scale + 1))
    kernel = partial(color.enlarge_samples, x, scale, depth, shape, shift)
    moved = x.element_size() * (x.numel() + n * shape[0] * shape[1])

    plain = partial(reference.enlarge_samples, x, scale, depth, shape, shift)
    return Work(kernel, lambda _: plain, None, True, moved)


# Rows like a color matrix's, from code values to [0, 1] and back.
_TO_RGB = (
    (0.00456, 0.0, 0.00626, -0.874),
    (0.00456, -0.00154, -0.00319, 0.532),
    (0.00456, 0.00791, 0.0, -1.086),
)
_TO_YUV = ((65.5, 128.6, 25.0, 16.0), (-37.8, -74.2, 112.0, 128.0), (112.0, -93.8, -18.2, 128.0))


def _planes_to_rgb(
    f: tuple[int, int], offset: tuple[float, float], n: int, height: int, width: int, _: Any, device: torch.device
) -> Work:
    small = (n, -(-height // f[0]), -(-width // f[1]))
    y, u, v = (_random(shape, torch.uint8, device) for shape in ((n, height, width), small, small))
    matrix = torch.tensor(_TO_RGB, dtype=torch.float64)

    def plain(dtype: torch.dtype) -> Callable[[], Tensor]:
        return partial(reference.planes_to_rgb, (y.to(dtype), u.to(dtype), v.to(dtype)), matrix, f, offset)

    moved = y.numel() * 13 + 2 * u.numel()
    return Work(partial(color.planes_to_rgb, (y, u, v), matrix, f, offset), plain, None, False, moved)


def _rgb_to_planes(
    planes: int,
    f: tuple[int, int],
    offset: tuple[float, float],
    n: int,
    height: int,
    width: int,
    _: Any,
    device: torch.device,
) -> Work:
    x = _random((n, 3, height, width), torch.float32, device)
    matrix = torch.tensor(_TO_YUV[:planes], dtype=torch.float64)

    def plain(dtype: torch.dtype) -> Callable[[], tuple[Tensor, ...]]:
        return partial(reference.rgb_to_planes, x.to(dtype), matrix, 8, f, offset)

    moved = 4 * x.numel() + n * height * width * 3 // 2
    return Work(partial(color.rgb_to_planes, x, matrix, 8, f, offset), plain, None, True, moved)


def _layer(name: str, layer: Layer, *, timed: bool = False, **how: Any) -> Case:
    return Case("convolution", name, partial(_convolution, layer, **how), timed)


def _rows() -> tuple[Case, ...]:
    """Cases of the kernels in Gluon, if it is available."""
    if not gluon.AVAILABLE:
        return ()
    from . import convolution_rows, espcn_rows, fsrcnn_rows

    layers: dict[str, dict[str, Any]] = {
        "VDSR 64→64 3×3, ReLU": {"activation": "relu"}, "EDSR 64→64 3×3, × 0.1, residual": {"scale": 0.1},
        "SRResNet 64→64 3×3, PReLU": {"activation": "prelu"}, "64→64 3×3, residual, then ReLU": {"after": "relu"},
    }  # fmt: skip
    one_by_one = tuple(
        Case(
            "convolution_hopper",
            name,
            partial(_convolution, random_layer(64, 64, 3, **how), residual="residual" in name, rows=True),
            timed="VDSR" in name,
            gpus=convolution_rows.is_for,
        )
        for name, how in layers.items()
    )
    formats: dict[str, dict[str, Any]] = {
        "8 bits": {"stored": torch.uint8}, "10 bits": {"stored": torch.uint16},
        "16 bits": {"stored": torch.uint16, "depth": 16}, "float32": {},
    }  # fmt: skip
    kernels = (
        (espcn_rows.HOPPER, espcn_layers, (3, 2, 4)), (fsrcnn_rows.HOPPER, fsrcnn_layers, (3, 2, 4)),
        (espcn_rows.AMPERE, espcn_layers, (3, 2, 4)), (fsrcnn_rows.AMPERE, fsrcnn_layers, (3, 2, 4)),
    )  # fmt: skip
    return one_by_one + tuple(
        Case(
            kernel.name,
            f"×{scale}, {name}",
            partial(_chain, kernel, layers_of(scale), **how),
            timed=(scale, name) == (3, "8 bits"),
            gpus=kernel.is_for,
        )
        for kernel, layers_of, scales in kernels
        for scale in scales
        for name, how in formats.items()
    )


_U8, _U16, _F32 = torch.uint8, torch.uint16, torch.float32

CASES: tuple[Case, ...] = (
    Case("pixel_shuffle", "r 2", partial(_shuffle, 4, 2), True),
    Case("pixel_shuffle", "r 3, one channel", partial(_shuffle, 1, 3), True),
    Case("pixel_shuffle", "r 4", partial(_shuffle, 3, 4)),
    Case("pixel_shuffle", "r 5", partial(_shuffle, 2, 5)),
    Case("shuffle_to_samples", "r 3 to 8 bits", partial(_shuffle, 1, 3, depth=8), True),
    Case("shuffle_to_samples", "r 2 to 10 bits, on a base", partial(_shuffle, 1, 2, depth=10, base=True), True),
    Case("shuffle_to_samples", "r 1 to 16 bits, on a base", partial(_shuffle, 3, 1, depth=16, base=True)),
    _layer("ESPCN 1→64 5×5, tanh, from 8 bits", random_layer(64, 1, 5, activation="tanh"), stored=_U8, timed=True),
    _layer("ESPCN 64→32 3×3, tanh", random_layer(32, 64, 3, activation="tanh"), timed=True),
    _layer("ESPCN 32→9 3×3, shuffle 3, to 8 bits", random_layer(9, 32, 3, shuffle=3), depth=8, timed=True),
    _layer("FSRCNN 12→12 3×3, PReLU", random_layer(12, 12, 3, activation="prelu"), timed=True),
    _layer("FSRCNN 56→12 1×1, PReLU", random_layer(12, 56, 1, activation="prelu"), timed=True),
    _layer("SRCNN 1→64 9×9, ReLU, edges repeated", random_layer(64, 1, 9, activation="relu", edges="replicate",
           padding=8), stored=_F32, timed=True),
    _layer("SRCNN 64→32 5×5, ReLU, no padding", random_layer(32, 64, 5, activation="relu", padding=2), timed=True),
    _layer("VDSR 64→64 3×3, ReLU", random_layer(64, 64, 3, activation="relu"), timed=True),
    _layer("VDSR 64→1 3×3, residual", random_layer(1, 64, 3), residual=True, timed=True),
    _layer("EDSR 128→128 3×3, × 0.1, residual", random_layer(128, 128, 3, scale=0.1), residual=True),
    _layer("32→256 3×3, shuffle 2, PReLU", random_layer(256, 32, 3, activation="prelu", shuffle=2)),
    _layer("16→144 3×3, shuffle 3, residual", random_layer(144, 16, 3, shuffle=3), residual=True),
    _layer("20→16 5×5, shuffle 4, to 10 bits", random_layer(16, 20, 5, shuffle=4), depth=10),
    _layer("32→4 3×3, shuffle 2, to 16 bits", random_layer(4, 32, 3, shuffle=2), depth=16),
    _layer("3→48 9×9, leaky ReLU", random_layer(48, 3, 9, activation="leaky")),
    _layer("1→16 3×3, sigmoid, from 10 bits", random_layer(16, 1, 3, activation="sigmoid"), stored=_U16),
    _layer("1→8 1×1, no bias", random_layer(8, 1, 1, bias=False)),
    _layer("24→24 1×1, residual, then ReLU", random_layer(24, 24, 1, activation="relu", after="relu"), residual=True),
    _layer("32→3 9×9, edges repeated", random_layer(3, 32, 9, edges="replicate")),
    Case("espcn", "×3, 8 bits", partial(_chain, espcn.KERNEL, espcn_layers(3), stored=_U8), True),
    Case("espcn", "×2, float32", partial(_chain, espcn.KERNEL, espcn_layers(2))),
    Case("espcn", "×4, 10 bits", partial(_chain, espcn.KERNEL, espcn_layers(4, 32, 16), stored=_U16)),
    *_rows(),
    Case("fsrcnn", "×3, 8 bits", partial(_chain, fsrcnn.KERNEL, fsrcnn_layers(3), stored=_U8), True),
    Case("fsrcnn", "×2, float32", partial(_chain, fsrcnn.KERNEL, fsrcnn_layers(2))),
    Case("fsrcnn", "×4, (32, 5, 1)", partial(_chain, fsrcnn.KERNEL, fsrcnn_layers(4, 32, 5, 1))),
    Case("enlarge", "×3", partial(_enlarge, 3, "replicate", (0.0, 0.0)), True),
    Case("enlarge", "×2, sited, mirrored", partial(_enlarge, 2, "symmetric", (0.125, -0.25))),
    Case("enlarge_samples", "×3, 8 bits, sited", partial(_enlarge_samples, 3, 8, (0.0, -0.25)), True),
    Case("enlarge_samples", "×4, 10 bits", partial(_enlarge_samples, 4, 10, (0.0, 0.0))),
    Case("planes_to_rgb", "4:2:0, left", partial(_planes_to_rgb, (2, 2), (0.5, 0.0)), True),
    Case("planes_to_rgb", "4:4:4", partial(_planes_to_rgb, (1, 1), (0.0, 0.0))),
    Case("planes_to_rgb", "4:1:0, center", partial(_planes_to_rgb, (4, 4), (1.5, 1.5))),
    Case("rgb_to_planes", "4:2:0, left", partial(_rgb_to_planes, 3, (2, 2), (0.5, 0.0)), True),
    Case("rgb_to_planes", "4:2:2", partial(_rgb_to_planes, 3, (1, 2), (0.0, 0.0))),
    Case("rgb_to_planes", "4:4:4", partial(_rgb_to_planes, 3, (1, 1), (0.0, 0.0))),
    Case("rgb_to_planes", "gray", partial(_rgb_to_planes, 1, (1, 1), (0.0, 0.0))),
)  # fmt: skip
