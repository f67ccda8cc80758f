from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.format import names

from tests import distance
from vsr_plugin.errors import InputError, UsageError
from vsr_plugin.frames import ChromaLocation, ColorSpec, Frame, Matrix, Range
from vsr_plugin.stream import Source
from vsr_plugin.stream.layout import layout, native_format
from vsr_plugin.stream.planes import read_planes, readable, write_planes

from .conftest import Media

READABLE = sorted(name for name in names if layout(name) is not None)


def _random_frame(name: str, height: int = 22, width: int = 34) -> Frame:
    form = layout(name)
    assert form is not None
    color = ColorSpec(
        matrix=Matrix.RGB if form.is_rgb else Matrix.BT709,
        range=Range.FULL if form.is_rgb or form.full_range else Range.LIMITED,
        depth=form.depth,
        subsampling=form.subsampling,
    )
    draw = np.random.default_rng(0)
    shapes = [(height, width)] * len(form.components)
    if len(shapes) > 2:
        shapes[1] = shapes[2] = color.chroma_shape(height, width)
    planes = tuple(draw.integers(0, color.peak + 1, shape, color.dtype) for shape in shapes)
    return Frame(planes, 0, Fraction(1, 25), color=color)


@pytest.mark.parametrize("name", READABLE)
def test_samples_survive_every_layout(name: str) -> None:
    frame = _random_frame(name)
    picture = write_planes(frame, name)
    assert picture.format.name == name
    for got, want in zip(read_planes(picture), frame.planes, strict=True):
        assert np.array_equal(got, want)


@pytest.mark.parametrize(
    "name",
    [
        "nv12",
        "nv21",
        "nv16",
        "nv24",
        "yuyv422",
        "uyvy422",
        "rgb24",
        "bgr24",
        "rgba",
        "abgr",
        "gbrp",
        "rgb48be",
        "ya8",
        "ayuv",
        "uyva",
        "vuya",
        "ayuv64le",
    ],
)
def test_layouts_are_read_as_ffmpeg_reads_them(name: str) -> None:
    frame = _random_frame(name)
    theirs = write_planes(frame, native_format(frame)).reformat(format=name)
    for got, want in zip(read_planes(theirs), frame.planes, strict=True):
        assert np.array_equal(got, want)


def test_p010_keeps_its_samples_in_the_upper_bits() -> None:
    frame = _random_frame("p010le")
    stored = np.frombuffer(write_planes(frame, "p010le").planes[0], "<u2")
    assert stored[0] == int(frame.planes[0][0, 0]) << 6


@pytest.mark.parametrize("name", ["yuv420p", "yuv411p", "yuv440p", "nv12", "yuv420p10le"])
def test_odd_sizes_have_their_last_chroma_sample(name: str) -> None:
    frame = _random_frame(name, 21, 33)
    assert [
        np.array_equal(a, b) for a, b in zip(read_planes(write_planes(frame, name)), frame.planes, strict=True)
    ] == [True] * 3


def test_palettes_and_bit_fields_become_what_can_be_read() -> None:
    bits = av.VideoFrame.from_ndarray(np.tile(np.array([0, 255], np.uint8), (16, 8)), format="gray").reformat(
        format="monob"
    )
    assert readable(bits).format.name == "gray"
    assert readable(av.VideoFrame(16, 16, "pal8")).format.name == "rgba"
    assert readable(av.VideoFrame(16, 16, "rgb565le")).format.name == "rgb24"
    with pytest.raises(InputError, match="monob"):
        read_planes(bits)


@pytest.mark.parametrize(
    ("source", "target"), [("yuv420p", "yuv420p10le"), ("gray", "gray12le"), ("yuv444p", "yuv444p16le")]
)
def test_limited_samples_gain_depth_by_shifting_and_come_back(source: str, target: str) -> None:
    frame = _random_frame(source)
    deeper = read_planes(write_planes(frame, target))
    form = layout(target)
    assert form is not None
    for got, want in zip(deeper, frame.planes, strict=True):
        assert np.array_equal(got, want.astype(np.uint16) << (form.depth - 8))
    back = Frame(deeper, 0, Fraction(1), color=ColorSpec(depth=form.depth, subsampling=frame.color.subsampling))
    for got, want in zip(read_planes(write_planes(back, source)), frame.planes, strict=True):
        assert np.array_equal(got, want)


