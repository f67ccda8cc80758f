"""The page of ``vsr compare``: what its images are, what it says, and that it works in a browser without a network."""

from __future__ import annotations

import base64
import json
import re
from fractions import Fraction
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.test_compare import rgb
from tests.preview.test_page import browser, until
from tests.stream.conftest import Media, probe
from vsr_plugin.compare import Candidate, Crop, compare_on_a_page
from vsr_plugin.engine import Upscaler
from vsr_plugin.execution import Execution
from vsr_plugin.interpolation import Lanczos
from vsr_plugin.stream import Selection, Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["browser"]  # a fixture

PLAIN = Execution(backend="eager", device="cpu")
MODELS = [Candidate("espcn"), Candidate("fsrcnn", self_ensemble=True)]


def data_of(page: Path) -> dict[str, Any]:
    """What the page was made with."""
    text = page.read_text(encoding="utf-8").partition('id="data">')[2].partition("</script>")[0]
    found: dict[str, Any] = json.loads(text)
    return found


def image(url: str, folder: Path) -> torch.Tensor:
    """(H, W, 3) of a data URL."""
    head, _, content = url.partition(",")
    assert head == "data:image/png;base64"
    (folder / "image.png").write_bytes(base64.b64decode(content))
    return torch.from_numpy(np.asarray(Image.open(folder / "image.png").convert("RGB")).copy())


def test_images_are_what_the_models_make_of_the_whole_frame(media: Media, tmp_path: Path) -> None:
    source, crop = media("two_audio.mp4"), Crop(30, 20, 33, 17)
    page = compare_on_a_page(
        source, tmp_path / "c.html", MODELS, 3, at=Fraction(1, 2), crop=crop, execution=PLAIN, now=count().__next__
    )
    data = data_of(page)
    [shown] = data["crops"]
    assert [version["name"] for version in data["versions"]] == ["bicubic", "Lanczos", "espcn", "fsrcnn+"]
    assert (shown["time"], shown["part"]) == ("0:00:00.480", "30x20+33+17")
    frame = next(Source(source, Selection(start=Fraction(1, 2))))
    for url, (name, ensemble) in zip(shown["images"][2:], [("espcn", False), ("fsrcnn", True)], strict=True):
        with Upscaler(name, 3, Execution(backend="eager", device="cpu", self_ensemble=ensemble)) as upscaler:
            whole = rgb(upscaler.upscale([frame])[0])
        assert torch.equal(image(url, tmp_path), whole[17 * 3 : 37 * 3, 33 * 3 : 63 * 3])
    assert len({*shown["images"]}) == 4


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lanczos_is_that_of_pillow(scale: int) -> None:
    x = torch.rand(24, 30, generator=torch.Generator().manual_seed(0))
    theirs = Image.fromarray(x.numpy()).resize((30 * scale, 24 * scale), Image.Resampling.LANCZOS)
    ours = Lanczos(scale)(x[None, None])[0, 0]
    inside = slice(3 * scale, -3 * scale)  # Pillow leaves out what lies beyond the edge
    np.testing.assert_allclose(ours[inside, inside], np.asarray(theirs)[inside, inside], atol=1e-5)


def test_a_film_is_shown_at_four_moments_and_a_moment_by_several_crops(media: Media, tmp_path: Path) -> None:
    film = media("groups.ts")
    said: list[str] = []
    page = compare_on_a_page(film, tmp_path / "a.html", [], 2, execution=PLAIN, on_step=said.append)
    assert said == [*(f"moment {number} of 4" for number in range(1, 5)), "measuring how long each model takes"]
    crops = data_of(page)["crops"]
    assert [crop["time"] for crop in crops] == ["0:00:00.480", "0:00:01.480", "0:00:02.480", "0:00:03.480"]
    assert {crop["part"] for crop in crops} == {"96x54+0+0"}
    still = tmp_path / "still.png"
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1400, 3), np.uint8)
    Image.fromarray(noise).save(still)
    data = data_of(compare_on_a_page(still, tmp_path / "b.html", [], 2, execution=PLAIN))
    assert len({crop["part"] for crop in data["crops"]}) == 4
    assert {crop["time"] for crop in data["crops"]} == {None}
    assert data["frames"] is None  # and so no time for the whole


