"""What is given in a wrong type is told in a sentence, where it is given."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import vsr_plugin as vsr
from vsr_plugin.errors import check_type

HOW = vsr.Execution(backend="eager", device="cpu")
GRAY: tuple[Any, ...] = (np.zeros((8, 8), np.uint8),)


def _file(**given: Any) -> object:
    """`upscale_file` with one argument that is wrong."""
    with vsr.Upscaler("espcn", 2, HOW) as upscaler:
        return vsr.upscale_file(**{"source": "in.mp4", "output": "out.mp4", "upscaler": upscaler, **given})


@pytest.mark.parametrize(
    ("call", "given", "message"),
    [
        (vsr.Upscaler, {"model": None}, "the model to be a string, got None"),
        (vsr.Upscaler, {"scale": "2"}, "the scale to be a whole number or a Size, got '2'"),
        (vsr.Upscaler, {"scale": None}, "the scale to be a whole number or a Size, got None"),
        (vsr.Upscaler, {"scale": 2.0}, "the scale to be a whole number or a Size, got 2.0"),
        (vsr.Upscaler, {"execution": "cuda"}, "the execution to be an Execution, got 'cuda'"),
        (vsr.Upscaler, {"weights": 3}, "the weights to be a string or a path, got 3"),
        (vsr.Execution, {"device": 0}, "device to be a string, got 0"),
        (vsr.Execution, {"batch": "4"}, "batch to be a whole number, got '4'"),
        (vsr.Execution, {"batch": True}, "batch to be a whole number, got True"),
        (vsr.Execution, {"tile": None}, "tile to be a whole number or a string, got None"),
        (vsr.Execution, {"self_ensemble": "yes"}, "self_ensemble to be True or False, got 'yes'"),
        (vsr.Selection, {"frames": 2.5}, "frames to be a whole number, got 2.5"),
        (vsr.Selection, {"deinterlace": 1}, "deinterlace to be True or False, got 1"),
        (vsr.Encoding, {"codec": 3}, "codec to be a string, got 3"),
        (vsr.Encoding, {"crf": "20"}, "crf to be a number, got '20'"),
        (vsr.Encoding, {"options": "g=12"}, "the encoder's options to be a dictionary, got 'g=12'"),
        (vsr.ColorSpec, {"matrix": "bt709"}, "the matrix to be a Matrix, got 'bt709'"),
        (vsr.NetworkSpec, {"overlap": 3}, "the overlap to be a dictionary, got 3"),
        (vsr.Frame, {"planes": GRAY[0], "pts": 0, "time_base": 1}, "the planes to be a tuple or a list, got a ndarray"),
        (vsr.Frame, {"planes": GRAY, "pts": 0, "time_base": 0.04}, "the time base to be a Fraction, got 0.04"),
        (_file, {"source": None}, "the source to be a string or a path, got None"),
        (_file, {"output": 3}, "the output to be a string or a path, got 3"),
        (_file, {"upscaler": "espcn"}, "the upscaler to be an Upscaler, got 'espcn'"),
        (_file, {"selection": {"frames": 2}}, "the selection to be a Selection, got {'frames': 2}"),
        (_file, {"encoding": {"crf": 2}}, "the encoding to be an Encoding or a string, got {'crf': 2}"),
        (_file, {"on_progress": 3}, "on_progress to be a function, got 3"),
        (_file, {"executor": 4}, "the executor to be a Cluster or another Executor, got 4"),
    ],
)
def test_a_wrong_type_is_told_in_a_sentence(call: Callable[..., object], given: dict[str, Any], message: str) -> None:
    with pytest.raises(vsr.UsageError) as error:
        call(**given)
    assert str(error.value) == f"Expected {message}"


def test_frames_are_no_arrays() -> None:
    with vsr.Upscaler("espcn", 2, HOW) as upscaler:
        for wrong in (GRAY, vsr.Frame(GRAY, 0, Fraction(1, 25))):
            with pytest.raises(vsr.UsageError, match="Expected frames as a sequence of Frame: enlarge_image takes"):
                upscaler.upscale(wrong)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers() -> None:
    check_type("it", np.int64(3), int)
    check_type("it", np.float32(3), float)
    check_type("it", 3, float)


def test_options_of_an_encoder_may_be_numbers() -> None:
    assert vsr.Encoding(options={"g": 12}).options == {"g": "12"}  # type: ignore[dict-item]
