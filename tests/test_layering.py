"""Who may import whom: the source is read, not run, so that imports inside functions count, too."""

from __future__ import annotations

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]

_BELOW_ENGINE = {
    "arguments",
    "backends",
    "color",
    "device",
    "driver",
    "errors",
    "execution",
    "frames",
    "arrays",
    "in_flight",
    "installation",
    "kernels",
    "luma",
    "models",
    "passes",
    "rectangles",
    "reuse",
    "samples",
    "sizes",
    "sources",
    "tiling",
}
_BELOW_FRONT_ENDS = {*_BELOW_ENGINE, "engine", "stream"}
_MEASURING = {"evaluation", "images"}
# Room → the rooms it may import. A room is a module or a sub-package of vsr_plugin; all may import themselves.
ROOMS = {
    "arguments": {"errors", ""},
    "errors": set[str](),
    "kernels": set[str](),
    "weights": set[str](),
    "sources": set[str](),
    "installation": set[str](),
    "interruption": set[str](),
    "figure": {"errors", "installation"},
    "images": {"errors", "kernels"},
    "frames": {"arguments", "errors"},
    "sizes": {"arguments", "errors", "frames"},
    "arrays": {"errors", "frames"},
    "samples": {"frames"},
    "luma": {"frames", "samples"},
    "tiling": {"arrays"},
    "models": {"arguments", "errors", "frames", "kernels", "sources", "weights"},
    "color": {"arrays", "errors", "frames", "kernels", "samples", "sizes"},
    "backends": {
        "arrays",
        "errors",
        "frames",
        "installation",
        "interruption",
        "kernels",
        "models",
        "samples",
        "sources",
        "tiling",
    },
    "rectangles": {"arrays", "tiling"},
    "reuse": {"arrays", "frames", "in_flight", "rectangles"},
    "passes": {
        "arrays",
        "backends",
        "errors",
        "kernels",
        "models",
        "rectangles",
        "reuse",
        "samples",
        "sources",
        "tiling",
    },
    "execution": {"arguments", "backends", "errors"},
    "driver": {"backends", "errors"},
    "device": {"arrays", "backends", "driver", "errors", "execution", "frames", "kernels"},
    "in_flight": {"arrays", "backends", "device", "frames"},
    "engine": _BELOW_ENGINE,
    "stream": {*_BELOW_ENGINE, "engine"},
    "vsvsr": {"vapoursynth"},
    "vapoursynth": {*_BELOW_ENGINE, "engine"},
    "preview": {*_BELOW_FRONT_ENDS, "interruption"},
    "interpolation": {"engine", "execution", "models"},
    "bench": {*_BELOW_FRONT_ENDS, *_MEASURING, "compare", "figure", "interpolation", "preview"},
    "compare": {*_BELOW_FRONT_ENDS, "figure", "interpolation"},
    "export": {"backends", "errors", "installation", "models", "tiling"},
    # Training images go through real encoders, and films are training data: both are read by `stream`.
    "training": {
        *_MEASURING,
        "arrays",
        "backends",
        "color",
        "driver",
        "errors",
        "figure",
        "frames",
        "installation",
        "kernels",
        "models",
        "stream",
    },
    "evaluation": {"errors", "kernels", "images"},
    "cli": {
        *_BELOW_FRONT_ENDS,
        "bench",
        "compare",
        "evaluation",
        "export",
        "figure",
        "interruption",
        "images",
        "preview",
        "training",
        "weights",
        "",
    },
    "__main__": {"cli"},
    # vsr_plugin/__init__.py, lazily
    "": {"engine", "errors", "execution", "export", "frames", "models", "sizes", "stream", "vapoursynth"},
}
# Who may import what is not ours; files and folders below the root.
THIRD_PARTIES = {
    "torch": ("vsr_plugin", "kernels"),
    "numpy": ("vsr_plugin", "kernels"),
    "av": ("vsr_plugin/stream", "vsr_plugin/images.py"),
    "vapoursynth": ("vsr_plugin/vapoursynth",),
    "pynvml": ("vsr_plugin/backends/tensorrt/flavor.py",),
    "vskernels": ("vsr_plugin/vapoursynth/jetpack.py",),
    "tensorrt": ("vsr_plugin/backends/tensorrt/flavor.py",),
    "tensorrt_rtx": ("vsr_plugin/backends/tensorrt/flavor.py",),
    "filelock": (
        "vsr_plugin/backends/cache.py",
        "vsr_plugin/stream/output.py",
        "vsr_plugin/stream/segments/manifest.py",
    ),
    "platformdirs": ("vsr_plugin/backends/cache.py",),
    "openvino": ("vsr_plugin/backends/openvino.py", "vsr_plugin/backends/tracing.py"),
    "ray": tuple(f"vsr_plugin/stream/segments/{name}.py" for name in ("cluster", "dispatch", "ship", "worker")),
    "triton": ("kernels",),
    "typer": ("vsr_plugin/cli",),
    "rich": ("vsr_plugin/cli",),
    "threadpoolctl": ("vsr_plugin/device.py",),
    "safetensors": ("vsr_plugin/models", "vsr_plugin/training"),
    "cv2": ("vsr_plugin/bench", "vsr_plugin/preview"),
    "aiohttp": ("vsr_plugin/preview/connections.py", "vsr_plugin/preview/server.py"),
    "onnx": ("vsr_plugin/backends/graph.py", "vsr_plugin/export/onnx.py"),
    "onnxscript": ("vsr_plugin/backends/graph.py",),
    "matplotlib": ("vsr_plugin/figure.py",),
}


