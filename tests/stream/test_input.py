"""What is refused before a frame is decoded, and why."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vsr_plugin.errors import InputError
from vsr_plugin.stream import Encoding, Source
from vsr_plugin.stream.stills.heif import read_pixel_aspect

from .conftest import Media, piped, video


def _box(kind: str, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind.encode()) + body


def _full(kind: str, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


def _still(value: int) -> tuple[bytes, bytes]:
    """One AV1 image of 64×64, and its configuration record."""
    encoder = av.CodecContext.create("libsvtav1", "w")
    encoder.width = encoder.height = 64
    encoder.pix_fmt, encoder.time_base = "yuv420p", 1
    encoder.options = {"preset": "12"}
    frame = av.VideoFrame.from_ndarray(np.full((96, 64), value, np.uint8), "yuv420p")
    frame.pts = 0
    data = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    return data, bytes(encoder.extradata or b"")


def _grid(columns: int, rows: int) -> bytes:
    """An AVIF image in tiles (ISO/IEC 23008-12, section 6.6.2.3)."""
    images = [_still(30 + 40 * index) for index in range(columns * rows)]
    canvas = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, 64 * columns, 64 * rows)
    payloads = [canvas, *(data for data, _ in images)]
    entries = [_full("infe", 2, 0, struct.pack(">HH4sB", 1, 0, b"grid", 0))]
    entries += [_full("infe", 2, 1, struct.pack(">HH4sB", 2 + index, 0, b"av01", 0)) for index in range(len(images))]
    tiles = struct.pack(f">HH{len(images)}H", 1, len(images), *range(2, 2 + len(images)))
    properties = _box(
        "ipco",
        _full("ispe", 0, 0, struct.pack(">II", 64 * columns, 64 * rows)),
        _full("ispe", 0, 0, struct.pack(">II", 64, 64)),
        _box("av1C", images[0][1]),
    )
    links = struct.pack(">IHBB", len(payloads), 1, 1, 1)
    links += b"".join(struct.pack(">HBBB", 2 + index, 2, 2, 0x83) for index in range(len(images)))

    def meta(offset: int) -> bytes:
        places = b""
        for index, payload in enumerate(payloads):
            places += struct.pack(">HHHII", 1 + index, 0, 1, offset, len(payload))
            offset += len(payload)
        return _full(
            "meta", 0, 0,
            _full("hdlr", 0, 0, struct.pack(">I4s12xB", 0, b"pict", 0)),
            _full("pitm", 0, 0, struct.pack(">H", 1)),
            _full("iloc", 0, 0, struct.pack(">BBH", 0x44, 0, len(payloads)), places),
            _full("iinf", 0, 0, struct.pack(">H", len(entries)), *entries),
            _full("iref", 0, 0, _box("dimg", tiles)),
            _box("iprp", properties, _full("ipma", 0, 0, links)),
        )  # fmt: skip

    head = _box("ftyp", b"avif", struct.pack(">I", 0), b"avifmif1miaf")
    return head + meta(len(head) + len(meta(0)) + 8) + _box("mdat", *payloads)


@pytest.mark.parametrize(("columns", "rows"), [(2, 2), (3, 1)])
def test_an_image_in_tiles_is_refused(tmp_path: Path, columns: int, rows: int) -> None:
    """PyAV gives one stream for each tile, and not how they lie."""
    file = tmp_path / "tiles.avif"
    file.write_bytes(_grid(columns, rows))
    with av.open(str(file)) as container:
        assert len(container.streams.video) == columns * rows
    with pytest.raises(
        InputError, match=rf"tiles\.avif: one image in {columns * rows} tiles.*: magick tiles\.avif tiles\.png"
    ):
        Source(file)


def _single(*properties: bytes) -> bytes:
    """An AVIF image of 64×64 with these properties."""
    image, configuration = _still(100)
    size = _full("ispe", 0, 0, struct.pack(">II", 64, 64))
    essential = [0x02, *range(3, 3 + len(properties))]
    links = struct.pack(">IHBB", 1, 1, 1 + len(essential), 1) + bytes(0x80 | number for number in essential)

    def meta(offset: int) -> bytes:
        return _full(
            "meta", 0, 0,
            _full("hdlr", 0, 0, struct.pack(">I4s12xB", 0, b"pict", 0)),
            _full("pitm", 0, 0, struct.pack(">H", 1)),
            _full("iloc", 0, 0, struct.pack(">BBH", 0x44, 0, 1), struct.pack(">HHHII", 1, 0, 1, offset, len(image))),
            _full("iinf", 0, 0, struct.pack(">H", 1), _full("infe", 2, 0, struct.pack(">HH4sB", 1, 0, b"av01", 0))),
            _box("iprp", _box("ipco", size, _box("av1C", configuration), *properties), _full("ipma", 0, 0, links)),
        )  # fmt: skip

    head = _box("ftyp", b"avif", struct.pack(">I", 0), b"avifmif1miaf")
    return head + meta(len(head) + len(meta(0)) + 8) + _box("mdat", image)


@pytest.mark.parametrize(
    ("properties", "size"),
    [
        ((), (128, 128)),
        ((_box("clap", struct.pack(">8I", 40, 1, 30, 1, 0, 1, 0, 1)),), (80, 60)),
        ((_box("clap", struct.pack(">8I", 40, 1, 30, 1, 0, 1, 0, 1)), _box("irot", b"\1")), (60, 80)),
    ],
)
def test_an_avif_image_is_cut_and_turned_as_it_says(
    enlarge: Callable[..., Path], tmp_path: Path, properties: tuple[bytes, ...], size: tuple[int, int]
) -> None:
    file = tmp_path / "in.avif"
    file.write_bytes(_single(*properties))
    after = enlarge(file, "out.png", encoding=Encoding())
    with Image.open(after) as image:
        assert image.size == size


_PASP = _box("pasp", struct.pack(">II", 4, 3))


@pytest.mark.parametrize(
    ("properties", "ratio"),
    [((), "1:1"), ((_PASP,), "4:3"), ((_PASP, _box("irot", b"\1")), "3:4"), ((_box("pasp", bytes(8)),), "1:1")],
)
@pytest.mark.parametrize("is_pipe", [False, True])
def test_pixels_of_an_avif_image_keep_their_shape(
    enlarge: Callable[..., Path], tmp_path: Path, properties: tuple[bytes, ...], ratio: str, is_pipe: bool
) -> None:
    file = tmp_path / "in.avif"
    if is_pipe:
        with piped(_single(*properties), file):
            after = enlarge(file, "out.png", encoding=Encoding())
    else:
        file.write_bytes(_single(*properties))
        after = enlarge(file, "out.png", encoding=Encoding())
    assert video(after).get("sample_aspect_ratio", "1:1") == ratio


@pytest.mark.parametrize("wide", [False, True])
def test_links_of_properties_have_two_forms(wide: bool) -> None:
    """`ipma` numbers items and properties in one or two sizes; a property of another item is not the image's."""
    one, number = (">IBHH", ">I") if wide else (">HBBB", ">H")
    for owner, ratio in ((7, Fraction(2)), (8, None)):
        links = struct.pack(one, owner, 2, 1, 2) + struct.pack(one[:3], 9, 0)
        pasp = _box("pasp", struct.pack(">II", 2, 1))
        properties = _box("ipco", _full("ispe", 0, 0, bytes(8)), pasp)
        linked = _full("ipma", int(wide), int(wide), struct.pack(">I", 2), links)
        meta = _full(
            "meta", 0, 0, _full("pitm", int(wide), 0, struct.pack(number, 7)), _box("iprp", properties, linked)
        )
        assert read_pixel_aspect(BytesIO(_box("ftyp", b"mif1") + meta)) == ratio
        assert read_pixel_aspect(BytesIO((_box("ftyp", b"mif1") + meta)[:-3])) in (ratio, None)


@pytest.mark.parametrize("name", ["film.mp4", "film.yuv", "image.png"])
def test_an_empty_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=f"^{name} is empty$"):
        Source(tmp_path / name)


@pytest.mark.parametrize("name", ["film.yuv", "film.RGB", "film.nv12"])
def test_samples_without_a_header_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(range(256)) * 54)
    with pytest.raises(InputError, match=f"^{name}: samples without a header, .* -i {name} film.y4m$"):
        Source(tmp_path / name)


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mov", "cut.bin"])
def test_a_film_that_lost_its_index_is_not_called_no_film(media: Media, tmp_path: Path, name: str) -> None:
    whole = media("plain.mp4").read_bytes()
    assert whole.find(b"mdat") < whole.find(b"moov"), "the index comes last"
    (tmp_path / name).write_bytes(whole[: whole.find(b"moov") - 100])
    with pytest.raises(InputError, match=f"^{name}: an MP4 or MOV file without its index: it was cut off, or is still"):
        Source(tmp_path / name)
