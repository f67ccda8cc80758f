"""An argument by a name that is not ours is answered with ours, and with where it belongs."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest

import vsr_plugin as vsr
from vsr_plugin.arguments import meant

# What the library makes, or what has no arguments to choose: nobody calls it by keywords.
MADE_HERE = {"Progress", "Report", "Matrix", "Range", "ChromaLocation"}
CALLED = [
    name
    for name in vsr.__all__
    if callable(getattr(vsr, name)) and name not in MADE_HERE and not name.endswith("Error")
]


@pytest.mark.parametrize(
    ("call", "given", "said"),
    [
        (vsr.Upscaler, "device", "execution=Execution(device=…)"),
        (vsr.Upscaler, "batch_size", "execution=Execution(batch=…)"),
        (vsr.Upscaler, "model_path", "weights=…"),
        (vsr.Upscaler, "wieghts", "weights=…"),
        (vsr.Upscaler, "height", "scale=Size(height=…)"),
        (vsr.Upscaler.from_module, "tile_size", "execution=Execution(tile=…)"),
        (vsr.Execution, "batch_size", "batch=…"),
        (vsr.Execution, "gpu_id", "device=…"),
        (vsr.Encoding, "pix_fmt", "pixel_format=…"),
        (vsr.Selection, "ss", "start=…"),
        (vsr.Size, "heigth", "height=…"),
        (vsr.Frame, "matrix", "color=ColorSpec(matrix=…)"),
        (vsr.upscale_file, "start", "selection=Selection(start=…)"),
        (vsr.upscale_file, "crf", "encoding=Encoding(crf=…)"),
        (vsr.upscale_file, "device", "upscaler=Upscaler(execution=Execution(device=…))"),
        (vsr.upscale_file, "workers", "executor=Cluster(workers=…)"),
        (vsr.best_model, "device", "execution=Execution(device=…)"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(call: Any, given: str, said: str) -> None:
    with pytest.raises(TypeError) as error:
        call(**{given: 1})
    assert str(error.value) == f"{call.__name__}() has no argument {given!r}. Did you mean {said}?"


@pytest.mark.parametrize("name", CALLED)
def test_all_that_is_public_answers_and_keeps_its_signature(name: str) -> None:
    call = getattr(vsr, name)
    known = ", ".join(inspect.signature(call).parameters)
    with pytest.raises(TypeError) as error:
        call(xyzzy=1)
    assert str(error.value) == f"{name}() has no argument 'xyzzy'. Its arguments: {known}"


def test_settings_can_still_be_sent_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(vsr.Execution(batch=3))) == vsr.Execution(batch=3)


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("Batch-Size", ["batch", "size"], "batch"),
        ("gpu", ["device"], "device"),
        ("gpu", ["model"], None),
        ("tile", ["tile"], "tile"),
    ],
)
def test_names_of_other_programs_come_before_those_that_look_alike(
    name: str, known: list[str], found: str | None
) -> None:
    assert meant(name, known) == found
