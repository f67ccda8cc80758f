"""Show what a network adds: one part of a frame, enlarged bicubically on the left and by the network on the right."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import vsr_plugin as vsr
from vsr_plugin.samples import enlarge_plane
from vsr_plugin.stream import Source
from vsr_plugin.stream.planes import write_planes

SCALE = 3
TOP, LEFT, HEIGHT, WIDTH = 24, 230, 120, 200  # the part of the frame, in its own pixels


def main(clip: Path, output: Path, second: float) -> None:
    """Write the two halves side by side, divided by a white line."""
    source = Source(clip)
    frame = next(frame for frame in source if frame.pts * frame.time_base >= second)
    source.close()
    with vsr.Upscaler("espcn", SCALE) as upscaler:
        (network,) = upscaler.upscale([frame])
    (plain,) = enlarge_plane(frame.planes[0][None], SCALE, 8, (network.height, network.width))
    top, left, height, width = (SCALE * number for number in (TOP, LEFT, HEIGHT, WIDTH))
    rows, columns = slice(top, top + height), slice(left, left + width)
    line = np.full((height, 2), 235, np.uint8)
    luma = np.concatenate([plain[rows, columns], line, network.planes[0][rows, columns]], 1)
    # Chroma is enlarged bicubically on both sides: only luma differs.
    chroma = [plane[top // 2 : (top + height) // 2, left // 2 : (left + width) // 2] for plane in network.planes[1:]]
    gray = np.full((height // 2, 1), 128, np.uint8)
    both = replace(network, planes=(luma, *(np.concatenate([plane, gray, plane], 1) for plane in chroma)))
    write_planes(both, "yuv420p").save(output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 1.2)