def sources() -> list[Path]:
    return sorted(file for folder in ("vsr_plugin", "kernels", "weights") for file in (ROOT / folder).rglob("*.py"))


def module_name(file: Path) -> str:
    """``vsr_plugin.models.espcn`` of its file; kernels/ and weights/ are sub-packages of vsr_plugin."""
    parts = list(file.relative_to(ROOT).with_suffix("").parts)
    if parts[0] != "vsr_plugin":
        parts.insert(0, "vsr_plugin")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file) for file in sources()}


def imports(text: str, module: str, *, is_package: bool) -> Iterator[str]:
    """The full name of every module that ``module`` imports, wherever in its text; of ``from x import y`` also x.y."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                parts = module.split(".")
                package = parts[: len(parts) - node.level + is_package]
                origin = ".".join([*package, origin]) if origin else ".".join(package)
            inner = [f"{origin}.{alias.name}" for alias in node.names]
            found = [name for name in inner if name in MODULES]
            yield from found
            if len(found) < len(inner):
                yield origin


def room(module: str) -> str:
    return module.removeprefix("vsr_plugin").removeprefix(".").partition(".")[0]


def complaints(text: str, file: str, module: str, *, is_package: bool = False) -> list[str]:
    """What is wrong with the imports of one file."""
    wrong = []
    for name in imports(text, module, is_package=is_package):
        top = name.partition(".")[0]
        if top == "vsr_plugin":
            if room(name) not in {room(module), *ROOMS[room(module)]}:
                wrong.append(f"{file} imports {name}")
        elif top not in sys.stdlib_module_names:
            places = THIRD_PARTIES.get(top, ())
            if not any(file == place or file.startswith(f"{place}/") for place in places):
                wrong.append(f"{file} imports {name}")
    return wrong


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_imports_only_what_lies_below_it(file: Path) -> None:
    module = module_name(file)
    assert room(module) in ROOMS, f"{room(module)!r} has no place in the house: add it to ROOMS"
    place = file.relative_to(ROOT).as_posix()
    is_package = file.name == "__init__.py"
    assert complaints(file.read_text(encoding="utf-8"), place, module, is_package=is_package) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("models.espcn", "from ..engine import Upscaler"),
        ("models.espcn", "def f():\n    import vsr_plugin.stream.decode"),
        ("frames", "from .models import MODELS"),
        ("engine", "from . import bench"),
        ("evaluation", "from .training.trainer import Trainer"),
        ("stream.decode", "from ..cli.terminal import console"),
        ("engine", "import av"),
        ("backends.eager", "from openvino import Core"),
        ("models.espcn", "import kernels"),
        ("stream.encode", "import requests"),
    ],
)
def test_a_wrong_import_is_seen(module: str, line: str) -> None:
    file = f"vsr_plugin/{module.replace('.', '/')}.py"
    assert complaints(line, file, f"vsr_plugin.{module}") != []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("evaluation", "from .images import imresize"),
        ("evaluation", "from . import images"),
        ("stream.decode", "import av.filter"),
        ("engine", "from . import tiling"),
        ("cli.bench", "from ..bench.report import measure"),
        ("models.espcn", "from .layers import BicubicUpsample"),
    ],
)
def test_a_right_import_is_let_through(module: str, line: str) -> None:
    file = f"vsr_plugin/{module.replace('.', '/')}.py"
    assert complaints(line, file, f"vsr_plugin.{module}") == []


def test_no_room_reaches_itself_through_others() -> None:
    """But the facade, whose version and names `cli` uses."""
    rooms = {name: allowed - {""} for name, allowed in ROOMS.items() if name}
    assert list(TopologicalSorter(rooms).static_order())  # raises CycleError


def test_nothing_below_imports_a_front_end() -> None:
    for name in ROOMS.keys() - {"", "bench", "cli", "__main__", "vsvsr"}:
        assert not ROOMS[name] & {"cli", "preview", "vapoursynth", "bench"}


def test_no_two_modules_need_each_other() -> None:
    """Types count, too; a folder's own module, which says what is inside, does not."""
    graph = {
        module_name(file): set(imports(file.read_text(encoding="utf-8"), module_name(file), is_package=False)) & MODULES
        for file in sources()
        if file.name != "__init__.py"
    }
    TopologicalSorter(graph).prepare()  # raises CycleError
