"""Colours are exact: bars come back as they were, and what lies between them is where zimg puts it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import vapoursynth as vs
from torch import Tensor, nn

from tests import distance
from vsr_plugin.arrays import as_tensor
from vsr_plugin.color import Conversion
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import UsageError
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ChromaLocation, ColorSpec, Frame, Matrix, Range
from vsr_plugin.luma import LumaConversion
from vsr_plugin.models import MODELS, NetworkSpec, build_model, load_model
from vsr_plugin.sizes import Size
from vsr_plugin.training.initial import initialize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vsr_plugin.frames import Samples

SUBSAMPLINGS = {"420": (1, 1), "422": (1, 0), "444": (0, 0), "440": (0, 1), "411": (2, 0), "410": (2, 2)}
MATRICES = (
    Matrix.BT709,
    Matrix.FCC,
    Matrix.BT470BG,
    Matrix.SMPTE170M,
    Matrix.SMPTE240M,
    Matrix.BT2020_NCL,
    Matrix.YCGCO,
)
# H.273's numbers for the places of chroma, which VapourSynth and FFmpeg share.
LOCATIONS = {
    ChromaLocation.LEFT: 0,
    ChromaLocation.CENTER: 1,
    ChromaLocation.TOPLEFT: 2,
    ChromaLocation.TOP: 3,
    ChromaLocation.BOTTOMLEFT: 4,
    ChromaLocation.BOTTOM: 5,
}


class Nearest(nn.Module):
    """The identity of super-resolution: every sample becomes scale × scale of itself."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.scale, mode="nearest")


def nearest(scale: int, channels: int) -> Upscaler:
    spec = NetworkSpec(name="nearest", overlap={scale: 0}, channels=channels)
    return Upscaler.from_module(Nearest(scale), spec, scale, Execution(backend="eager", device="cpu"))


def frame_of(planes: Sequence[Samples], color: ColorSpec) -> Frame:
    return Frame(tuple(planes), 0, Fraction(1, 25), color=color)


# Colour bars, made by the formulas of H.273 and not by what is tested.

BARS = [(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0), (0.75, 0.5, 0.25)]
BAR = 24  # luma samples; the middle third is flat for every network and subsampling
LUMA_WEIGHTS = {Matrix.SMPTE170M: (0.299, 0.114), Matrix.BT709: (0.2126, 0.0722), Matrix.BT2020_NCL: (0.2627, 0.0593)}


def bars(color: ColorSpec) -> tuple[Samples, ...]:
    """Nine bars of 24 × 24 luma samples."""
    step, peak = 1 << (color.depth - 8), color.peak
    limited = color.range is Range.LIMITED
    rows = []
    for r, g, b in BARS:
        if color.matrix is Matrix.RGB:
            rows.append([219 * step * v + 16 * step if limited else peak * v for v in (r, g, b)])
            continue
        kr, kb = LUMA_WEIGHTS[color.matrix]
        y = kr * r + (1 - kr - kb) * g + kb * b
        cb, cr = (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)
        middle = 128 * step
        if limited:
            rows.append([219 * step * y + 16 * step, 224 * step * cb + middle, 224 * step * cr + middle])
        else:
            rows.append([peak * y, peak * cb + middle, peak * cr + middle])
    planes = []
    for index, levels in enumerate(zip(*rows, strict=True)):
        codes = np.rint(levels).clip(0, peak).astype(color.dtype)
        fx, fy = color.subsampling if index else (0, 0)
        planes.append(np.tile(codes.repeat(BAR >> fx), (BAR >> fy, 1)))
    return tuple(planes)