def test_times_are_for_the_whole_frame_and_the_whole_clip(media: Media, tmp_path: Path) -> None:
    """Each run takes a quarter of a second by this clock, for the window, which is a part of the frame."""
    ticks = (index / 4 for index in count())
    page = compare_on_a_page(
        media("plain.mp4"),
        tmp_path / "c.html",
        MODELS,
        2,
        crop=Crop(16, 16, 40, 20),
        execution=PLAIN,
        now=lambda: next(ticks),
    )
    data = data_of(page)
    window = (16 + 2 * 12) * (16 + 2 * 12)  # ESPCN sees 4 around the crop, chroma 8
    espcn = data["versions"][2]
    assert espcn["seconds"] == pytest.approx(0.25 * 96 * 54 / window)
    assert espcn["where"] == "eager, cpu, float32"
    assert [version.get("psnr") for version in data["versions"]] == [None, None, 36.921, None]
    assert (data["frames"], data["width"], data["height"]) == (int(probe_frames(media("plain.mp4"))), 96, 54)


def probe_frames(file: Path) -> str:
    found = probe(file, "-count_frames", "-select_streams", "v", "-show_entries", "stream=nb_read_frames")
    return str(found["streams"][0]["nb_read_frames"])


@pytest.mark.parametrize(
    ("name", "asked", "rows"),
    [
        ("plain.mp4", {}, {"matrix": ["BT.709", "tagged"], "range": ["limited", "tagged"]}),
        (
            "vfr.mp4",
            {},
            {
                "samples": ["YUV 4:2:0, 8 bits", ""],
                "matrix": ["BT.601", "assumed: the file does not say"],
                "range": ["limited", "assumed: the file does not say"],
            },
        ),
        ("vfr.mp4", {"matrix": "bt709"}, {"matrix": ["BT.709", "as asked"]}),
        ("plain.mp4", {"range": "full"}, {"range": ["full", "as asked"], "matrix": ["BT.709", "tagged"]}),
        ("hdr10.mp4", {}, {"samples": ["YUV 4:2:0, 10 bits", ""], "matrix": ["BT.2020", "tagged"]}),
        ("cover.png", {}, {"samples": ["RGB, 8 bits", ""], "range": ["full", ""]}),
    ],
)
def test_the_page_says_how_colors_were_read(
    media: Media, tmp_path: Path, name: str, asked: dict[str, Any], rows: dict[str, list[str]]
) -> None:
    page = compare_on_a_page(media(name), tmp_path / "c.html", [], 2, selection=Selection(**asked), execution=PLAIN)
    said = {what: [value, who] for what, value, who in data_of(page)["colors"]}
    assert {what: said[what] for what in rows} == rows


# In a browser.


