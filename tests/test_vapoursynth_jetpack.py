"""The scaler in the hands of vs-jetpack, and the module with the short name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vapoursynth as vs
import vsvsr

from vsr_plugin.vapoursynth import upscale

vskernels = pytest.importorskip("vskernels", reason="no vs-jetpack: pip install vsjetpack")

OPTIONS: dict[str, Any] = {"backend": "eager", "device_index": -1}


def gradient() -> vs.VideoNode:
    clip = vs.core.std.BlankClip(format=vs.YUV420P8, width=48, height=32, length=2)
    return clip.akarin.Expr("X 3 * Y 2 * +") if hasattr(vs.core, "akarin") else clip


def same(one: vs.VideoNode, other: vs.VideoNode) -> None:
    assert (one.width, one.height, one.format.id) == (other.width, other.height, other.format.id)
    for a, b in zip(one.get_frame(0), other.get_frame(0), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_the_short_name_is_the_filter() -> None:
    assert vsvsr.upscale is upscale
    with pytest.raises(AttributeError, match="no attribute 'upscaler'"):
        vsvsr.upscaler  # noqa: B018


def test_it_is_a_scaler_that_knows_its_radius() -> None:
    scaler = vskernels.Scaler.ensure_obj(vsvsr.VSR("fsrcnn", **OPTIONS))
    assert isinstance(scaler, vsvsr.VSR)
    assert scaler.kernel_radius == 8
    assert isinstance(vskernels.Scaler.ensure_obj(vsvsr.VSR), vsvsr.VSR)


def test_it_scales_to_any_size_with_one_resample() -> None:
    clip, scaler = gradient(), vsvsr.VSR(**OPTIONS)
    same(scaler.scale(clip, 96, 64), upscale(clip, scale=2, **OPTIONS))
    same(scaler.scale(clip, 120, 80), upscale(clip, width=120, height=80, **OPTIONS))
    same(scaler.supersample(clip, 3), upscale(clip, scale=3, **OPTIONS))
    assert (scaler.scale(clip).width, scaler.scale(clip).height) == (48, 32)


def test_it_shifts_in_samples_of_the_clip() -> None:
    clip, scaler = gradient(), vsvsr.VSR(**OPTIONS)
    shifted = scaler.scale(clip, 96, 64, shift=(1.0, -0.5))
    same(shifted, upscale(clip, scale=2, src_top=1.0, src_left=-0.5, **OPTIONS))
    assert not np.array_equal(shifted.get_frame(0)[1], upscale(clip, scale=2, **OPTIONS).get_frame(0)[1])


def test_what_is_wrong_is_a_sentence() -> None:
    with pytest.raises(vs.Error, match=r"^vsr\.upscale: unknown model 'espnc'"):
        vsvsr.VSR("espnc").scale(gradient(), 96, 64)
