"""The filter in a script: what it takes, what it refuses, and that pictures and properties are exact."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import vapoursynth as vs

import vsr_plugin.vapoursynth as vsr
from vsr_plugin.backends import precisions
from vsr_plugin.engine import Upscaler
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ChromaLocation, ColorSpec, Frame, Matrix, Range
from vsr_plugin.installation import install
from vsr_plugin.sizes import Size
from vsr_plugin.vapoursynth.frames import blank, read
from vsr_plugin.vapoursynth.graph import enlarged
from vsr_plugin.vapoursynth.workers import Worker

from .test_color import nearest

core = vs.core
SITINGS = {0: ChromaLocation.LEFT, 1: ChromaLocation.CENTER, 2: ChromaLocation.TOPLEFT}
# What a clip of a format is to the engine, when it has no tags and is small.
FORMATS: dict[int, ColorSpec] = {
    vs.GRAY8: ColorSpec(Matrix.SMPTE170M),
    vs.GRAY12: ColorSpec(Matrix.SMPTE170M, depth=12),
    vs.GRAY16: ColorSpec(Matrix.SMPTE170M, depth=16),
    vs.GRAYH: ColorSpec(Matrix.SMPTE170M, depth=16, floating=True),
    vs.GRAYS: ColorSpec(Matrix.SMPTE170M, depth=32, floating=True),
    vs.YUV420P8: ColorSpec(Matrix.SMPTE170M, subsampling=(1, 1)),
    vs.YUV420P10: ColorSpec(Matrix.SMPTE170M, depth=10, subsampling=(1, 1)),
    vs.YUV422P12: ColorSpec(Matrix.SMPTE170M, depth=12, subsampling=(1, 0)),
    vs.YUV444P16: ColorSpec(Matrix.SMPTE170M, depth=16),
    vs.YUV444PH: ColorSpec(Matrix.SMPTE170M, depth=16, floating=True),
    vs.YUV444PS: ColorSpec(Matrix.SMPTE170M, depth=32, floating=True),
    vs.RGB24: ColorSpec(Matrix.RGB, Range.FULL),
    vs.RGB30: ColorSpec(Matrix.RGB, Range.FULL, depth=10),
    vs.RGB48: ColorSpec(Matrix.RGB, Range.FULL, depth=16),
    vs.RGBH: ColorSpec(Matrix.RGB, Range.FULL, depth=16, floating=True),
    vs.RGBS: ColorSpec(Matrix.RGB, Range.FULL, depth=32, floating=True),
}


def noise(form: int, length: int = 3, width: int = 46, height: int = 30) -> vs.VideoNode:
    """Another picture in every frame; odd widths of chroma make strides that differ from widths."""
    empty = core.std.BlankClip(format=form, width=width, height=height, length=length, keep=True)
    chance = np.random.default_rng(form)
    values = chance.random((length, 3, height, width))

    def draw(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        frame = f.copy()
        for index in range(frame.format.num_planes):
            plane = np.asarray(frame[index])
            part = values[n, index, : plane.shape[0], : plane.shape[1]]
            if frame.format.sample_type == vs.FLOAT:
                plane[:] = part - 0.5 * (index > 0 and frame.format.color_family == vs.YUV)
            else:
                plane[:] = np.floor(part * (1 << frame.format.bits_per_sample))
        return frame

    return empty.std.ModifyFrame(empty, draw)


def arrays(frame: vs.VideoFrame) -> list[np.ndarray]:
    return [np.array(frame[index]) for index in range(frame.format.num_planes)]


def as_ours(frame: vs.VideoFrame, color: ColorSpec) -> Frame:
    return Frame(tuple(arrays(frame)), 0, Fraction(1), color=color)


# The same picture as the engine's, in every format.


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: core.get_video_format(form).name)
@pytest.mark.parametrize("batch", [1, 2])
def test_every_format_comes_back_as_the_engine_makes_it(form: int, batch: int) -> None:
    clip = noise(form)
    large = vsr.upscale(clip, scale=3, backend="eager", device_index=-1, batch_size=batch)
    assert (large.format.id, large.width, large.height, large.num_frames) == (form, 138, 90, 3)
    color = FORMATS[form]
    precision: Any = "float16" if color.floating and color.depth == 16 else "float32"
    with Upscaler("espcn", 3, Execution(backend="eager", device="cpu", precision=precision, batch=batch)) as upscaler:
        for before, after in zip(clip.frames(), large.frames(), strict=True):
            [expected] = upscaler.upscale([as_ours(before, color)])
            for plane, wanted in zip(arrays(after), expected.planes, strict=True):
                np.testing.assert_array_equal(plane, wanted)


def test_half_precision_without_a_backend_for_it_is_computed_in_float32() -> None:
    clip = noise(vs.GRAYH, length=1)
    assert "float16" not in precisions("openvino")
    large = vsr.upscale(clip, scale=2, backend="openvino", device_index=-1)
    with Upscaler("espcn", 2, Execution(backend="openvino", device="cpu", precision="float32")) as upscaler:
        [expected] = upscaler.upscale([as_ours(clip.get_frame(0), FORMATS[vs.GRAYH])])
    np.testing.assert_array_equal(arrays(large.get_frame(0))[0], expected.planes[0])


@pytest.mark.parametrize("form", [vs.YUV420P8, vs.YUV422P8, vs.YUV420P10, vs.YUV422P10, vs.YUV444PS, vs.YUV420P16])
@pytest.mark.parametrize("siting", SITINGS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_chroma_is_where_zimg_puts_it(form: int, siting: int, scale: int) -> None:
    smooth = noise(form, length=1).std.BoxBlur(hradius=2, vradius=2)
    clip = smooth.std.SetFrameProps(_ChromaLocation=siting, _Matrix=1)
    large = vsr.upscale(clip, scale=scale, backend="eager", device_index=-1)
    zimg = clip.resize.Bicubic(large.width, large.height, filter_param_a=0, filter_param_b=0.5)
    tolerance = 1 if clip.format.sample_type == vs.INTEGER else 1e-6
    for plane in (1, 2):
        ours, theirs = (np.array(node.get_frame(0)[plane], np.float64) for node in (large, zimg))
        assert np.abs(ours - theirs).max() <= tolerance


# What the frames say of themselves.


@pytest.mark.parametrize(
    ("form", "size", "props", "expected"),
    [
        (vs.YUV420P8, (640, 576), {}, (Matrix.SMPTE170M, Range.LIMITED, ChromaLocation.LEFT)),
        (vs.YUV420P8, (1280, 576), {}, (Matrix.BT709, Range.LIMITED, ChromaLocation.LEFT)),
        (vs.YUV420P8, (640, 578), {"_Matrix": 2}, (Matrix.BT709, Range.LIMITED, ChromaLocation.LEFT)),
        (vs.YUV420P8, (64, 48), {"_Matrix": 0}, (Matrix.SMPTE170M, Range.LIMITED, ChromaLocation.LEFT)),
        (vs.YUV420P8, (64, 48), {"_Matrix": 99}, (Matrix.SMPTE170M, Range.LIMITED, ChromaLocation.LEFT)),
        (vs.YUV420P8, (64, 48), {"_Matrix": 9, "_Range": 1}, (Matrix.BT2020_NCL, Range.FULL, ChromaLocation.LEFT)),
        (vs.YUV420P8, (64, 48), {"_ColorRange": 0}, (Matrix.SMPTE170M, Range.FULL, ChromaLocation.LEFT)),
        (vs.YUV420P8, (64, 48), {"_ChromaLocation": 2}, (Matrix.SMPTE170M, Range.LIMITED, ChromaLocation.TOPLEFT)),
        (vs.YUV420P8, (64, 48), {"_ChromaLocation": 5}, (Matrix.SMPTE170M, Range.LIMITED, ChromaLocation.BOTTOM)),
        (vs.GRAY8, (64, 48), {}, (Matrix.SMPTE170M, Range.LIMITED, ChromaLocation.LEFT)),
        (vs.RGB24, (64, 48), {}, (Matrix.RGB, Range.FULL, ChromaLocation.LEFT)),
        (vs.RGB24, (64, 48), {"_Range": 0}, (Matrix.RGB, Range.LIMITED, ChromaLocation.LEFT)),
    ],
)
@pytest.mark.filterwarnings("ignore:The _ColorRange:DeprecationWarning")  # which we read, as old scripts still write it
def test_tags_are_read(form: int, size: tuple[int, int], props: dict[str, int], expected: tuple[Any, ...]) -> None:
    clip = core.std.BlankClip(format=form, width=size[0], height=size[1], length=1)
    with (clip.std.SetFrameProps(**props) if props else clip).get_frame(0) as frame:
        color = read(frame, 0).color
    assert (color.matrix, color.range, color.chroma_location) == expected


def test_a_zimg_reader_of_untagged_gray_agrees_on_its_range() -> None:
    black = core.std.BlankClip(format=vs.GRAY8, width=16, height=16, color=16, length=1)
    assert black.resize.Bicubic(format=vs.GRAYS).get_frame(0)[0][0, 0] == 0
    assert read(black.get_frame(0), 0).color.range is Range.LIMITED


def test_tags_may_change_along_the_clip() -> None:
    clip = noise(vs.YUV420P10, length=8)
    parts = [{"_Matrix": 1}, {"_Matrix": 9, "_Range": 1}, {"_Matrix": 9, "_Range": 1}, {"_ChromaLocation": 2}] * 2
    tagged = core.std.Splice([clip[n].std.SetFrameProps(**props) for n, props in enumerate(parts)])
    with nearest(2, 3) as upscaler:
        large = enlarged(tagged, [worker := Worker(upscaler, blank(clip))], worker.target, 8)
        played = [arrays(frame) for frame in large.frames()]
        for number, planes in enumerate(played):
            with tagged.get_frame(number) as frame:
                [expected] = upscaler.upscale([read(frame, number)])
            for plane, wanted in zip(planes, expected.planes, strict=True):
                np.testing.assert_array_equal(plane, wanted)


def test_all_properties_survive() -> None:
    clip = noise(vs.YUV420P8).std.SetFrameProps(
        _SARNum=32,
        _SARDen=27,
        _DurationNum=1001,
        _DurationDen=24000,
        _Matrix=9,
        _Transfer=16,
        _Primaries=9,
        _Range=0,
        _ChromaLocation=2,
        _FieldBased=0,
        MasteringDisplayMinLuminance=0.005,
        MasteringDisplayPrimariesX=[0.68, 0.265, 0.15],
        ContentLightLevelMax=1000,
        _PictType="B",
        words=["one", "two"],
        bits=b"\x00\xff\x00",
        integers=[3, 1, 2],
    )
    clip = clip.std.ClipToProp(noise(vs.GRAY16, width=10, height=4), prop="thumbnail")
    large = vsr.upscale(clip, scale=2, backend="eager", device_index=-1)
    for before, after in zip(clip.frames(), large.frames(), strict=True):
        small, kept = before.props["thumbnail"], after.props["thumbnail"]
        np.testing.assert_array_equal(np.asarray(small[0]), np.asarray(kept[0]))
        wanted, found = ({key: value for key, value in f.props.items() if key != "thumbnail"} for f in (before, after))
        assert found == wanted
        assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in wanted.items()}


def test_rate_and_length_survive() -> None:
    clip = noise(vs.GRAY8, length=5)
    for rated in (clip.std.AssumeFPS(fpsnum=24000, fpsden=1001), core.std.Interleave([clip, clip])):
        large = vsr.upscale(rated, scale=2, backend="eager", device_index=-1)
        assert (large.fps, large.num_frames) == (rated.fps, rated.num_frames)
    varying = clip.std.ModifyFrame(clip, lambda n, f: _lasting(f, n + 1))
    large = vsr.upscale(varying, scale=2, backend="eager", device_index=-1, batch_size=2)
    assert [frame.props["_DurationNum"] for frame in large.frames()] == [1, 2, 3, 4, 5]


def _lasting(frame: vs.VideoFrame, ticks: int) -> vs.VideoFrame:
    copy = frame.copy()
    copy.props["_DurationNum"] = ticks
    return copy


@pytest.mark.parametrize(("form", "alpha"), [(vs.YUV420P8, vs.GRAY8), (vs.RGB30, vs.GRAY10), (vs.RGBS, vs.GRAYS)])
def test_alpha_is_enlarged_too(form: int, alpha: int) -> None:
    plain, mask = noise(form), noise(alpha).std.BoxBlur()  # zimg clamps after each dimension, we at the end
    clip = plain.std.ClipToProp(mask, prop="_Alpha")
    large = vsr.upscale(clip, scale=2, backend="eager", device_index=-1)
    bare = vsr.upscale(plain, scale=2, backend="eager", device_index=-1)
    zimg = mask.resize.Bicubic(large.width, large.height, filter_param_a=0, filter_param_b=0.5)
    tolerance = 1 if mask.format.sample_type == vs.INTEGER else 1e-6
    for n in range(clip.num_frames):
        frame, found = large.get_frame(n), large.std.PropToClip("_Alpha").get_frame(n)
        assert np.abs(np.array(found[0], np.float64) - np.array(zimg.get_frame(n)[0], np.float64)).max() <= tolerance
        for plane, wanted in zip(arrays(frame), arrays(bare.get_frame(n)), strict=True):
            np.testing.assert_array_equal(plane, wanted)


def test_the_properties_of_alpha_survive() -> None:
    mask = noise(vs.GRAY8).std.SetFrameProps(_Range=1, mask="by hand", numbers=[1, 2])
    clip = noise(vs.YUV420P8).std.ClipToProp(mask, prop="_Alpha")
    large = vsr.upscale(clip, scale=2, backend="eager", device_index=-1)
    for before, after in zip(mask.frames(), large.frames(), strict=True):
        assert dict(after.props["_Alpha"].props) == dict(before.props)


@pytest.mark.parametrize(
    "props",
    [{"_Matrix": [1, 9]}, {"_ChromaLocation": [1, 2]}, {"_Range": 0.5}, {"_FieldBased": "top"}, {"_Alpha": 3}],
    ids=str,
)
def test_a_tag_of_the_wrong_kind_says_nothing_and_survives(props: dict[str, Any]) -> None:
    clip = noise(vs.YUV420P8, length=1)
    plain, odd = (
        vsr.upscale(node, scale=2, backend="eager", device_index=-1).get_frame(0)
        for node in (clip, clip.std.SetFrameProps(**props))
    )
    for plane, wanted in zip(arrays(odd), arrays(plain), strict=True):
        np.testing.assert_array_equal(plane, wanted)
    assert {key: odd.props[key] for key in props} == props


def failure(clip: vs.VideoNode, number: int = 0) -> str:
    with pytest.raises(vs.Error) as caught:
        clip.get_frame(number)
    return str(caught.value).strip()


def test_fields_are_refused_where_they_come() -> None:
    clip = noise(vs.YUV420P8, length=6)
    mixed = clip[:3] + clip[3].std.SetFieldBased(2) + clip[4:]
    large = vsr.upscale(mixed, scale=2, backend="eager", device_index=-1, batch_size=3)
    for number in (0, 1, 2, 4, 5):
        large.get_frame(number)
    assert failure(large, 3) == (
        "vapoursynth.Error: vsr.upscale: expected progressive frames, got fields in frame 3 (_FieldBased=2): "
        "deinterlace the clip first, or, if the mark is wrong, std.SetFieldBased(clip, 0)"
    )


def test_an_alpha_that_does_not_fit_is_refused() -> None:
    clip = noise(vs.RGB24).std.ClipToProp(noise(vs.GRAY16), prop="_Alpha")
    said = failure(vsr.upscale(clip, scale=2, backend="eager", device_index=-1))
    assert "expected _Alpha to be Gray8 of 46×30, got Gray16 of 46×30 in frame 0: convert it with" in said


def test_a_matrix_that_a_network_of_rgb_cannot_use_is_refused() -> None:
    clip = noise(vs.YUV444P8).std.SetFrameProps(_Matrix=14)
    with nearest(2, 3) as upscaler:
        said = failure(enlarged(clip, [worker := Worker(upscaler, blank(clip))], worker.target, 1))
    assert said.startswith("vapoursynth.Error: vsr.upscale: expected a matrix out of")
    assert "\n" not in said


# What is refused when the script is loaded.

GRAY = core.std.BlankClip(format=vs.GRAY8, width=48, height=32, length=2)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no clip": ({"clip": "clip.mkv"}, "expected a video clip, got str: pass what a source filter gives"),
    "sound": ({"clip": core.std.BlankAudio()}, "expected a video clip, got AudioNode"),
    "format changes": (
        {"clip": core.std.Splice([GRAY, GRAY.resize.Point(format=vs.GRAY16)], mismatch=True)},
        "expected a clip of one format, got one whose format changes",
    ),
    "size changes": (
        {"clip": core.std.Splice([GRAY, GRAY.resize.Point(width=24)], mismatch=True)},
        "expected a clip of one size, got one whose size changes",
    ),
    "32-bit integers": (
        {"clip": core.std.BlankClip(format=vs.GRAY32)},
        "expected a clip of 8 to 16 bits, or GRAY, YUV444 and RGB in half or single precision, got Gray32",
    ),
    "floating 4:2:0": ({"clip": core.std.BlankClip(format=vs.YUV420PS)}, "got YUV420PS: convert it with resize"),
    "model": ({"model": "espnc"}, "unknown model 'espnc'. Did you mean 'espcn'?"),
    "no name": ({"model": 3}, "expected model to be a string, got 3"),
    "scale": ({"scale": 5}, "model 'espcn' has no scale 5. Its scales: 2, 3, 4"),
    "half a scale": ({"scale": 2.5}, "expected scale to be a whole number, got 2.5"),
    "weights": ({"weights": "/no/such.safetensors"}, "expected weights to be a file of weights"),
    "no weights": ({"model_path": __file__}, "got 'test_vapoursynth.py'"),
    "backend": ({"backend": "cuda"}, "expected a backend, got the device 'cuda'"),
    "precision": ({"precision": "float64"}, "unknown precision 'float64'. Known precisions: float32"),
    "precision of floats": (
        {"clip": core.std.BlankClip(format=vs.RGBS), "precision": "bfloat16", "backend": "eager"},
        "expected precision='float32' for a clip of RGBS, got 'bfloat16': leave it out",
    ),
    "device": ({"device_index": 64}, "expected device to name a device that is there, got 64"),
    "device below": ({"device_index": -2}, "expected device to be 'cpu', 'cuda:1', −1 (the CPU), 0 or more, got -2"),
    "device of a backend": ({"device_index": 1, "backend": "openvino"}, "with openvino, which runs on the CPU"),
    "streams": ({"num_streams": 0}, "expected num_streams to be a whole number, 1 or more, got 0"),
    "batch": ({"batch_size": "8"}, "expected batch to be a whole number, got '8'"),
    "width": (
        {"clip": vs.core.std.BlankClip(format=vs.YUV420P8), "width": 641},
        "a multiple of 2 for YUV420P8, got 641",
    ),
    "height": ({"height": 0}, "expected height to be a whole number above 0, got 0"),
    "tile": ({"tile": 16}, "expected a tile of 32 or more input samples a side, got 16"),
    "cache": ({"cache_dir": __file__}, "expected cache_dir to be a folder, got the file"),
    "unknown": ({"device_id": 1}, "unknown argument 'device_id'. Did you mean 'device'? Known arguments: model, scale"),
    "misspelt": ({"presicion": "float16"}, "unknown argument 'presicion'. Did you mean 'precision'?"),
    "twice": ({"batch": 2, "batch_size": 2}, "expected batch or batch_size, which mean the same, got both"),
    "no device": ({"device": "cuda:64"}, "no device 'cuda:64': torch reports"),
    "no cache": ({"cache_dir": 5}, "expected cache_dir to be a path, got 5"),
}


def test_a_frame_of_samples_that_are_no_numbers_is_an_error() -> None:
    spoilt = core.std.BlankClip(format=vs.GRAYS, width=16, height=12, length=2, color=[1]).std.Expr("x 1e38 * 1e38 *")
    clip = vsr.upscale(spoilt, backend="eager")
    with pytest.raises(vs.Error, match="expected numbers for samples, got NaN or infinity in plane 0"):
        clip.get_frame(0)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_one_sentence_at_once(name: str) -> None:
    arguments, sentence = WRONG[name]
    with pytest.raises(vs.Error) as caught:
        vsr.upscale(**{"clip": GRAY, "backend": "eager", **arguments})
    said = str(caught.value)
    assert said.startswith("vsr.upscale: ")
    assert sentence in said
    assert "\n" not in said
    assert "--" not in said  # options are the command line's


def test_a_backend_of_gpus_says_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("vsr_plugin.backends.tensorrt.backend.find_flavor", lambda **_: None)
    with pytest.raises(vs.Error, match=r"^vsr\.upscale: .*'tensorrt' runs on CUDA, and there is no CUDA device: leave"):
        vsr.upscale(GRAY, backend="tensorrt")


def test_a_model_without_weights_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsr_plugin.models.manifest", dict)
    with pytest.raises(vs.Error, match=r"vsr\.upscale: no weights are shipped for espcn ×2"):
        vsr.upscale(GRAY)


# Options.


def test_weights_of_ones_own(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shipped = load_file(str(resources.files("vsr_plugin.weights") / "espcn_x2.safetensors"))
    zeros = {key: torch.zeros_like(value) for key, value in shipped.items()}
    save_file(zeros, tmp_path / "zeros.safetensors")
    large = vsr.upscale(noise(vs.GRAY8), model_path=tmp_path / "zeros.safetensors", device_index=-1)
    assert not np.asarray(large.get_frame(0)[0]).any()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"device": "cpu"}, {"device_index": -1}),
        ({"device": "cpu", "batch": 2}, {"device": -1, "batch_size": 2}),
        ({"device": "cpu", "tile": "off"}, {"device": "cpu", "tile": 0}),
        ({"device": "cpu", "tile": "auto"}, {"device": "cpu", "tile": None}),
    ],
)
def test_names_of_other_filters_mean_the_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    clip = noise(vs.GRAY8)
    one, other = (vsr.upscale(clip, backend="eager", **options) for options in (ours, theirs))
    assert np.array_equal(np.asarray(one.get_frame(0)[0]), np.asarray(other.get_frame(0)[0]))


@pytest.mark.parametrize("options", [{"tile": 32}, {"tile": 0}, {"num_streams": 2}, {"batch_size": 2}], ids=str)
def test_tiles_streams_and_batches_change_no_picture(options: dict[str, Any]) -> None:
    clip = noise(vs.YUV420P8, width=90, height=70)
    plain = vsr.upscale(clip, backend="eager", device_index=-1)
    other = vsr.upscale(clip, backend="eager", device_index=-1, **options)
    for a, b in zip(plain.frames(), other.frames(), strict=True):
        for one, two in zip(arrays(a), arrays(b), strict=True):
            assert np.abs(one.astype(int) - two).max() <= 1  # float32 sums may be ordered otherwise
            assert (one != two).mean() < 1e-3


def test_a_cache_is_filled_and_changes_no_picture(tmp_path: Path) -> None:
    clip = noise(vs.GRAY8, length=1)
    pictures = []
    for _ in range(2):
        large = vsr.upscale(clip, backend="openvino", cache_dir=tmp_path / "new" / "folder")
        pictures.append(arrays(large.get_frame(0))[0])
        assert list((tmp_path / "new" / "folder").iterdir())
    plain = vsr.upscale(clip, backend="openvino")
    for picture in pictures:
        np.testing.assert_array_equal(picture, arrays(plain.get_frame(0))[0])


def test_a_backend_without_a_cache_makes_no_folder(tmp_path: Path) -> None:
    vsr.upscale(noise(vs.GRAY8), backend="eager", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("wanted", "size", "made"),
    [
        ({"width": 92}, Size(width=92), (92, 60)),
        ({"height": 90}, Size(height=90), (138, 90)),
        ({"width": 100}, Size(width=100), (100, 66)),
        ({"width": 100, "height": 100}, Size(width=100, height=100, fit="stretch"), (100, 100)),
        ({"width": 100, "height": 100, "fit": "cover"}, Size(width=100, height=100, fit="cover"), (100, 100)),
        ({"width": 100, "height": 100, "fit": "inside"}, Size(width=100, height=100), (100, 66)),
        ({"width": 30, "scale": 2}, Size(width=30, scale=2), (30, 20)),
        ({"height": 300}, Size(height=300), (460, 300)),
        ({"height": 90, "scale": 4}, Size(height=90, scale=4), (138, 90)),
        ({"scale": 2, "src_left": 1.25}, Size(width=92, height=60, scale=2, shift=(1.25, 0)), (92, 60)),
    ],
    ids=str,
)
def test_a_size_is_what_the_engine_makes_of_it(wanted: dict[str, Any], size: Size, made: tuple[int, int]) -> None:
    clip = noise(vs.YUV420P8, length=1).std.SetFrameProps(_SARNum=32, _SARDen=27)
    large = vsr.upscale(clip, backend="eager", device_index=-1, **wanted)
    assert (large.width, large.height, large.format.id) == (*made, vs.YUV420P8)
    with Upscaler("espcn", size, Execution(backend="eager", device="cpu")) as upscaler:
        [expected] = upscaler.upscale([as_ours(clip.get_frame(0), FORMATS[vs.YUV420P8])])
    frame = large.get_frame(0)
    for plane, wanted_plane in zip(arrays(frame), expected.planes, strict=True):
        np.testing.assert_array_equal(plane, wanted_plane)
    if size.fit == "cover":
        assert (frame.props["_SARNum"], frame.props["_SARDen"]) == (32, 27)
    else:
        zimg = clip.resize.Point(large.width, large.height).get_frame(0).props
        assert (frame.props["_SARNum"], frame.props["_SARDen"]) == (zimg["_SARNum"], zimg["_SARDen"])


@pytest.mark.parametrize(("left", "top"), [(1.0, -0.5), (-2.25, 0.75)])
def test_a_shift_is_that_of_vapoursynths_resizers(left: float, top: float) -> None:
    clip = noise(vs.YUV420P16, length=1).std.BoxBlur(hradius=3, vradius=3)
    shifted = vsr.upscale(clip, scale=2, src_left=left, src_top=top, backend="eager", device_index=-1)
    kernel = {"filter_param_a": 0, "filter_param_b": 0.5}
    zimg = clip.resize.Bicubic(92, 60, src_left=left, src_top=top, **kernel)
    for plane in (1, 2):
        ours, theirs = (np.array(node.get_frame(0)[plane], np.float64) for node in (shifted, zimg))
        assert np.abs(ours - theirs).max() <= 1


def test_an_alpha_gets_the_size_too() -> None:
    clip = noise(vs.YUV420P8, length=1)
    mask = clip.std.ShufflePlanes(0, vs.GRAY)
    large = vsr.upscale(clip.std.ClipToProp(mask, "_Alpha"), height=50, backend="eager", device_index=-1)
    alpha = large.get_frame(0).props["_Alpha"]
    assert (alpha.width, alpha.height) == (large.width, large.height) == (76, 50)


def test_a_still_that_is_repeated_for_ever_is_enlarged() -> None:
    still = noise(vs.YUV420P8, length=1)
    large = vsr.upscale(still.std.Loop(), backend="eager", device_index=-1, batch_size=8)
    assert large.num_frames == 2**31 - 1
    [first, last] = (arrays(large.get_frame(number)) for number in (0, 2**31 - 2))
    for plane, same in zip(first, last, strict=True):
        np.testing.assert_array_equal(plane, same)


@pytest.mark.parametrize(("size", "fetched"), [("latency", [50, 51]), (1, [50, 51, 52])])
def test_for_latency_nothing_is_fetched_ahead(size: Any, fetched: list[int]) -> None:
    seen: list[int] = []
    source = noise(vs.GRAY8, length=1).std.Loop(100)
    counted = source.std.ModifyFrame(source, lambda n, f: seen.append(n) or f)  # type: ignore[func-returns-value]
    large = vsr.upscale(counted, backend="eager", device_index=-1, batch_size=size)
    for number in (50, 51):
        large.get_frame(number)
    assert sorted(set(seen)) == fetched


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("form", FORMATS, ids=lambda form: core.get_video_format(form).name)
def test_two_streams_of_a_gpu_give_the_picture_of_one(form: int) -> None:
    clip = noise(form, length=40)
    one, two = (vsr.upscale(clip, scale=2, num_streams=count, batch_size=4) for count in (1, 2))
    for a, b in zip(one.frames(), two.frames(), strict=True):
        for x, y in zip(arrays(a), arrays(b), strict=True):
            np.testing.assert_array_equal(x, y)


def test_without_vapoursynth_the_import_says_what_to_install() -> None:
    program = "import sys; sys.modules['vapoursynth'] = None; import vsr_plugin.vapoursynth"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert f"needs VapourSynth 74 or newer: {install('vapoursynth')}" in done.stderr.splitlines()[-1]


def test_a_frame_is_read_without_a_copy() -> None:
    with noise(vs.YUV420P10, length=1).get_frame(0) as frame:
        ours = read(frame, 7)
        assert ours.pts == 7
        for index, plane in enumerate(ours.planes):
            assert plane.ctypes.data == frame.get_read_ptr(index).value
            assert not plane.flags.writeable
            np.testing.assert_array_equal(plane, np.asarray(frame[index]))
        assert replace(ours, planes=tuple(plane.copy() for plane in ours.planes)).geometry == ours.geometry