def test_full_range_samples_are_rescaled() -> None:
    frame = _random_frame("gbrp")
    deeper = read_planes(write_planes(frame, "gbrp10le"))
    assert max(int(plane.max()) for plane in deeper) <= 1023
    assert np.array_equal(deeper[0], np.rint(frame.planes[0] * (1023 / 255)))


def test_no_color_stays_no_color_at_another_depth_and_full_range_comes_back() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    color = ColorSpec(range=Range.FULL, subsampling=(0, 0))
    frame = Frame((values,) * 3, 0, Fraction(1), color=color)
    luma, blue, red = read_planes(write_planes(frame, "yuv444p10le"))
    assert (luma[values == 255], blue[values == 128], red[values == 128]) == (1023, 512, 512)
    deeper = Frame((luma, blue, red), 0, Fraction(1), color=replace(color, depth=10))
    for plane in read_planes(write_planes(deeper, "yuv444p")):
        assert np.array_equal(plane, values)


@pytest.mark.parametrize(
    ("planes", "target"), [(4, "yuva444p10le"), (4, "yuva420p10le"), (4, "ya16le"), (2, "ya16le"), (2, "yuva444p12le")]
)
def test_what_is_opaque_stays_so_at_another_depth(planes: int, target: str) -> None:
    color = ColorSpec(range=Range.LIMITED, subsampling=(0, 0))
    gray = np.full((8, 8), 100, np.uint8)
    frame = Frame((*[gray] * (planes - 1), np.full((8, 8), 255, np.uint8)), 0, Fraction(1), color=color)
    form = layout(target)
    assert form is not None
    assert bool((read_planes(write_planes(frame, target))[-1] == (1 << form.depth) - 1).all())


def test_missing_alpha_is_opaque() -> None:
    assert bool((read_planes(write_planes(_random_frame("rgb24"), "rgba"))[3] == 255).all())


def test_rgb_becomes_yuv_by_bt709_in_limited_range() -> None:
    red = Frame(
        tuple(np.full((16, 16), value, np.uint8) for value in (255, 0, 0)),
        0,
        Fraction(1),
        color=ColorSpec(matrix=Matrix.RGB, range=Range.FULL),
    )
    y, cb, cr = (int(plane[8, 8]) for plane in read_planes(write_planes(red, "yuv444p")))
    assert abs(y - 63) <= 1  # 16 + 219 · 0.2126
    assert abs(cb - 102) <= 1  # 128 − 224 · 0.1146
    assert abs(cr - 240) <= 1  # 128 + 112


# What is a third of the way from black to white.
LIGHT = {("limited", 8): 89, ("full", 8): 85, ("limited", 10): 356, ("full", 10): 341}


@pytest.mark.parametrize(("range_", "depth"), LIGHT)
@pytest.mark.parametrize("size", [(20, 34), (21, 33), (1, 1)])
@pytest.mark.parametrize(
    "name", ["gray", "ya8", "gray10le", "yuv444p", "yuvj420p", "yuv420p10le", "yuva422p", "rgb24", "gbrap", "gbrp10le"]
)
def test_gray_and_color_become_each_other_without_a_change_of_light(
    range_: str, depth: int, size: tuple[int, int], name: str
) -> None:
    form = layout(name)
    assert form is not None
    to_gray = len(form.components) <= 2
    color = ColorSpec(range=Range(range_), depth=depth)
    levels = [LIGHT[range_, depth], *[1 << (depth - 1)] * 2][: 3 if to_gray else 1]
    frame = Frame(tuple(np.full(size, level, color.dtype) for level in levels), 0, Fraction(1), color=color)
    picture = write_planes(frame, name)
    full = to_gray or form.is_rgb or form.full_range or range_ == "full"
    assert picture.color_range == (2 if full else 1)
    first, *others = read_planes(picture)
    assert set(first.flat) == {LIGHT["full" if full else "limited", form.depth]}
    if form.is_rgb:
        assert all(np.array_equal(first, other) for other in others[:2])
    elif not to_gray:
        assert all(set(chroma.flat) == {1 << (form.depth - 1)} for chroma in others[:2])
    if len(form.components) in (2, 4):
        assert set(others[-1].flat) == {(1 << form.depth) - 1}


