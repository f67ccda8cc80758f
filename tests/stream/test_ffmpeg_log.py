"""What FFmpeg logs as an error while a film is read is damage, and nobody else's affair."""

from __future__ import annotations

import gc
import random
import threading
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import av.logging
import pytest

from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import DamagedInputError
from vsr_plugin.stream import Selection, Source, ffmpeg_log, upscale_file
from vsr_plugin.stream.ffmpeg_log import Errors, captured

from .conftest import Make


@pytest.fixture(autouse=True)
def unheard() -> None:
    """Nobody listens yet: a source that was not read to its end does, until it is collected."""
    gc.collect()
    assert ffmpeg_log._listeners == []


_FILM = "-f lavfi -i testsrc2=s=96x80:r=25:d=1"


def _altered(make: Make, recipe: str, name: str, tmp_path: Path, frame: int = 12) -> Path:
    """The file with random bytes in the middle of a frame."""
    whole = make(f"{_FILM} {recipe}", name)
    with av.open(whole) as container:
        packet = bytes([packet for packet in container.demux(video=0) if packet.size][frame])
    data = bytearray(whole.read_bytes())
    at, length = data.index(packet) + len(packet) // 2, len(packet) // 4
    data[at : at + length] = random.Random(name).randbytes(length)
    file = tmp_path / name
    file.write_bytes(data)
    return file


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        ("-c:v ffv1 -level 3 -slicecrc 1", "ffv1.mkv"),
        ("-c:v mjpeg -q:v 8", "mjpeg.mkv"),
        ("-c:v prores_ks", "prores.mov"),
        ("-c:v png", "png.mov"),
        ("-c:v mpeg2video", "mpeg2.mkv"),
    ],
)
def test_what_a_decoder_notices_is_damage(make: Make, tmp_path: Path, recipe: str, name: str) -> None:
    file = _altered(make, recipe, name, tmp_path)
    source = Source(file)
    assert len(list(source)) >= 24
    assert source.damaged > 0
    with pytest.raises(DamagedInputError):
        list(Source(file, strict=True))


def test_what_a_camera_writes_beside_its_frames_is_no_damage(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "camera.mkv"
    with av.open(make(f"{_FILM} -c:v mjpeg", "plain.mkv")) as plain, av.open(file, "w") as camera:
        stream = camera.add_stream_from_template(plain.streams.video[0])
        for packet in plain.demux(video=0):
            if packet.size:
                segment = bytes.fromhex("ffe4 ffff")  # its maker's own, and of a length that is wrong
                own = av.Packet(bytes(packet)[:2] + segment + bytes(packet)[2:])
                own.stream, own.pts, own.dts, own.time_base = stream, packet.pts, packet.dts, packet.time_base
                own.is_keyframe = True
                camera.mux(own)
    with captured(av.logging.ERROR) as lines, av.open(file) as container:
        assert len(list(container.decode(video=0))) == 25
    assert "unable to decode APP fields" in str(lines)
    source = Source(file)
    assert (len(list(source)), source.damaged) == (25, 0)


def test_a_part_is_told_the_damage_of_its_own_frames(make: Make, tmp_path: Path) -> None:
    file = _altered(make, "-c:v ffv1 -level 3 -slicecrc 1 -g 1", "part.mkv", tmp_path, 20)
    for selection, damaged in ((Selection(frames=3), 0), (Selection(), 1)):
        source = Source(file, selection)
        list(source)
        assert source.damaged == damaged


def test_a_film_in_segments_listens_no_longer_than_it_is_read(make: Make, nearest: Upscaler, tmp_path: Path) -> None:
    film = make(f"{_FILM} -c:v libx264 -preset ultrafast -g 5", "film.mkv")
    upscale_file(film, tmp_path / "out.mkv", nearest, encoding="ffv1", resume=True, segment_length=Fraction(2, 5))
    assert ffmpeg_log._listeners == []


@pytest.mark.parametrize("level", [None, av.logging.VERBOSE])
def test_the_log_is_as_it_was_once_a_film_is_read(
    make: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str], level: int | None
) -> None:
    file = _altered(make, "-c:v ffv1 -level 3 -slicecrc 1", "quiet.mkv", tmp_path)
    av.logging.set_level(level)
    try:
        first, second = Source(file), Source(file)
        next(first), next(second)
        list(second)
        assert av.logging.get_level() is not None
        first.close()
        assert av.logging.get_level() == level
    finally:
        av.logging.set_level(None)
    assert "[ffv1 @" not in capfd.readouterr().err, "FFmpeg speaks for itself again"


def test_errors_of_others_are_not_taken() -> None:
    errors, others = Errors({"ffv1"}), Errors({"h264", "matroska,webm"})
    av.logging.log(av.logging.ERROR, "ffv1", "broken\n")
    av.logging.log(av.logging.WARNING, "h264", "doubtful\n")
    av.logging.log(av.logging.ERROR, "h264", "mmco: unref short failure\n")
    av.logging.log(av.logging.ERROR, "h264", "SEI type 195 size 888 truncated at 48\n")
    with captured() as lines:
        av.logging.log(av.logging.ERROR, "h264", "tried elsewhere\n")
    assert (others.take(), errors.take(), errors.take(), len(lines)) == ("", "broken", "", 1)
    av.logging.log(av.logging.ERROR, "matroska,webm", "first\n")
    av.logging.log(av.logging.ERROR, "h264", "second\n")
    errors.close()
    assert others.take() == "first"
    others.close()
    others.close()


def test_a_line_that_another_thread_passes_on_is_waited_for() -> None:
    """The reader's thread may deliver a line to all listeners when the writer asks why its frame was refused."""
    reached, go = threading.Event(), threading.Event()

    class Names(frozenset[str]):
        def __contains__(self, name: object) -> bool:
            reached.set()
            go.wait(10)
            return super().__contains__(name)

    with closing(Errors({"swf"})) as reader, closing(Errors({"swf"})) as writer:
        reader._names = Names({"swf"})
        ffmpeg_log._lines.append((av.logging.ERROR, "swf", "Invalid frame rate"))
        thread = threading.Thread(target=reader.take)
        thread.start()
        assert reached.wait(10)
        threading.Timer(0.2, go.set).start()
        assert writer.take() == "Invalid frame rate"
        thread.join()
