"""Enlarge frames of your own, from any source: no file is read, none is written."""

from fractions import Fraction

import numpy as np

import vsr_plugin as vsr

HEIGHT, WIDTH, RATE = 90, 120, 25


def moving_rings(index: int) -> vsr.Frame:
    """One 8-bit 4:2:0 frame of rings that wander to the right, of limited range as most video is."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    luma = (126 + 80 * np.cos(((x - 40 - index) ** 2 + (y - 45) ** 2) / 40)).astype(np.uint8)
    chroma = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
    color = vsr.ColorSpec(subsampling=(1, 1))
    return vsr.Frame((luma, chroma, chroma), pts=index, time_base=Fraction(1, RATE), color=color)


def main() -> None:
    """Enlarge a stream of frames as they come."""
    frames = (moving_rings(index) for index in range(5))
    with vsr.Upscaler("espcn", 3) as upscaler:
        for frame in upscaler.stage(frames):
            print(frame)


if __name__ == "__main__":
    main()