@pytest.mark.parametrize("name", ["gray", "gray10le", "gray16le", "ya8"])
def test_rgb_becomes_gray_by_the_luma_of_bt709_in_any_size_and_every_time(name: str) -> None:
    form = layout(name)
    assert form is not None
    for height, width in [(20, 34), (21, 33), (7, 100), (1, 1)]:
        frame = _random_frame("gbrp", height, width)
        red, green, blue = (plane / 255 for plane in frame.planes)
        luma = (0.2126 * red + 0.7152 * green + 0.0722 * blue) * ((1 << form.depth) - 1)
        for _ in range(20):
            gray = read_planes(write_planes(frame, name))[0]
            assert np.abs(gray - luma).max() < 0.51


def test_pictures_of_odd_sizes_become_readable_alike_every_time() -> None:
    """What libswscale makes of some depends on what lay in memory before."""
    for name in ("pal8", "monow", "rgb565le", "x2rgb10le", "gbrpf32le", "grayf32le", "xyz12le", "y210le", "uyyvyy411"):
        for width, height in ((34, 20), (33, 21)):
            results = []
            for used in (0x00, 0xAA, 0xFF):
                _ = [np.full(size, used, np.uint8) for size in (500, 5000, 50_000)]
                frame = av.VideoFrame(width, height, name)
                for plane in frame.planes:
                    np.frombuffer(plane, np.uint8)[...] = np.arange(plane.buffer_size) % 61
                results.append([np.array(plane) for plane in read_planes(readable(frame))])
            for result in results[1:]:
                assert all(np.array_equal(one, other) for one, other in zip(results[0], result, strict=True))


BAYER = """
import av
from vsr_plugin.errors import InputError
from vsr_plugin.stream.planes import readable
for name in ("bayer_bggr8", "bayer_gbrg16le"):
    for width, height in [(16, 5), (17, 5), (3, 3), (2, 2), (1, 2), (33, 21)]:
        assert readable(av.VideoFrame(width, height, name)).format.name in ("rgb24", "rgb48le")
    try:
        readable(av.VideoFrame(16, 1, name))
    except InputError as error:
        print(error)
"""


def test_bayer_patterns_of_any_height_do_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", BAYER], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "Expected at least two rows of a Bayer pattern, got one\n" * 2)


@pytest.mark.parametrize("location", list(ChromaLocation))
@pytest.mark.parametrize("depth", [8, 10])
def test_conversion_sites_chroma_as_zimg_does(location: ChromaLocation, depth: int) -> None:
    vs = pytest.importorskip("vapoursynth")
    color = ColorSpec(matrix=Matrix.BT709, depth=depth, subsampling=(1, 1), chroma_location=location)
    ramp = np.arange(48) * 4 + np.arange(32)[:, None]
    planes = [(plane << (depth - 8)).astype(color.dtype) for plane in (np.full((64, 96), 100), ramp, 250 - ramp)]
    frame = Frame(tuple(planes), 0, Fraction(1), color=color)
    ours = read_planes(write_planes(frame, "yuv444p" if depth == 8 else "yuv444p10le"))
    kind = vs.YUV420P8 if depth == 8 else vs.YUV420P10
    blank = vs.core.std.BlankClip(format=kind, width=96, height=64, length=1)

    def fill(n, f):  # type: ignore[no-untyped-def]
        out = f.copy()
        for index, plane in enumerate(planes):
            np.copyto(np.asarray(out[index]), plane)
        return out

    clip = vs.core.std.ModifyFrame(blank, blank, fill).std.SetFrameProps(
        _ChromaLocation=list(ChromaLocation).index(location)
    )
    target = vs.YUV444P8 if depth == 8 else vs.YUV444P10
    theirs = clip.resize.Bicubic(format=target, filter_param_a_uv=0, filter_param_b_uv=0.5).get_frame(0)
    for index in range(3):
        assert distance(ours[index], theirs[index]) <= 1


def test_what_is_no_format_of_integers_is_refused() -> None:
    with pytest.raises(UsageError, match="gbrpf32le"):
        write_planes(_random_frame("gbrp"), "gbrpf32le")


@pytest.mark.parametrize("name", ["v408", "ayuv"])
def test_the_alpha_of_packed_formats_is_read(media: Media, tmp_path: Path, name: str) -> None:
    file = tmp_path / "alpha.avi"
    picture = "-f lavfi -i color=red@0.4:s=64x48:r=25:d=0.08,format=yuva444p"
    command = f"ffmpeg -v error {picture} -c:v {name} {file}"
    subprocess.run(command.split(), check=True)
    frame = next(Source(file))
    assert frame.has_alpha
    assert abs(int(frame.planes[3][0, 0]) - 102) <= 1