def flat_error(before: Frame, after: Frame, scale: int) -> int:
    """The largest change of a code value in the middle thirds of the bars, over all planes."""
    worst = 0
    for old, new in zip(before.planes, after.planes, strict=True):
        assert (new.shape[0], new.shape[1]) == (old.shape[0] * scale, old.shape[1] * scale)
        bar = new.shape[1] // len(BARS)
        for index in range(len(BARS)):
            middle = new[
                new.shape[0] // 3 : -(new.shape[0] // 3), index * bar + bar // 3 : (index + 1) * bar - bar // 3
            ]
            level = int(old[0, (old.shape[1] // len(BARS)) * index])
            worst = max(worst, int(np.abs(middle.astype(int) - level).max()))
    return worst


BAR_COLORS = [
    ColorSpec(matrix, range_, depth, SUBSAMPLINGS[form])
    for matrix, range_, form, depth in product(LUMA_WEIGHTS, Range, ("420", "422", "444"), (8, 10))
] + [ColorSpec(Matrix.RGB, range_, depth) for range_, depth in product(Range, (8, 10))]


def color_id(color: ColorSpec) -> str:
    return f"{color.matrix.name}-{color.range.value}-{color.subsampling}-{color.depth}"


@pytest.mark.parametrize("color", BAR_COLORS, ids=color_id)
@pytest.mark.parametrize("channels", [1, 3])
def test_bars_pass_an_identity_network_within_one_code_value(color: ColorSpec, channels: int) -> None:
    frame = frame_of(bars(color), color)
    with nearest(2, channels) as upscaler:
        assert flat_error(frame, upscaler.upscale([frame])[0], 2) <= 1


@pytest.fixture(scope="module")
def espcn() -> nn.Module:
    return load_model("espcn", 2)


@pytest.mark.parametrize("color", BAR_COLORS, ids=color_id)
def test_bars_pass_espcn_within_one_code_value_of_8_bits(color: ColorSpec, espcn: nn.Module) -> None:
    frame = frame_of(bars(color), color)
    with Upscaler.from_module(espcn, MODELS["espcn"], 2, Execution(backend="eager", device="cpu")) as upscaler:
        assert flat_error(frame, upscaler.upscale([frame])[0], 2) <= 1 << (color.depth - 8)


# Networks of RGB: every color goes there and back.


def pass_through(name: str) -> nn.Module:
    """As training begins, near bicubic, but without what random weights add to flat areas: all layers are run."""
    module = build_model(MODELS[name], 2).eval().requires_grad_(requires_grad=False)
    patches = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(2))
    initialize("bicubic", module, patches, torch.Generator().manual_seed(0))
    tail = cast("nn.Conv2d", module.get_submodule("tail"))
    middle = tail.kernel_size[0] // 2
    tail.weight *= F.pad(torch.eye(3, tail.in_channels)[..., None, None], [middle] * 4)
    for layer_name, layer in module.named_modules():  # what the blocks add to the channels that carry the picture
        residual = layer_name.endswith("conv2") or layer_name == "body"
        if residual and isinstance(layer, nn.Conv2d):
            layer.weight[:3] = 0
        elif isinstance(layer, nn.BatchNorm2d):
            cast("Tensor", layer.weight)[:3] = 0
    return module


@pytest.fixture(scope="module")
def edsr() -> Iterator[Upscaler]:
    """With the shipped weights."""
    with Upscaler("edsr-baseline", 2, Execution(backend="openvino", device="cpu")) as upscaler:
        yield upscaler


RGB_COLORS = [
    ColorSpec(matrix, range_, depth, SUBSAMPLINGS[form])
    for matrix, range_, form, depth in product(LUMA_WEIGHTS, Range, ("420", "444"), (8, 10))
] + [ColorSpec(Matrix.RGB, range_, depth) for range_, depth in product(Range, (8, 10))]


@pytest.mark.parametrize("color", RGB_COLORS, ids=color_id)
def test_bars_pass_edsr_within_two_code_values_of_8_bits(color: ColorSpec, edsr: Upscaler) -> None:
    frame = frame_of(bars(color), color)
    assert flat_error(frame, edsr.upscale([frame])[0], 2) <= 2 << (color.depth - 8)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["edsr-baseline", "mdsr-baseline", "srresnet"])
def test_bars_pass_every_network_of_rgb_in_every_precision(name: str, precision: Any) -> None:
    color = ColorSpec(Matrix.BT709, Range.LIMITED, 8, SUBSAMPLINGS["420"])
    frame = frame_of(bars(color), color)
    execution = Execution(backend="openvino", device="cpu", precision=precision)
    with Upscaler.from_module(pass_through(name), MODELS[name], 2, execution) as upscaler:
        assert flat_error(frame, upscaler.upscale([frame])[0], 2) <= 2


# What a network of luma sees.


class Spy(Nearest):
    """Remembers its input."""

    def forward(self, x: Tensor) -> Tensor:
        SEEN.append(x.clone())
        return super().forward(x)


SEEN: list[Tensor] = []


def levels(x: Tensor | Samples) -> list[float]:
    return sorted(set(x.flatten().tolist()))


@pytest.mark.parametrize(
    ("range_", "depth", "code", "seen"),
    [
        (Range.LIMITED, 8, 16, 16 / 255),
        (Range.LIMITED, 8, 235, 235 / 255),
        (Range.LIMITED, 10, 64, 16 / 255),
        (Range.LIMITED, 10, 940, 235 / 255),
        (Range.LIMITED, 10, 1023, 1.0),
        (Range.LIMITED, 16, 235 << 8, 235 / 255),
        (Range.FULL, 8, 16, 16 / 255),
        (Range.FULL, 10, 1023, 1.0),
        (Range.FULL, 10, 64, 64 / 1023),
        (Range.FULL, 16, 65535, 1.0),
    ],
)
def test_luma_is_not_range_expanded(range_: Range, depth: int, code: int, seen: float) -> None:
    color = ColorSpec(Matrix.BT709, range_, depth)
    frame = frame_of([np.full((8, 8), code, color.dtype)], color)
    SEEN.clear()
    spec = NetworkSpec(name="spy", overlap={2: 0})
    with Upscaler.from_module(Spy(2), spec, 2, Execution(backend="eager", device="cpu")) as upscaler:
        result = upscaler.upscale([frame])[0]
    assert SEEN[0].dtype == torch.float32
    assert levels(SEEN[0]) == pytest.approx([seen], abs=1e-7)
    assert levels(result.planes[0]) == [min(code, 1020)] if depth == 10 and range_ is Range.LIMITED else [code]


def test_a_luma_network_sees_studio_range_luma_of_rgb() -> None:
    for range_, white in ((Range.FULL, 255), (Range.LIMITED, 235)):
        color = ColorSpec(Matrix.RGB, range_)
        planes = [torch.full((4, 4), value, dtype=torch.uint8) for value in (white, white, white)]
        x, _ = Conversion(color, 3, 1, 2).split([plane[None] for plane in planes])
        assert levels(x) == pytest.approx([235 / 255], abs=1e-6)


def test_every_code_value_survives_a_luma_network() -> None:
    for range_, depth in product(Range, (8, 9, 10, 12, 16)):
        color = ColorSpec(Matrix.BT709, range_, depth)
        peak = 255 << (depth - 8) if range_ is Range.LIMITED else color.peak
        codes = as_tensor(np.arange(peak + 1).astype(color.dtype)[None, None])
        conversion = Conversion(color, 1, 1, 1)
        (back,) = conversion.join(*conversion.split([codes]))
        assert torch.equal(back, codes)


def test_the_networks_output_is_clamped_and_rounded() -> None:
    conversion = Conversion(ColorSpec(Matrix.BT709, Range.FULL), 1, 1, 1)
    x = torch.tensor([-0.5, 0.49 / 255, 0.51 / 255, 99.5001 / 255, 254.6 / 255, 1.7])
    (plane,) = conversion.join(x[None, None, None], ())
    assert plane.flatten().tolist() == [0, 0, 1, 100, 255, 255]


# zimg's opinion.


def clip_of(planes: Sequence[Samples], color: ColorSpec) -> vs.VideoNode:
    """A clip of one frame that holds these planes."""
    if color.matrix is Matrix.RGB:
        form = vs.core.query_video_format(vs.RGB, vs.INTEGER, color.depth, 0, 0)
    else:
        form = vs.core.query_video_format(vs.YUV, vs.INTEGER, color.depth, *color.subsampling)
    height, width = planes[0].shape
    blank = vs.core.std.BlankClip(width=width, height=height, format=form.id, length=1, keep=True)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        frame = f.copy()
        for index, plane in enumerate(planes):
            np.copyto(np.asarray(frame[index]), plane)
        return frame

    clip = vs.core.std.ModifyFrame(blank, blank, fill)
    return clip.std.SetFrameProps(
        _Matrix=int(color.matrix),
        _Range=int(color.range is Range.FULL),
        _ChromaLocation=LOCATIONS[color.chroma_location],
    )


def bicubic(clip: vs.VideoNode, **how: Any) -> vs.VideoNode:
    kernel = {"filter_param_a": 0, "filter_param_b": 0.5, "filter_param_a_uv": 0, "filter_param_b_uv": 0.5}
    return clip.resize.Bicubic(**kernel, dither_type="none", **how)


def planes_of(clip: vs.VideoNode) -> list[Samples]:
    frame = clip.get_frame(0)
    return [np.array(frame[index]) for index in range(frame.format.num_planes)]


def in_float(clip: vs.VideoNode) -> vs.VideoNode:
    """The same samples in zimg's floating point, where it neither rounds nor clips between its passes."""
    form = vs.core.query_video_format(
        clip.format.color_family, vs.FLOAT, 32, clip.format.subsampling_w, clip.format.subsampling_h
    )
    return clip.resize.Point(format=form.id)


def noise(shape: tuple[int, int], color: ColorSpec, seed: int, low: float = 0.0, high: float = 1.0) -> Samples:
    generator = np.random.default_rng(seed)
    return generator.integers(int(low * color.peak), int(high * color.peak) + 1, shape, color.dtype)


def noisy_planes(color: ColorSpec, height: int, width: int, low: float = 0.0, high: float = 1.0) -> list[Samples]:
    shapes = [(height, width), *[color.chroma_shape(height, width)] * 2]
    return [noise(shape, color, seed, low, high) for seed, shape in enumerate(shapes)]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("location", ChromaLocation, ids=lambda location: location.name)
@pytest.mark.parametrize("form", SUBSAMPLINGS)
def test_chroma_lands_where_zimg_puts_it(form: str, location: ChromaLocation, scale: int) -> None:
    for depth in (8, 10, 16):
        color = ColorSpec(depth=depth, subsampling=SUBSAMPLINGS[form], chroma_location=location)
        planes = noisy_planes(color, 28, 44)  # odd chroma planes for 4:2:0 (7 rows for 4:1:0)
        conversion = Conversion(color, 3, 1, scale)
        _, cb, cr = conversion.join(*with_nearest(conversion, planes))
        clip = clip_of(planes, color)
        theirs = planes_of(
            bicubic(in_float(clip), width=44 * scale, height=28 * scale).resize.Point(
                format=clip.format.id, dither_type="none"
            )
        )
        assert distance(cb[0], theirs[1]) <= 1
        assert distance(cr[0], theirs[2]) <= 1
        luma = planes[0].repeat(scale, 0).repeat(scale, 1)
        large = LumaConversion(color, 3, scale).join(luma[None], [plane[None] for plane in planes[1:]])
        assert all(np.array_equal(a, b) for a, b in zip(large, (luma[None], cb.numpy(), cr.numpy()), strict=True))


def with_nearest(conversion: Conversion, planes: Sequence[Samples]) -> tuple[Tensor, tuple[Tensor, ...]]:
    x, rest = conversion.split([as_tensor(plane[None]) for plane in planes])
    return Nearest(conversion.scale)(x), rest


@pytest.mark.parametrize("form", SUBSAMPLINGS)
def test_chroma_agrees_with_zimgs_integer_resize_where_it_does_not_clip(form: str) -> None:
    for depth, scale in product((8, 10), (2, 3, 4)):
        color = ColorSpec(depth=depth, subsampling=SUBSAMPLINGS[form])
        planes = noisy_planes(color, 36, 52, 0.3, 0.7)
        conversion = Conversion(color, 3, 1, scale)
        _, cb, cr = conversion.join(*with_nearest(conversion, planes))
        theirs = planes_of(bicubic(clip_of(planes, color), width=52 * scale, height=36 * scale))
        assert max(distance(cb[0], theirs[1]), distance(cr[0], theirs[2])) <= 1


@pytest.mark.parametrize("location", ChromaLocation, ids=lambda location: location.name)
def test_an_odd_picture_is_the_corner_of_an_even_one(location: ChromaLocation) -> None:
    # zimg refuses odd 4:2:0; the picture with one more row and column has the same chroma samples in the same places.
    color = ColorSpec(subsampling=(1, 1), chroma_location=location)
    planes = noisy_planes(color, 18, 26)
    for scale in (2, 3, 4):
        odd, even = Conversion(color, 3, 1, scale), Conversion(color, 3, 1, scale)
        small = odd.join(*with_nearest(odd, [planes[0][:17, :25], planes[1], planes[2]]))
        large = even.join(*with_nearest(even, planes))
        for index in (1, 2):
            height, width = color.chroma_shape(17 * scale, 25 * scale)
            assert small[index].shape[1:] == (height, width)
            assert torch.equal(small[index], large[index][:, :height, :width])


@pytest.mark.parametrize("matrix", MATRICES, ids=lambda matrix: matrix.name)
def test_rgb_is_what_zimg_makes_of_yuv(matrix: Matrix) -> None:
    for range_, depth, form in product(Range, (8, 10, 16), ("420", "422", "444", "411")):
        color = ColorSpec(matrix, range_, depth, SUBSAMPLINGS[form])
        planes = noisy_planes(color, 20, 36)
        x, _ = Conversion(color, 3, 3, 1).split([as_tensor(plane[None]) for plane in planes])
        theirs = planes_of(bicubic(clip_of(planes, color), format=vs.RGBS, matrix_in=int(matrix)))
        # Two roundings of float32 for each of some ten operations on values that reach 2.
        assert distance(x[0], np.clip(theirs, 0, 1)) < 20 * 2**-24


@pytest.mark.parametrize("matrix", MATRICES, ids=lambda matrix: matrix.name)
def test_yuv_is_what_zimg_makes_of_rgb(matrix: Matrix) -> None:
    rgb = ColorSpec(Matrix.RGB, Range.FULL, 16)
    planes = noisy_planes(rgb, 24, 40)
    x = as_tensor(np.stack(planes)[None]).float() / 65535
    for range_, depth, (form, subsampling) in product(Range, (8, 10, 16), SUBSAMPLINGS.items()):
        for location in ChromaLocation if form == "420" else (ChromaLocation.LEFT,):
            color = ColorSpec(matrix, range_, depth, subsampling, location)
            ours = Conversion(color, 3, 3, 1).join(x, ())
            target = vs.core.query_video_format(vs.YUV, vs.INTEGER, depth, *subsampling)
            theirs = planes_of(
                bicubic(
                    in_float(clip_of(planes, rgb)),
                    format=target.id,
                    matrix=int(matrix),
                    range=int(range_ is Range.FULL),
                    chromaloc=LOCATIONS[location],
                )
            )
            assert max(distance(a[0], b) for a, b in zip(ours, theirs, strict=True)) <= 1


# Sizes that no scale makes: zimg resamples what the network makes, and chroma from the source.


@pytest.mark.parametrize("location", ChromaLocation, ids=lambda location: location.name)
@pytest.mark.parametrize("form", ["420", "422", "444"])
@pytest.mark.parametrize(
    "size",
    [
        Size(height=40),
        Size(width=76, height=72),
        Size(width=64, height=64, fit="cover"),
        Size(width=100, height=30, fit="stretch"),
    ],
    ids=str,
)
def test_a_size_is_what_zimg_resamples(size: Size, form: str, location: ChromaLocation) -> None:
    for depth in (8, 10):
        color = ColorSpec(depth=depth, subsampling=SUBSAMPLINGS[form], chroma_location=location)
        planes = noisy_planes(color, 28, 44, 0.3, 0.7)
        frame = frame_of(planes, color)
        spec = NetworkSpec(name="nearest", overlap={2: 0})
        with Upscaler.from_module(Nearest(2), spec, size, Execution(backend="eager", device="cpu")) as upscaler:
            target = upscaler.target(frame)
            (large,) = upscaler.upscale([frame])
        window = target.window
        assert window is not None
        seen = {
            "src_left": float(window.left),
            "src_top": float(window.top),
            "src_width": float(window.width),
            "src_height": float(window.height),
        }
        whole = {"width": target.width, "height": target.height}
        enlarged = planes[0].repeat(target.scale, 0).repeat(target.scale, 1)
        luma = in_float(clip_of([enlarged] * 3, replace(color, subsampling=(0, 0))))
        theirs = planes_of(
            bicubic(luma, **whole, **{name: value * target.scale for name, value in seen.items()}).resize.Point(
                format=vs.core.query_video_format(vs.YUV, vs.INTEGER, depth, 0, 0).id, dither_type="none"
            )
        )
        assert distance(large.planes[0], theirs[0]) <= 1
        clip = clip_of(planes, color)
        chroma = planes_of(
            bicubic(in_float(clip), **whole, **seen).resize.Point(format=clip.format.id, dither_type="none")
        )
        assert max(distance(large.planes[index], chroma[index]) for index in (1, 2)) <= 1


# Formats beside YUV and RGB.


def test_gray_passes_a_network_of_rgb() -> None:
    for matrix, range_, depth in product(MATRICES, Range, (8, 10)):
        color = ColorSpec(matrix, range_, depth)
        plane = noise((6, 7), color, 3, 0.07, 0.92)
        with nearest(2, 3) as upscaler:
            (result,) = upscaler.upscale([frame_of([plane], color)])[0].planes
        assert np.array_equal(result, plane.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "color",
    [
        ColorSpec(Matrix.BT709, subsampling=(1, 1)),
        ColorSpec(Matrix.RGB, Range.FULL, 10),
        ColorSpec(Matrix.BT709, Range.FULL, 12),
    ],
    ids=["yuv", "rgb", "gray"],
)
def test_alpha_is_enlarged_and_nothing_else_changes(color: ColorSpec, channels: int) -> None:
    count = 1 if color.depth == 12 else 3
    planes = [plane // 2 if color.depth == 8 else plane for plane in noisy_planes(color, 12, 14)][:count]
    alpha = noise((12, 14), color, 9)
    with nearest(3, channels) as upscaler:
        without = upscaler.upscale([frame_of(planes, color)])[0]
        result = upscaler.upscale([frame_of([*planes, alpha], color)])[0]
    assert len(result.planes) == count + 1
    for a, b in zip(without.planes, result.planes, strict=False):
        assert np.array_equal(a, b)
    opaque = replace(color, matrix=Matrix.BT709, subsampling=(0, 0))
    clip = in_float(clip_of([alpha] * 3, opaque)).std.ShufflePlanes(0, vs.GRAY)
    clip = bicubic(clip, width=42, height=36).resize.Point(
        format=vs.core.query_video_format(vs.GRAY, vs.INTEGER, color.depth, 0, 0).id,
        range=int(color.range is Range.FULL),
    )
    assert distance(result.planes[-1], planes_of(clip)[0]) <= 1


@pytest.mark.parametrize("matrix", [Matrix.UNSPECIFIED, Matrix.BT2020_CL, Matrix.ICTCP], ids=lambda matrix: matrix.name)
def test_a_matrix_that_is_none_is_refused_where_rgb_is_needed(matrix: Matrix) -> None:
    color = ColorSpec(matrix)
    frame = frame_of(noisy_planes(color, 8, 8), color)
    with nearest(2, 3) as upscaler, pytest.raises(UsageError, match=f"got {matrix.name}"):
        upscaler.upscale([frame])
    with nearest(2, 1) as upscaler:
        assert len(upscaler.upscale([frame])) == 1