@pytest.fixture(scope="module")
def page(media: Media, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a clip with a wicked name."""
    folder = tmp_path_factory.mktemp("compare")
    clip = folder / "<b>&amp;'\".mp4"
    clip.write_bytes(media("plain.mp4").read_bytes())
    ticks = (60.0 * index for index in count())
    return compare_on_a_page(clip, folder / "c.html", MODELS, 4, execution=PLAIN, now=lambda: next(ticks))


class Seen:
    """The page in a browser; complaints and requests fail the test."""

    def __init__(self, browser: Any, page: Path, width: int = 1280, **how: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, **how)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self._look(request.url))
        self.page.goto(page.as_uri())
        until(self.page, "document.getElementById('zoom').textContent !== ''")

    def _look(self, url: str) -> None:
        if not url.startswith(("data:", "file:")):
            self.wrong.append(url)

    def split(self) -> int:
        return int(self.page.get_attribute("#line", "aria-valuenow"))

    def source(self, side: str) -> str:
        return str(self.page.get_attribute(f"#{side}", "src"))

    def cut(self) -> float:
        """Where the right image begins, in pixels of the page from the left of both."""
        return float(self.page.evaluate("parseFloat(document.getElementById('right').style.clipPath.split(' ')[3])"))

    def width(self) -> float:
        return float(self.page.evaluate("document.getElementById('pair').getBoundingClientRect().width"))


@pytest.fixture
def seen(browser: Any, page: Path) -> Iterator[Seen]:
    found = Seen(browser, page)
    yield found
    found.context.close()
    assert found.wrong == []


def test_the_page_names_the_clip_the_models_and_what_they_cost(seen: Seen, page: Path) -> None:
    assert seen.page.inner_text("#name") == "<b>&amp;'\".mp4 ×4"
    assert seen.page.inner_text("#what") == "96×54 to 384×216, 38 frames, 1.5 s"
    rows = [row.split("\t") for row in seen.page.inner_text("#costs").splitlines()]
    assert rows[0] == ["model", "the whole clip", "a frame", "speed", "Set5", "by"]
    assert rows[1] == ["espcn", "about 38 min", "60 s", "0.017 fps", "30.54 dB", "eager, cpu, float32"]
    assert "matrix\tBT.709\ttagged" in seen.page.inner_text("#colors")
    assert seen.page.locator("#crops button").count() == 4
    text = re.sub(r"data:image/[^\"]*", "", page.read_text(encoding="utf-8"))
    assert "http" not in text.replace("http-equiv", "")


def test_the_line_moves_by_keyboard_and_mouse(seen: Seen) -> None:
    assert seen.split() == 50
    assert seen.cut() == pytest.approx(seen.width() / 2)
    seen.page.focus("#line")
    seen.page.keyboard.press("ArrowRight")
    seen.page.keyboard.press("Shift+ArrowLeft")
    assert seen.split() == 41
    box = seen.page.locator("#line").bounding_box()
    seen.page.mouse.move(box["x"] + 20, box["y"] + 30)
    seen.page.mouse.down()
    seen.page.mouse.move(box["x"] + 20 + 0.2 * seen.width(), box["y"] + 30)
    seen.page.mouse.up()
    assert seen.split() == 61
    assert seen.cut() == pytest.approx(0.61 * seen.width(), abs=1)


def test_versions_and_crops_are_chosen_by_keys_and_controls(seen: Seen, page: Path) -> None:
    crops = [crop["images"] for crop in data_of(page)["crops"]]
    assert (seen.source("left"), seen.source("right")) == (crops[0][0], crops[0][3])
    seen.page.keyboard.press("3")
    seen.page.keyboard.press("Shift+Digit2")
    assert (seen.source("left"), seen.source("right")) == (crops[0][1], crops[0][2])
    seen.page.keyboard.press("x")
    assert (seen.source("left"), seen.source("right")) == (crops[0][2], crops[0][1])
    seen.page.keyboard.press("PageUp")
    assert seen.source("left") == crops[3][2]
    seen.page.click("#crops button:nth-child(2)")
    seen.page.select_option("#right-choice", label="bicubic")
    assert (seen.source("left"), seen.source("right")) == (crops[1][2], crops[1][0])
    seen.page.focus("#line")
    seen.page.keyboard.down(" ")
    assert seen.page.inner_text("#right-tag") == "espcn"
    assert seen.cut() == pytest.approx(seen.width())
    seen.page.keyboard.up(" ")
    assert seen.page.inner_text("#right-tag") == "bicubic"


def test_images_have_whole_pixels_of_the_screen_at_every_zoom(seen: Seen) -> None:
    assert seen.page.inner_text("#zoom") == "2 ×"  # at 3, it would be too high
    assert seen.width() == 384 * 2
    for _ in range(2):
        seen.page.keyboard.press("+")
    assert seen.width() > 1280  # then it scrolls in its place, and the line stays in sight
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 1280
    assert seen.page.evaluate("getComputedStyle(document.getElementById('right')).imageRendering") == "pixelated"
    before = seen.cut()
    seen.page.evaluate("document.getElementById('room').scrollLeft = 50")
    until(seen.page, f"parseFloat(right.style.clipPath.split(' ')[3]) > {before + 40}")
    assert seen.split() == 50


def test_a_finger_moves_the_line_on_a_small_dark_screen(browser: Any, page: Path) -> None:
    seen = Seen(browser, page, 390, has_touch=True, is_mobile=True, device_scale_factor=3, color_scheme="dark")
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 390
    assert seen.width() * 3 % 384 == pytest.approx(0)
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 28)"
    box = seen.page.locator("#line").bounding_box()
    touch = seen.context.new_cdp_session(seen.page)
    at = {"x": box["x"] + 20, "y": box["y"] + 40}
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
    there = {**at, "x": at["x"] + 0.25 * seen.width()}
    touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [there]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert seen.split() == 75
    seen.context.close()
    assert seen.wrong == []


def test_a_crop_is_not_small_on_a_fine_screen(browser: Any, media: Media, tmp_path: Path) -> None:
    crop = Crop(80, 25, 0, 0)
    page = compare_on_a_page(media("plain.mp4"), tmp_path / "c.html", MODELS, 4, crop=crop, execution=PLAIN)
    seen = Seen(browser, page, 390, device_scale_factor=1.5)
    assert seen.page.inner_text("#zoom") == "2 ×"  # 427 of the 371 that there is room for, where 1 is 213
    seen.context.close()


def test_a_bright_screen_gets_a_bright_page(browser: Any, page: Path) -> None:
    seen = Seen(browser, page, color_scheme="light")
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(245, 246, 248)"
    seen.context.close()
