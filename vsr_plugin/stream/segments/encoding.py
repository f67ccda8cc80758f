"""Which encodings a film can be cut for."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import av

from ...errors import OutputError, UsageError
from ..encoder import STILL_PICTURES, choose_codec, counts_frames
from ..rate import CONSTANT_RATE

if TYPE_CHECKING:
    from ..encoder import Encoding
    from . import Opening

# They are told a quality, and no rate: what they make of a frame does not depend on what came long before.
_CONSTANT_QUALITY = re.compile(r"libx264|libx264rgb|libx265|libsvtav1|libaom-av1|librav1e|libvpx|libvpx-vp9|\w+_nvenc")
_WHOLE_FILM = {
    "b": "a bit rate", "bit_rate": "a bit rate", "maxrate": "a bit rate", "minrate": "a bit rate",
    "bufsize": "a rate buffer", "pass": "several passes", "passlogfile": "several passes", "stats": "several passes",
    "multipass": "several passes", "2pass": "several passes",
}  # fmt: skip
_WHOLE_FILM_PARAMS = {
    "bitrate": "a bit rate", "tbr": "a bit rate", "vbv-maxrate": "a bit rate", "vbv-bufsize": "a rate buffer",
    "pass": "several passes", "passes": "several passes", "stats": "several passes",
}  # fmt: skip
_OFF = {"", "0", "0k", "disabled"}


def check_cuttable(suffix: str, encoding: Encoding) -> None:
    """Refuse what a film in segments cannot be.

    Args:
        suffix: Of the output; empty for standard output.
        encoding: How to encode.

    Raises:
        UsageError: it is no video file, or the encoder needs the film as a whole.
    """
    if suffix in STILL_PICTURES or suffix in (".y4m", ""):
        raise UsageError(f"Expected a video file to make in segments, got {suffix or 'standard output'}", resume=None)
    for key, value in encoding.options.items():
        found = _WHOLE_FILM.get(key) if value not in _OFF else None
        if key.endswith("-params"):
            pairs = (pair.partition("=") for pair in value.split(":"))
            found = next(
                (
                    _WHOLE_FILM_PARAMS[name]
                    for name, _, set_to in pairs
                    if name in _WHOLE_FILM_PARAMS and set_to not in _OFF
                ),
                None,
            )
        if found:
            raise UsageError(
                f"{key}={value} asks for {found}, which needs the film as a whole: not in segments", resume=None
            )


def obstacle(suffix: str, encoding: Encoding, opening: Opening) -> str | None:
    """Why a film can be encoded only as a whole, in words; None if it can be cut.

    Raises:
        UsageError: the encoder is unknown.
        OutputError: no container has this suffix.
    """
    codec = choose_codec(suffix, opening.frame.color.depth, encoding.codec)
    kind = _container(suffix)
    if counts_frames(codec) or kind in CONSTANT_RATE:
        return f"{codec} in {kind} counts its frames"
    if opening.frame.has_alpha and codec.startswith("libvpx"):
        return f"{codec} keeps the transparency apart"
    if not (_CONSTANT_QUALITY.fullmatch(codec) or av.Codec(codec, "w").intra_only or codec == "ffv1"):
        return f"{codec} keeps a bit rate over the whole film"
    return None


class Nowhere(io.BytesIO):
    """An output that nothing is written to; its name tells its kind."""

    def __init__(self, suffix: str) -> None:
        super().__init__()
        self.name = f"part{suffix}"


def _container(suffix: str) -> str:
    """FFmpeg's name of the format that files of this suffix have."""
    try:
        with av.open(Nowhere(suffix), "w") as output:
            return str(output.format.name)
    except ValueError as error:
        raise OutputError(f"Expected a name that ends in .mp4, .mkv, .mov, .webm, …, got {suffix}") from error
