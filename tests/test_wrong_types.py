"""What is given in a wrong type is told in a sentence, where it is given."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import vsr_plugin as vsr
from vsr_plugin.arguments import check_type

HOW = vsr.Execution(backend="eager", device="cpu")
GRAY: tuple[Any, ...] = (np.zeros((8, 8), np.uint8),)


def _file(**given: Any) -> object:
    """`upscale_file` with one argument that is wrong."""
    with vsr.Upscaler("espcn", 2, HOW) as upscaler:
        return vsr.upscale_file(**{"source": "in.mp4", "output": "out.mp4", "upscaler": upscaler, **given})


@pytest.mark.parametrize(
    ("call", "given", "message"),
    [
        (vsr.Upscaler, {"model": None}, "model to be a string, got None"),
        (vsr.Upscaler, {"scale": "2"}, "scale to be a whole number or a Size, got '2'"),
        (vsr.Upscaler, {"scale": None}, "scale to be a whole number or a Size, got None"),
        (vsr.Upscaler, {"scale": 2.0}, "scale to be a whole number or a Size, got 2.0"),
        (vsr.Upscaler, {"execution": "cuda"}, "execution to be an Execution, got 'cuda'"),
        (vsr.Upscaler, {"weights": 3}, "weights to be a path, got 3"),
        (vsr.Execution, {"device": 0}, "device to be a string, got 0"),
        (vsr.Execution, {"batch": "4"}, "batch to be a whole number, got '4'"),
        (vsr.Execution, {"batch": True}, "batch to be a whole number, got True"),
        (vsr.Execution, {"tile": None}, "tile to be a whole number or a string, got None"),
        (vsr.Execution, {"self_ensemble": "yes"}, "self_ensemble to be True or False, got 'yes'"),
        (vsr.Selection, {"frames": 2.5}, "frames to be a whole number, got 2.5"),
        (vsr.Selection, {"deinterlace": 1}, "deinterlace to be True or False, got 1"),
        (vsr.Encoding, {"codec": 3}, "codec to be a string, got 3"),
        (vsr.Encoding, {"crf": "20"}, "crf to be a number, got '20'"),
        (vsr.Encoding, {"options": "g=12"}, "options to be a dictionary of strings, got 'g=12'"),
        (vsr.ColorSpec, {"matrix": "bt709"}, "matrix to be a Matrix, got 'bt709'"),
        (vsr.NetworkSpec, {"overlap": 3}, "overlap to be a dictionary of whole numbers to whole numbers, got 3"),
        (
            vsr.Frame,
            {"planes": GRAY[0], "pts": 0, "time_base": Fraction(1)},
            "planes to be a tuple or a list, got a ndarray",
        ),
        (vsr.Frame, {"planes": GRAY, "pts": 0, "time_base": 0.04}, "time_base to be a Fraction, got 0.04"),
        (_file, {"source": None}, "source to be a path, got None"),
        (_file, {"output": 3}, "output to be a path, got 3"),
        (_file, {"upscaler": "espcn"}, "upscaler to be an Upscaler, got 'espcn'"),
        (_file, {"selection": {"frames": 2}}, "selection to be a Selection, got {'frames': 2}"),
        (_file, {"encoding": {"crf": 2}}, "encoding to be an Encoding or a string, got {'crf': 2}"),
        (_file, {"on_progress": 3}, "on_progress to be a function, got 3"),
        (_file, {"executor": 4}, "executor to be a Cluster or another Executor, got 4"),
    ],
)
def test_a_wrong_type_is_told_in_a_sentence(call: Callable[..., object], given: dict[str, Any], message: str) -> None:
    with pytest.raises(vsr.UsageError) as error:
        call(**given)
    assert str(error.value) == f"Expected {message}"


# What is of no argument's type, and values that are in no argument's range or mean nothing to it.
ALIEN: list[Any] = [object(), b"x", int, [None], (None,), {None: None}, np.zeros((2, 2))]
ODD: list[Any] = [None, True, 3, 2.5, -1, 0, 10**30, math.nan, math.inf, "", "xyzzy", "a\0b", lambda: 0]
FRAME = vsr.Frame(GRAY, 0, Fraction(1, 25))
SIZE = vsr.Size(height=10)
# Of each public callable the arguments without which it does not work.
CALLS: dict[str, tuple[Callable[..., object], dict[str, Any]]] = {
    "Upscaler": (vsr.Upscaler, {}),
    "Upscaler.from_module": (
        vsr.Upscaler.from_module,
        {"module": lambda x: x, "spec": vsr.NetworkSpec(overlap={2: 1}), "scale": 2},
    ),
    "Execution": (vsr.Execution, {}),
    "Size": (vsr.Size, {"height": 100}),
    "Size.of": (SIZE.of, {"frame": FRAME, "scales": (2, 3)}),
    "Size.target": (SIZE.target, {"width": 8, "height": 8, "scales": (2, 3)}),
    "Selection": (vsr.Selection, {}),
    "Encoding": (vsr.Encoding, {}),
    "Encoding.of": (vsr.Encoding.of, {}),
    "ColorSpec": (vsr.ColorSpec, {}),
    "ColorSpec.chroma_shape": (vsr.ColorSpec().chroma_shape, {"height": 2, "width": 2}),
    "Frame": (vsr.Frame, {"planes": GRAY, "pts": 0, "time_base": Fraction(1, 25)}),
    "Frame.repeats": (FRAME.repeats, {"other": FRAME}),
    "NetworkSpec": (vsr.NetworkSpec, {"overlap": {2: 1}}),
    "ModelSpec": (
        vsr.ModelSpec,
        {"overlap": {2: 1}, "name": "x", "paper": "y", "architecture": "espcn:ESPCN", "cost": {2: (1, 1)}},
    ),
    "ModelSpec.weights": (vsr.MODELS["espcn"].weights, {"scale": 2}),
    "load_model": (vsr.load_model, {"name": "espcn", "scale": 2}),
    "Cluster": (vsr.Cluster, {"workers": 1}),
    "upscale_file": (_file, {"source": "there is none.mp4"}),
    "best_model": (vsr.best_model, {"source": "there is none.mp4"}),
}
UPSCALER_CALLS: dict[str, dict[str, Any]] = {
    "upscale": {"frames": [FRAME]},
    "enlarge_image": {"image": GRAY[0]},
    "__call__": {"image": GRAY[0]},
    "stage": {"frames": [FRAME]},
    "target": {"frame": FRAME},
}
# What messages call it in another word; and what is called by the library alone.
SAID = {"name": "model", "transposed": "size"}
OURS = {"Cluster.run"}
WITHOUT = {"Matrix", "Range", "ChromaLocation", "Progress", "Report"}  # made by the library, or looked up


def _refuses(call: Callable[..., object], given: dict[str, Any], name: str, value: object) -> bool:
    """Whether a call refuses a value, which it must do in a sentence that names the argument."""
    error = _error(call, {**given, name: value})
    if error is None or "there is none.mp4" in str(error):  # all is right so far
        return False
    said = str(error).lower().replace(" ", "_")
    named = any(word in said for word in (name, name.removesuffix("s"), SAID.get(name, name)))
    assert named or (value == "xyzzy" and value in said), f"{name}={value!r}: {error!r}"
    assert isinstance(error, vsr.VsrError), f"{name}={value!r}: {error!r}"
    return True


def _error(call: Callable[..., object], given: dict[str, Any]) -> Exception | None:
    try:
        call(**given)
    except (vsr.VsrError, TypeError, ValueError) as error:
        return error
    return None


def _arguments(call: Callable[..., object]) -> list[str]:
    return list(inspect.signature(vsr.upscale_file if call is _file else call).parameters)


@pytest.mark.parametrize(
    ("called", "name"), [(called, name) for called, (call, _) in CALLS.items() for name in _arguments(call)]
)
def test_whatever_is_given_is_taken_or_refused_in_a_sentence(
    called: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsr_plugin.stream.segments.cluster.find_spec", lambda name: name)  # Ray is there, or would be
    call, given = CALLS[called]
    aliens = [value for value in ALIEN if not (name in ("module", "on_progress") and callable(value))]
    taken = [value for value in aliens if not _refuses(call, given, name, value)]
    assert not taken
    for value in ODD:
        _refuses(call, given, name, value)


@pytest.mark.parametrize("called", UPSCALER_CALLS)
def test_whatever_an_upscaler_is_given_is_taken_or_refused_in_a_sentence(called: str) -> None:
    with vsr.Upscaler("espcn", 2, HOW) as upscaler:
        method = getattr(upscaler, called)

        def call(**given: Any) -> object:
            made = method(**given)
            return list(made) if called == "stage" else made

        for name in inspect.signature(method).parameters:
            for value in (*ALIEN[:-1], *ODD):
                _refuses(call, UPSCALER_CALLS[called], name, value)


def test_every_public_callable_is_asked() -> None:
    asked = {*CALLS, *OURS, *(f"Upscaler.{name}" for name in UPSCALER_CALLS)}
    for name in set(vsr.__all__) - WITHOUT:
        thing = getattr(vsr, name)
        if not callable(thing) or (isinstance(thing, type) and issubclass(thing, Exception)):
            continue
        assert name in asked
        for method, function in vars(thing).items() if isinstance(thing, type) else ():
            public = not method.startswith("_") and callable(getattr(thing, method))
            if public and inspect.isroutine(function) and len(inspect.signature(getattr(thing, method)).parameters) > 1:
                assert f"{name}.{method}" in asked


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
