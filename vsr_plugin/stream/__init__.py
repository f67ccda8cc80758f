"""Files in, larger files out: decode | buffered | upscale | buffered | encode.

| name | what it is |
|---|---|
| `upscale_file` | the whole pipeline |
| `best_model` | finds the best model that is fast enough |
| `Source` | a file as an iterator of frames |
| `Selection` | which frames of it to take |
| `Encoding` | how to encode them |
| `Progress`, `Report` | what `upscale_file` reports while it works, and at the end |
| `default_output` | the default name of an output |
| `buffered.buffered` | reads ahead in a thread |
| `encode.encode` | writes frames into a file, with everything else that the source contains |

Names are imported when they are first used. Code that checks names and options before any work imports `encoder`,
`output` and `sequence` alone. Torch, which takes seconds to load, is imported only where colors are converted.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .choice import best_model
    from .decode import Source
    from .encoding import Encoding
    from .output import default_output
    from .selection import Selection
    from .upscale import Progress, Report, upscale_file

_HOMES = {
    "Encoding": "encoding",
    "Progress": "upscale",
    "Report": "upscale",
    "Selection": "selection",
    "Source": "decode",
    "best_model": "choice",
    "default_output": "output",
    "upscale_file": "upscale",
}
__all__ = ["Encoding", "Progress", "Report", "Selection", "Source", "best_model", "default_output", "upscale_file"]


def __getattr__(name: str) -> object:
    """Import a name from its module when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
