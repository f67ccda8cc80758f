"""The command line, Python and VapourSynth call one thing by one name."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest

import vsr_plugin as vsr
from vsr_plugin.cli.encode import encode
from vsr_plugin.cli.preview import preview

vapoursynth = pytest.importorskip("vsr_plugin.vapoursynth")

PYTHON = {*inspect.signature(vsr.Upscaler).parameters, *(field.name for field in fields(vsr.Execution))}


@pytest.mark.parametrize(
    "name", ["model", "scale", "weights", "backend", "device", "precision", "batch", "tile", "cache_dir"]
)
def test_a_thing_has_one_name(name: str) -> None:
    assert name in inspect.signature(encode).parameters
    assert name in PYTHON
    assert name in inspect.signature(vapoursynth.upscale).parameters


@pytest.mark.parametrize("name", ["matrix", "deinterlace", "start"])
def test_what_is_selected_has_one_name(name: str) -> None:
    assert name in inspect.signature(encode).parameters
    assert name in inspect.signature(preview).parameters
    assert name in {field.name for field in fields(vsr.Selection)}


def test_a_misspelt_name_is_compared_with_all_there_are() -> None:
    from vsr_plugin.vapoursynth import arguments

    there = list(inspect.signature(vapoursynth.upscale).parameters)
    assert sorted(arguments._KNOWN) == sorted(set(there) - {"clip", "others"})
