"""Pictures with a color profile are read without a crash: tried in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageCms

_READ = """
import sys
from vsr_plugin.stream import Selection, Source
for name in sys.argv[1:]:
    print(*(frame.planes[0].shape[0] for frame in Source(name)))
"""
_PICTURES = [*((mode, "png") for mode in ("RGB", "RGBA", "L", "P")), ("RGB", "jpg"), ("RGB", "webp"), ("RGB", "tif")]


@pytest.mark.parametrize("deinterlaced", [False, True])
def test_color_profiles_do_not_crash(tmp_path: Path, *, deinterlaced: bool) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for mode, suffix in _PICTURES:
        picture = Image.linear_gradient("L").resize((64, 48)).convert(mode)
        picture.save(tmp_path / f"{mode}.{suffix}", icc_profile=profile)
    read = _READ.replace("(name)", "(name, Selection(deinterlace=True))") if deinterlaced else _READ
    words = [sys.executable, "-c", read, *sorted(map(str, tmp_path.iterdir()))]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["48"] * len(_PICTURES)), done.stderr
