"""Make clip.mp4: three seconds of fine moving detail, with sound, subtitles, chapters and languages.

Every frame is drawn nine times as large as it is kept, so that its detail is as fine as the samples can hold.
"""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

type Image = NDArray[np.uint8]
type Point = tuple[float, float]
type Color = tuple[int, int, int]

WIDTH, HEIGHT, RATE, FRAMES = 480, 270, 30, 90
MILLISECOND: Any = Fraction(1, 1000)
FINE = 3  # drawn larger by this, and averaged
SHIFT = 4  # cv2 takes coordinates in sixteenths of a sample
TEXT = "The quick brown fox jumps over the lazy dog  *  0123456789  *  exact colours, exact time  *  "
LINES = ((0.0, 1.4, "Branches sway, and every twig counts."), (1.5, 2.9, "The wheel turns by a third."))
CHAPTERS = ((0, 1000, "Wind"), (1000, 2000, "Wheel"), (2000, 3000, "Words"))


def points(*pairs: Point) -> list[tuple[int, int]]:
    """Put coordinates of the small frame as cv2 wants them."""
    return [(round(x * FINE * 2**SHIFT), round(y * FINE * 2**SHIFT)) for x, y in pairs]


def line(image: Image, a: Point, b: Point, color: Color, wide: float) -> None:
    """Draw a line ``wide`` samples of the small frame wide."""
    start, end = points(a, b)
    cv2.line(image, start, end, color, max(1, round(wide * FINE)), cv2.LINE_AA, SHIFT)


def disc(image: Image, center: Point, radius: float, color: Color, wide: float = -1) -> None:
    """Draw a disc, or with ``wide`` a circle."""
    [place] = points(center)
    thickness = max(1, round(wide * FINE)) if wide > 0 else cv2.FILLED
    cv2.circle(image, place, round(radius * FINE * 2**SHIFT), color, thickness, cv2.LINE_AA, SHIFT)


def sky() -> Image:
    """Paint dusk, and hills of many noises added up."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0 : HEIGHT * FINE, 0 : WIDTH * FINE].astype(np.float32) / FINE
    depth = (y / HEIGHT)[..., None]
    image: NDArray[np.floating] = (1 - depth) * np.array([58, 92, 148]) + depth * np.array([250, 214, 160])
    for level, color in ((168, (126, 140, 120)), (196, (84, 108, 74)), (226, (52, 78, 44))):
        phase = rng.uniform(0, 6.3, 7)
        ridge = level + sum(22 / 2**k * np.sin(x[0] * 0.012 * 1.9**k + phase[k]) for k in range(7))
        grain = rng.normal(0, 9, (HEIGHT * FINE // 2, WIDTH * FINE // 2)).astype(np.float32)
        grass = np.array(color) + cv2.resize(grain, (WIDTH * FINE, HEIGHT * FINE))[..., None]
        image = np.where((y > ridge)[..., None], grass, image)
    painted: Image = image.clip(0, 255).astype(np.uint8)
    return painted


def branch(image: Image, root: Point, angle: float, length: float, time: float, path: int = 1) -> None:
    """Draw a branch, its twigs, and the leaves at their ends, swaying; ``path`` numbers the branches as in a heap."""
    level = 9 - path.bit_length()
    luck = math.sin(path * 12.9898) * 43758.5453 % 1  # the same in every frame
    angle += 0.04 * math.sin(2.1 * time + 5 * luck) * (9 - level) / 9 + 0.35 * (luck - 0.5) * (path > 1)
    tip = (root[0] + length * math.cos(angle), root[1] + length * math.sin(angle))
    line(image, root, tip, (62 - 3 * level, 46 - 3 * level, 36 - 2 * level), 0.4 * 1.48**level)
    if level < 2:
        for side in (-1.5, 1.5):
            shade = math.sin(path * 78.233 + side) * 43758.5453 % 1
            leaf = (tip[0] + side * math.sin(angle), tip[1] - side * math.cos(angle))
            disc(image, leaf, 1.0 + 0.6 * shade, (60 + int(70 * shade), 110 + int(50 * shade), 36))
    if level == 0:
        return
    for side, turn, part in ((0, -0.42, 0.8), (1, 0.4, 0.77)):
        branch(image, tip, angle + turn, length * (part + 0.14 * (luck - 0.5)), time, 2 * path + side)


def wheel(image: Image, time: float) -> None:
    """Draw a big wheel of thin spokes that turns by a third."""
    x, y, radius, spokes = 334.0, 118.0, 84.0, 24
    for foot in (-46, 46):
        line(image, (x, y), (x + foot, y + 122), (70, 66, 84), 2.4)
    for rim in (radius, radius - 7):
        disc(image, (x, y), rim, (235, 235, 240), 1.0)
    for k in range(spokes):
        angle = 2 * math.pi * (k / spokes + time / 9)
        out, back = (math.cos(angle), math.sin(angle)), 2 * math.pi / spokes
        line(image, (x, y), (x + radius * out[0], y + radius * out[1]), (228, 228, 236), 0.6)
        lace = (x + (radius - 7) * math.cos(angle + back), y + (radius - 7) * math.sin(angle + back))
        line(image, (x + radius * out[0], y + radius * out[1]), lace, (205, 205, 215), 0.5)
        if k % 3 == 0:
            cabin = (x + (radius + 1) * out[0], y + (radius + 1) * out[1] + 6)
            disc(image, cabin, 6.0, ((214, 60, 52), (244, 180, 40), (40, 120, 190), (60, 150, 90))[k // 3 % 4])
            line(image, (cabin[0] - 6, cabin[1]), (cabin[0] + 6, cabin[1]), (40, 40, 52), 0.7)
    for k in range(16):  # a star of sixteen rays on the hub, turning the other way
        sides = (2 * math.pi * k / 16 - time, 2 * math.pi * (k + 0.5) / 16 - time)
        corners = [(x, y), *((x + 17 * math.cos(angle), y + 17 * math.sin(angle)) for angle in sides)]
        cv2.fillPoly(image, [np.array(points(*corners))], (38, 40, 66), cv2.LINE_AA, SHIFT)


def banner(image: Image, time: float) -> None:
    """Write words that pass by: a line of 10 samples' height, and one of 6."""
    image[236 * FINE :] = (24, 26, 34)
    for speed, base, size, color in ((36, 252, 0.40, (245, 240, 225)), (-22, 265, 0.28, (150, 200, 235))):
        place = (round(((-40 if speed > 0 else -150) - speed * time) * FINE), base * FINE)
        font, thickness = cv2.FONT_HERSHEY_SIMPLEX, round(0.45 * FINE)
        cv2.putText(image, TEXT * 2, place, font, size * FINE, color, thickness, cv2.LINE_AA)


