"""Video super-resolution: neural networks that enlarge video, with exact colors and exact time.

    import vsr_plugin as vsr

    with vsr.Upscaler("espcn", 3) as upscaler:
        vsr.upscale_file("in.mp4", "out.mp4", upscaler)

| name | what it is |
|---|---|
| `Upscaler` | frames in, larger frames out, through one network on one device |
| `Size` | the requested size of frames, in place of a scale |
| `Execution` | how and where an `Upscaler` runs: backend, device, precision, batch, tile |
| `upscale_file` | a file in, a larger file out; everything else in it is kept |
| `best_model` | the best model that is fast enough for a file on this machine |
| `Selection` | which frames of the file `upscale_file` takes, and how they are decoded |
| `Encoding` | how `upscale_file` encodes |
| `Progress`, `Report` | what `upscale_file` reports while it runs, and when it ends |
| `Cluster` | processes here or on other machines that enlarge the segments of a film: an executor for `upscale_file` |
| `Frame` | one frame: native samples, and its time |
| `ColorSpec` | how to read the samples of a frame |
| `Matrix`, `Range`, `ChromaLocation` | the types of fields of `ColorSpec` |
| `MODELS` | every model by name |
| `NetworkSpec` | what is needed to run a network: its overlap at each scale, and its channels |
| `ModelSpec` | a row of `MODELS`: a `NetworkSpec` with its paper and its weights |
| `load_model` | a model with its weights, as a torch module |
| `VsrError` | the base class of this package's errors; `vsr_plugin.errors` draws the tree |
| `UsageError`, `InputError`, `DamagedInputError`, `OutputError` | its leaves |
| `WeightsError`, `BackendError`, `OutOfMemoryError` | ″ |
| `__version__` | the version of this package |

Importing this package is cheap: what a name needs is imported when it is first used, and torch only for its work.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine import Upscaler
    from .errors import (
        BackendError,
        DamagedInputError,
        InputError,
        OutOfMemoryError,
        OutputError,
        UsageError,
        VsrError,
        WeightsError,
    )
    from .execution import Execution
    from .frames import ChromaLocation, ColorSpec, Frame, Matrix, Range
    from .models import MODELS, ModelSpec, NetworkSpec, load_model
    from .sizes import Size
    from .stream import Encoding, Progress, Report, Selection, best_model, upscale_file
    from .stream.segments.cluster import Cluster

__version__ = "0.1.0"

_HOMES = {
    "BackendError": "errors",
    "ChromaLocation": "frames",
    "Cluster": "stream.segments.cluster",
    "ColorSpec": "frames",
    "DamagedInputError": "errors",
    "Encoding": "stream",
    "Execution": "execution",
    "Frame": "frames",
    "InputError": "errors",
    "MODELS": "models",
    "Matrix": "frames",
    "ModelSpec": "models",
    "NetworkSpec": "models",
    "OutOfMemoryError": "errors",
    "OutputError": "errors",
    "Progress": "stream",
    "Range": "frames",
    "Report": "stream",
    "Selection": "stream",
    "Size": "sizes",
    "Upscaler": "engine",
    "UsageError": "errors",
    "VsrError": "errors",
    "WeightsError": "errors",
    "best_model": "stream",
    "load_model": "models",
    "upscale_file": "stream",
}
__all__ = [
    "MODELS",
    "BackendError",
    "ChromaLocation",
    "Cluster",
    "ColorSpec",
    "DamagedInputError",
    "Encoding",
    "Execution",
    "Frame",
    "InputError",
    "Matrix",
    "ModelSpec",
    "NetworkSpec",
    "OutOfMemoryError",
    "OutputError",
    "Progress",
    "Range",
    "Report",
    "Selection",
    "Size",
    "Upscaler",
    "UsageError",
    "VsrError",
    "WeightsError",
    "__version__",
    "best_model",
    "load_model",
    "upscale_file",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
