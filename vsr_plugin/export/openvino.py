"""A network in OpenVINO's own format: the graph in an .xml file, the weights in a .bin file of the same name."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends.graph import INPUT, OUTPUT
from ..backends.openvino import OpenVINOBackend

if TYPE_CHECKING:
    from .facts import Exported


def write(network: Exported) -> dict[str, bytes]:
    """The content of both files. Weights in float16 do not set the precision in which the network is computed.

    Raises:
        BackendError: OpenVINO does not load, or refuses the network.
    """
    size = (-1, -1, -1) if network.size is None else (1, *network.size[::-1])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{network.spec.name}_x{network.scale}.xml"
        OpenVINOBackend().save(
            network.mirrored,
            network.spec,
            file,
            shape=(size[0], network.spec.channels, *size[1:]),
            half=network.precision == "float16",
            names=(INPUT, OUTPUT),
            facts=network.facts,
        )
        return {suffix: file.with_suffix(suffix).read_bytes() for suffix in (".xml", ".bin")}