def draw(back: Image, time: float) -> Image:
    """Draw the scene at ``time`` seconds, (HEIGHT, WIDTH, 3) RGB."""
    image = back.copy()
    wheel(image, time)
    branch(image, (122, 240), -math.pi / 2, 46, time)
    for x in range(-10, WIDTH, 7):  # a fence
        line(image, (x, 218), (x, 237), (30, 32, 30), 0.8)
    line(image, (0, 223), (WIDTH, 223), (30, 32, 30), 0.8)
    banner(image, time)
    return cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.uint8)


def make_clip(path: Path) -> None:
    """Write the clip."""
    with av.open(str(path), "w") as output:
        output.metadata["title"] = "A wheel, a tree and words"
        video = output.add_stream("libx264", RATE, options={"crf": "20", "preset": "veryslow"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        context = video.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = 1, 1, 1, 1
        audio = output.add_stream("aac", 48000, layout="stereo", bit_rate=96000)
        audio.metadata["language"] = "eng"
        words = output.add_stream("mov_text")
        words.time_base = MILLISECOND
        words.codec_context.subtitle_header = b"[Script Info]\n"
        words.metadata["language"] = "eng"
        output.set_chapters(
            [
                {"id": n, "start": start, "end": end, "time_base": MILLISECOND, "metadata": {"title": title}}
                for n, (start, end, title) in enumerate(CHAPTERS)
            ]
        )
        output.start_encoding()
        for start, end, text in LINES:
            packet: av.Packet[Any] = av.Packet(len(text).to_bytes(2, "big") + text.encode())
            packet.stream, packet.time_base = words, MILLISECOND
            packet.pts = packet.dts = round(start * 1000)
            packet.duration = round((end - start) * 1000)
            output.mux(packet)
        output.mux(sound(audio))
        back = sky()
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(draw(back, index / RATE), "rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            output.mux(video.encode(frame))
        output.mux(video.encode())


def sound(audio: av.AudioStream) -> list[av.Packet[Any]]:
    """Encode a tone that rises on the left by two octaves, and one that falls on the right."""
    time = np.arange(48000 * FRAMES // RATE) / 48000
    octaves = 2 * time / time[-1]
    phases = [np.cumsum(base * 2.0**part) / 48000 for base, part in ((220, octaves), (1320, -octaves))]
    samples = np.stack([0.2 * np.sin(2 * np.pi * phase) for phase in phases]).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
    frame.sample_rate, frame.pts = 48000, 0
    return [*audio.encode(frame), *audio.encode()]


if __name__ == "__main__":
    make_clip(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("clip.mp4"))
