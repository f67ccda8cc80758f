"""What still images say of themselves arrives in the enlarged image, or is named. Made and judged by Pillow."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, features

from vsr_plugin.errors import OutputError
from vsr_plugin.stream import Encoding
from vsr_plugin.stream.stills.still import read_still

Enlarge = Callable[..., Path]
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r>1</r></x:xmpmeta>'

_PAM = "P7\nWIDTH 16\nHEIGHT 16\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n"


def _photo(orientation: int = 1, mode: str = "RGB") -> tuple[Image.Image, Image.Exif]:
    samples = np.zeros((40, 64, 3), np.uint8)
    samples[:20, :20] = 255
    samples[20:, 40:] = (200, 200, 90)
    exif = Image.Exif()
    exif[0x10F] = "Maker"
    if orientation != 1:
        exif[0x112] = orientation
    return Image.fromarray(samples).convert(mode), exif


def _run(enlarge: Enlarge, source: Path, output: str, **options: Any) -> Image.Image:
    image = Image.open(enlarge(source, output, encoding=Encoding(), **options))
    image.load()
    return image


def _save_three(file: Path, joined: str = "", **options: Any) -> None:
    images = [Image.new("RGB", (16, 16), (80 * i, 99, 200)) for i in range(3)]
    if not joined:
        images[0].save(file, save_all=True, append_images=images[1:], **options)
    elif joined.isalpha():
        for image in images:
            data = BytesIO()
            image.save(data, joined, **options)
            with file.open("ab") as opened:
                opened.write(data.getvalue())
    else:
        file.write_bytes(b"".join(joined.encode() + image.tobytes() for image in images))


@pytest.mark.parametrize(
    ("name", "options", "lost"),
    [
        ("in.tif", {}, "2 of its 3 pages"),
        ("in.tif", {"big_endian": True}, "2 of its 3 pages"),
        ("in.jpg", {"format": "MPO"}, "2 of its 3 images"),
        ("in.jpg", {"joined": "jpeg"}, "2 of its 3 images"),
        ("in.jpg", {"joined": "jpeg", "progressive": True}, "2 of its 3 images"),
        ("in.tif", {"joined": "tiff"}, "2 of its 3 pages"),
        ("in.sgi", {"joined": "sgi"}, "2 of its 3 images"),
        ("in.pcx", {"joined": "pcx"}, "2 of its 3 images"),
        ("in.tga", {"joined": "tga"}, "2 of its 3 images"),
        ("in.tga", {"joined": "tga", "compression": "tga_rle"}, "2 of its 3 images"),
        ("in.dds", {"joined": "dds"}, "2 of its 3 images"),
        ("in.ppm", {"joined": "P6 16 16 255\n"}, "2 of its 3 images"),
        (
            "in.pam",
            {"joined": "P7\nWIDTH 16\nHEIGHT 16\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n"},
            "2 of its 3 images",
        ),
    ],
)
@pytest.mark.parametrize("output", ["out.png", "out.tif", "out.mp4"])
def test_images_that_are_not_enlarged_are_counted(
    enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, options: Any, lost: str, output: str
) -> None:
    _save_three(tmp_path / name, **options)
    enlarge(tmp_path / name, output, encoding=Encoding())
    assert caplog.text.count("dropping") == 1
    assert f"{name}: dropping {lost}: only the first is enlarged" in caplog.text
    with pytest.raises(OutputError, match=rf"^{name}: {lost} would be lost: only the first is enlarged$"):
        enlarge(tmp_path / name, f"strict_{output}", encoding=Encoding(), strict=True)
    assert not (tmp_path / f"strict_{output}").exists()


def test_smaller_copies_of_an_image_are_no_pages(enlarge: Enlarge, tmp_path: Path) -> None:
    large, small = Image.new("RGB", (16, 16)), Image.new("RGB", (8, 8))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    large.save(tmp_path / "in.tif", save_all=True, append_images=[small])
    assert int(getattr(Image.open(tmp_path / "in.tif"), "n_frames", 0)) == 2
    enlarge(tmp_path / "in.tif", "out.png", encoding=Encoding(), strict=True)


def test_pages_in_a_circle_end(tmp_path: Path) -> None:
    _save_three(tmp_path / "in.tif")
    data = bytearray((tmp_path / "in.tif").read_bytes())
    links = [4]
    while start := int.from_bytes(data[links[-1] : links[-1] + 4], "little"):
        links.append(start + 2 + 12 * int.from_bytes(data[start : start + 2], "little"))
    data[links[-1] : links[-1] + 4] = data[4:8]
    assert read_still(bytes(data))["PAGES"] == (3).to_bytes(4, "big")


@pytest.mark.parametrize("output", ["out.tif", "out.jpg", "out.bmp", "out.png"])
@pytest.mark.parametrize("kind", ["tif", "jpg", "png"])
def test_an_image_that_says_nothing_loses_nothing(enlarge: Enlarge, tmp_path: Path, kind: str, output: str) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    _photo()[0].save(tmp_path / f"in.{kind}", exif=exif, dpi=(300, 300))
    after = _run(enlarge, tmp_path / f"in.{kind}", output, strict=True)
    assert [round(float(dots)) for dots in after.info["dpi"]] == [300, 300]


@pytest.mark.parametrize("output", ["out.tif", "out.bmp"])
@pytest.mark.parametrize("tag", [0x10E, 0x13B, 0x8298])
def test_descriptions_in_exif_are_named(enlarge: Enlarge, tmp_path: Path, tag: int, output: str) -> None:
    exif = Image.Exif()
    exif[tag] = "words"
    _photo()[0].save(tmp_path / "in.tif", exif=exif)
    why = f"no encoder here can write it into {output[3:]}"
    with pytest.raises(OutputError, match=f"EXIF would be lost: {why}"):
        _run(enlarge, tmp_path / "in.tif", output, strict=True)


def test_color_profiles_arrive_in_tiff(enlarge: Enlarge, tmp_path: Path) -> None:
    _photo()[0].save(tmp_path / "in.png", icc_profile=PROFILE, dpi=(300, 150))
    after = _run(enlarge, tmp_path / "in.png", "out.tif", strict=True)
    assert after.info["icc_profile"] == PROFILE
    assert [round(float(dots)) for dots in after.info["dpi"]] == [300, 150]
    assert after.size == (128, 80)


def test_comments_go_from_jpeg_to_jpeg(enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _photo()[0].save(tmp_path / "in.jpg", comment="by hand, é".encode("latin-1"))
    after = _run(enlarge, tmp_path / "in.jpg", "out.jpg", strict=True)
    assert after.info["comment"] == "by hand, é".encode("latin-1")
    again = _run(enlarge, tmp_path / "out.jpg", "again.png", strict=True)
    assert again.info["Comment"] == "by hand, é"
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "long " * 14_000)
    _photo()[0].save(tmp_path / "in.png", pnginfo=text)
    _run(enlarge, tmp_path / "in.png", "long.jpg")
    assert "dropping the text: JPEG holds comments of up to 65533 bytes" in caplog.text


def test_transparency_is_lost_only_where_something_is_transparent(
    enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = _photo()[0]
    hole = image.convert("RGBA")
    hole.putpixel((1, 1), (0, 0, 0, 0))
    image.save(tmp_path / "opaque.gif")
    image.convert("RGBA").save(tmp_path / "opaque.png")
    for name in ("opaque.gif", "opaque.png"):
        enlarge(tmp_path / name, f"{name}.mkv", encoding=Encoding(), strict=True)
    assert "transparency" not in caplog.text
    image.convert("RGBA").save(tmp_path / "in_1.png")
    hole.save(tmp_path / "in_2.png")
    hole.save(tmp_path / "in_3.png")
    enlarge(tmp_path / "in_%d.png", "out.mkv", encoding=Encoding())
    assert caplog.text.count("dropping the transparency: libx264 takes none in yuv444p") == 1
    with pytest.raises(OutputError, match="the transparency would be lost"):
        enlarge(tmp_path / "in_%d.png", "strict.mkv", encoding=Encoding(), strict=True)


# Width, height, bits, compression, colors, strips, planes, XMP and profile of a TIFF: the enlarged image has its own.
_STORAGE = {256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 339, 700, 34675}


@pytest.mark.parametrize("output", ["out.png", "out.jpg", "out.webp"])
@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif", "avif"])
def test_exif_and_color_profiles_arrive(enlarge: Enlarge, tmp_path: Path, kind: str, output: str) -> None:
    image, exif = _photo()
    exif[0x100] = image.width
    exif[0x131] = "Program"
    image.save(tmp_path / f"in.{kind}", exif=exif, icc_profile=PROFILE)
    after = _run(enlarge, tmp_path / f"in.{kind}", output, strict=True)
    assert after.size == (128, 80)
    assert not _STORAGE & after.getexif().keys()
    assert after.getexif()[0x131] == "Program"
    assert after.info["icc_profile"] == PROFILE
    assert after.getexif()[0x10F] == "Maker"
    assert np.abs(np.asarray(after.convert("RGB"), int)[::2, ::2] - np.asarray(image, int)).mean() < 6


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_profiles_of_other_kinds_of_png_arrive(enlarge: Enlarge, tmp_path: Path, mode: str) -> None:
    image, _ = _photo(mode=mode)
    image.save(tmp_path / "in.png", icc_profile=PROFILE)
    assert _run(enlarge, tmp_path / "in.png", "out.png").info["icc_profile"] == PROFILE
    if mode == "RGBA":
        assert _run(enlarge, tmp_path / "in.png", "out.webp").info["icc_profile"] == PROFILE


@pytest.mark.parametrize("output", ["out.png", "out.jpg", "out.webp", "out.tif", "out.bmp"])
@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", [3, 5, 6])
def test_images_arrive_upright_once(enlarge: Enlarge, tmp_path: Path, orientation: int, kind: str, output: str) -> None:
    image, exif = _photo(orientation)
    image.save(tmp_path / f"in.{kind}", exif=exif)
    want = ImageOps.exif_transpose(Image.open(tmp_path / f"in.{kind}"))
    after = _run(enlarge, tmp_path / f"in.{kind}", output)
    assert after.getexif().get(0x112, 1) == 1
    assert after.size == (want.size[0] * 2, want.size[1] * 2)
    assert np.abs(np.asarray(after.convert("RGB"), int)[::2, ::2] - np.asarray(want.convert("RGB"), int)).mean() < 8


def _profile(space: bytes) -> bytes:
    """The header of a profile, which is all that is looked at."""
    header = bytearray(200)
    header[:4], header[16:20], header[36:40] = (200).to_bytes(4, "big"), space, b"acsp"
    return bytes(header)


@pytest.mark.parametrize(
    ("mode", "space", "kind", "output", "arrives"),
    [
        ("L", b"GRAY", "png", "png", True),
        ("L", b"GRAY", "jpg", "png", True),
        ("L", b"GRAY", "tif", "png", True),
        ("L", b"GRAY", "png", "jpg", False),  # which is written in color
        ("L", b"GRAY", "jpg", "webp", False),
        ("L", b"RGB ", "png", "png", False),  # which PNG forbids, and readers pass over
        ("L", b"RGB ", "png", "jpg", True),
        ("RGB", b"GRAY", "png", "png", False),
        ("RGB", b"Lab ", "png", "jpg", False),
        ("CMYK", b"CMYK", "jpg", "png", False),
        ("CMYK", b"CMYK", "jpg", "jpg", False),
        ("CMYK", b"CMYK", "tif", "webp", False),
    ],
)
def test_a_color_profile_fits_the_samples_or_is_dropped(
    enlarge: Enlarge,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    mode: str,
    space: bytes,
    kind: str,
    output: str,
    *,
    arrives: bool,
) -> None:
    image, _ = _photo(mode=mode)
    image.save(tmp_path / f"in.{kind}", icc_profile=_profile(space))
    after = _run(enlarge, tmp_path / f"in.{kind}", f"out.{output}")
    assert after.info.get("icc_profile") == (_profile(space) if arrives else None)
    said = f"dropping the ICC profile: it is one for {space.decode().strip()}, and "
    assert (said in caplog.text) != arrives
    if not arrives:
        with pytest.raises(OutputError, match=r"(ICC profile|transparency) would be lost"):
            _run(enlarge, tmp_path / f"in.{kind}", f"strict.{output}", strict=True)


def _with_chunk(file: Path, kind: bytes, body: bytes) -> None:
    data = file.read_bytes()
    chunk = len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
    file.write_bytes(data[:33] + chunk + data[33:])


@pytest.mark.parametrize("packed", [zlib.compress(_profile(b"RGB ") + bytes(100 << 20)), b"no zlib"])
def test_a_color_profile_that_does_not_unpack_costs_neither_memory_nor_the_rest(tmp_path: Path, packed: bytes) -> None:
    image, exif = _photo(6)
    image.save(tmp_path / "in.png", exif=exif)
    data = (tmp_path / "in.png").read_bytes()
    body = b"ICC\0\0" + packed
    chunk = len(body).to_bytes(4, "big") + b"iCCP" + body + zlib.crc32(b"iCCP" + body).to_bytes(4, "big")
    tracemalloc.start()
    found = read_still(data[:33] + chunk + data[33:])
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()
    assert found["ICC_PROFILE"] == b""
    assert {"EXIF", "DISPLAYMATRIX"} < found.keys()


def test_a_color_profile_that_is_none_is_dropped(
    enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _photo()[0].save(tmp_path / "in.png", icc_profile=b"no profile" * 20)
    assert "icc_profile" not in _run(enlarge, tmp_path / "in.png", "out.png").info
    assert "dropping the ICC profile: it is damaged, or too large" in caplog.text


@pytest.mark.parametrize(("what", "key"), [("XMP", "xmp"), ("EXIF", "exif"), ("the ICC profile", "icc_profile")])
def test_what_jpeg_is_too_small_for_is_named(
    enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str, key: str
) -> None:
    image, exif = _photo()
    exif[0x10E] = "long " * 14_000
    exif = exif if key == "exif" else Image.Exif()
    profile = _profile(b"RGB ") + (bytes(255 * 65519) if key == "icc_profile" else b"")
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "<x>" + "long " * 14_000 * (key == "xmp"))
    image.save(tmp_path / "in.png", exif=exif, icc_profile=profile, pnginfo=text)
    after = _run(enlarge, tmp_path / "in.png", "out.jpg")
    assert {"xmp", "icc_profile"} - {key} <= after.info.keys()
    assert key not in after.info
    assert f"dropping {what}: it " in caplog.text
    with pytest.raises(OutputError, match=f"{what} would be lost"):
        _run(enlarge, tmp_path / "in.png", "strict.jpg", strict=True)


def test_the_rest_of_long_xmp_goes_from_jpeg_to_jpeg(
    enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _photo()[0].save(tmp_path / "in.jpg", xmp=XMP)
    data = (tmp_path / "in.jpg").read_bytes()
    rest = b"http://ns.adobe.com/xmp/extension/\0" + b"0123456789abcdef" * 2 + bytes(8) + b"<rest/>"
    segment = b"\xff\xe1" + (len(rest) + 2).to_bytes(2, "big") + rest
    (tmp_path / "in.jpg").write_bytes(data[:2] + segment * 2 + data[2:])
    large = enlarge(tmp_path / "in.jpg", "out.jpg", encoding=Encoding(), strict=True)
    assert large.read_bytes().count(segment) == 2
    enlarge(tmp_path / "in.jpg", "out.png", encoding=Encoding())
    assert "dropping the rest of XMP: " in caplog.text


@pytest.mark.parametrize("output", ["png", "jpg", "tif", "bmp"])
@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "bmp"])
def test_the_resolution_arrives(enlarge: Enlarge, tmp_path: Path, kind: str, output: str) -> None:
    _photo()[0].save(tmp_path / f"in.{kind}", dpi=(300, 150))
    after = _run(enlarge, tmp_path / f"in.{kind}", f"out.{output}")
    assert [round(float(dots)) for dots in after.info["dpi"]] == [300, 150]


def test_a_resolution_without_a_place_is_named(
    enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in ("tif", "bmp"):
        caplog.clear()
        _photo()[0].save(tmp_path / f"in.{kind}", dpi=(300, 150))
        _run(enlarge, tmp_path / f"in.{kind}", f"{kind}.webp")
        assert "dropping the resolution: no encoder here can write it into .webp" in caplog.text


@pytest.mark.parametrize("output", ["png", "jpg", "tif"])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_resolution_and_xmp_arrive(enlarge: Enlarge, tmp_path: Path, kind: str, output: str) -> None:
    image, _ = _photo()
    if kind == "png":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        image.save(tmp_path / "in.png", pnginfo=text, dpi=(300, 150))
    else:
        image.save(tmp_path / "in.jpg", xmp=XMP, dpi=(300, 150))
    after = _run(enlarge, tmp_path / f"in.{kind}", f"out.{output}", strict=True)
    assert [round(dots) for dots in after.info["dpi"]] == [300, 150]
    assert after.info["xmp"].strip(b"\0") == XMP


def test_text_of_png_arrives_in_png_and_is_named_elsewhere(
    enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image, _ = _photo()
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "Hello")
    text.add_text("Comment", "long " * 100, zip=True)
    image.save(tmp_path / "in.png", pnginfo=text)
    after: Any = _run(enlarge, tmp_path / "in.png", "out.png", strict=True)
    assert after.text == {"Title": "Hello", "Comment": "long " * 100}
    _run(enlarge, tmp_path / "in.png", "out.webp")
    assert "dropping the text: " in caplog.text
    with pytest.raises(OutputError, match="the text would be lost"):
        _run(enlarge, tmp_path / "in.png", "strict.jpg", strict=True)


@pytest.mark.parametrize("output", ["tif", "bmp", "mp4"])
def test_profiles_without_a_place_are_named(
    enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture, output: str
) -> None:
    image, exif = _photo()
    image.save(tmp_path / "in.png", exif=exif, icc_profile=PROFILE, dpi=(300, 300))
    enlarge(tmp_path / "in.png", f"out.{output}", encoding=Encoding())
    assert ("dropping the ICC profile: " in caplog.text) == (output != "tif")
    assert "dropping EXIF: " in caplog.text
    assert "dropping the resolution: " not in caplog.text


def test_every_image_of_a_sequence_keeps_its_own(enlarge: Enlarge, tmp_path: Path) -> None:
    for number in range(1, 5):
        image, exif = _photo()
        exif[0x10F] = f"Maker {number}"
        image.save(tmp_path / f"in_{number}.png", exif=exif)
    enlarge(tmp_path / "in_%d.png", "out_%d.png", encoding=Encoding())
    makers = [Image.open(tmp_path / f"out_{number}.png").getexif()[0x10F] for number in range(1, 5)]
    assert makers == [f"Maker {number}" for number in range(1, 5)]


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif", "bmp"])
def test_cut_images_are_still_read(kind: str, tmp_path: Path) -> None:
    image, exif = _photo(6)
    image.save(tmp_path / f"in.{kind}", exif=exif, icc_profile=PROFILE)
    whole = (tmp_path / f"in.{kind}").read_bytes()
    for length in range(0, 1200, 7):
        read_still(whole[:length])


def test_jpegs_with_comments_become_png_that_others_read(enlarge: Enlarge, tmp_path: Path) -> None:
    image = _photo()[0]
    image.save(tmp_path / "a.jpg", comment="by hand, é".encode("latin-1"))
    image.save(tmp_path / "b.jpg", comment=b"Lavc62.11.100")  # an encoder's name, as FFmpeg writes it
    for name, text in (("a", {"Comment": "by hand, é"}), ("b", {})):
        large = _run(enlarge, tmp_path / f"{name}.jpg", f"{name}.png")
        large.load()
        assert {key: value for key, value in large.info.items() if key == "Comment"} == text
        assert large.size == (2 * image.width, 2 * image.height)


def test_short_headers_of_images_are_no_crash() -> None:
    chunk = (1).to_bytes(4, "big") + b"pHYs" + b"\0" + bytes(4)
    assert read_still(b"\x89PNG\r\n\x1a\n" + chunk) == {}
    assert read_still(b"\xff\xd8\xff\xe0\x00\x07JFIF\x00\xff\xda\x00\x00") == {}


def test_exif_of_the_heif_family_is_carried_or_named(
    enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """AVIF and HEIC have it in the same place (ISO/IEC 23008-12, annex A)."""
    if not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "A film", 6
    before = tmp_path / "in.avif"
    Image.new("RGB", (64, 48), (200, 30, 30)).save(before, exif=exif)
    after = Image.open(enlarge(before, "out.png", encoding=Encoding(), strict=True))
    assert (after.size, after.getexif()[0x010E]) == ((96, 128), "A film")
    enlarge(before, "out.mkv")
    assert caplog.text.count("dropping EXIF: ") == 1
    with pytest.raises(OutputError, match="EXIF would be lost"):
        enlarge(before, "strict.mkv", strict=True)
