"""How often an animation is played, which FFmpeg does not report (GIF89a; PNG, third edition, 11.3.6.1; WebP)."""

from __future__ import annotations

from pathlib import Path

_HEAD = 1 << 16  # number of bytes searched
_GIF = b"\x21\xff\x0bNETSCAPE2.0\x03\x01"
_PNG, _ANIMATION = b"\x89PNG\r\n\x1a\n", b"acTL"
_RIFF, _WEBP, _ANIM = b"RIFF", b"WEBP", b"ANIM\6\0\0\0"


def read_plays(path: str) -> int | None:
    """Read how often a GIF, PNG or WebP is to be played, 0 for endlessly; None if it is not an animation.

    Raises:
        OSError: the file cannot be read.
    """
    if not Path(path).is_file():
        return None
    with Path(path).open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"GIF8"):
        at = head.find(_GIF) + len(_GIF)
        if at < len(_GIF):
            return 1
        again = int.from_bytes(head[at : at + 2], "little")
        return again + 1 if again else 0
    if head.startswith(_PNG) and (at := head.find(_ANIMATION)) > 0:
        return int.from_bytes(head[at + 8 : at + 12])
    if head.startswith(_RIFF) and head[8:12] == _WEBP and (at := head.find(_ANIM)) > 0:
        return int.from_bytes(head[at + 12 : at + 14], "little")
    return None


def loop_options(suffix: str, plays: int) -> dict[str, str]:
    """Muxer options that store the number of plays in files of this suffix; empty if they cannot store it."""
    if suffix == ".gif":
        return {"loop": str(plays - 1 or -1) if plays else "0"}
    return {"plays": str(plays)} if suffix == ".apng" else {}
