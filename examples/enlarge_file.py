"""Enlarge a video file; its sound, subtitles, chapters, timestamps and colours stay as they are."""

import sys
from pathlib import Path

import vsr_plugin as vsr


def main(source: Path, output: Path) -> None:
    """Make ``source`` three times as large."""
    with vsr.Upscaler("espcn", 3) as upscaler:
        report = vsr.upscale_file(source, output, upscaler, encoding=vsr.Encoding(crf=20), overwrite=True)
    print(f"{report.frames} frames of {report.width}×{report.height} at {report.fps:.1f} frames per second")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
