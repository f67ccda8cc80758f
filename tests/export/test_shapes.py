"""Programs that set the size of the frames, as chaiNNer does, find the scale of an ONNX file by shape inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vsr_plugin.export import export_file

if TYPE_CHECKING:
    from pathlib import Path

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


@pytest.mark.parametrize(("model", "scale", "channels"), [("espcn", 3, 1), ("srcnn", 2, 1), ("edsr-baseline", 2, 3)])
def test_the_scale_follows_from_the_shapes(model: str, scale: int, channels: int, tmp_path: Path) -> None:
    file = onnx.load(export_file(model, scale, "onnx", tmp_path))
    sides = file.graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_value for side in sides] == [0, channels, 0, 0]  # 0 is any
    for side, value in zip(sides, (1, channels, 16, 24), strict=True):
        side.dim_value = value
    large = file.graph.output[0].type.tensor_type.shape.dim
    for side in large:
        side.Clear()
    inferred = onnx.shape_inference.infer_shapes(file, strict_mode=True).graph.output[0].type.tensor_type.shape.dim
    assert [side.dim_value for side in inferred] == [1, channels, 16 * scale, 24 * scale]
