from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest

from tests.stream.conftest import Media
from vsr_plugin.errors import UsageError
from vsr_plugin.preview.player import Player
from vsr_plugin.preview.server import Server

from .conftest import CLIP, Play


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def in_time() -> None:
        await asyncio.wait_for(work(), 60)

    asyncio.run(in_time())


@asynccontextmanager
async def serving(player: Player, host: str = "127.0.0.1") -> AsyncIterator[tuple[Server, Any]]:
    server = Server(player, host, 0)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield server, session
    finally:
        await server.stop()


async def received(socket: Any) -> tuple[dict[str, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The next message with pictures, taken apart."""
    while True:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            break
        assert message.type is aiohttp.WSMsgType.TEXT, message
    (length,) = struct.unpack_from(">I", message.data)
    (first,) = struct.unpack_from(">I", message.data, 4 + length)
    begin = 8 + length
    parts = (message.data[begin : begin + first], message.data[begin + first :])
    both = [cv2.imdecode(np.frombuffer(part, np.uint8), cv2.IMREAD_COLOR) for part in parts]
    assert both[0] is not None
    assert both[1] is not None
    return json.loads(message.data[4 : 4 + length]), both[0], both[1]


def test_a_viewer_gets_both_pictures_and_what_is_playing(play: Play) -> None:
    player = play(paused=True)

    async def work() -> None:
        async with serving(player) as (server, session), session.ws_connect(f"{server.url}ws") as socket:
            words = json.loads((await socket.receive()).data)
            assert "space" in words["keys"]
            assert words["views"][0] == "split"
            player.pause(paused=True)
            said, bicubic, network = await received(socket)
            while (shown := player.wait(0, 5)) is None or said["status"]["position"] != shown.position:
                await socket.send_json({"do": "next"})
                said, bicubic, network = await received(socket)
            assert said["status"]["model"] == "fast"
            assert np.abs(bicubic.astype(int) - shown.bicubic).mean() < 2
            assert np.abs(network.astype(int) - shown.network).mean() < 2

    run(work)


def test_the_first_viewer_starts_the_clip_and_commands_are_obeyed(play: Play) -> None:
    player = play(paused=True)

    async def work() -> None:
        async with serving(player) as (server, session), session.ws_connect(f"{server.url}ws") as socket:
            await received(socket)
            await socket.send_json({"do": "next"})
            said, *_ = await received(socket)
            assert said["status"]["position"] > 0 or not said["status"]["paused"]
            await socket.send_json({"do": "pause"})
            await socket.send_json({"do": "seek", "to": 2.0})
            await socket.send_json({"do": "scale", "to": 3})
            for nonsense in ('{"do": "model", "to": "../etc"}', '{"do": "step", "by": 99}', '{"a": 1}', "[1]", '"x"'):
                await socket.send_str(nonsense)
            await socket.send_str("no json")
            while True:
                await socket.send_json({"do": "next"})
                said, _, network = await received(socket)
                if said["status"]["scale"] == 3 and network.shape == (810, 1440, 3):
                    break
            assert said["status"]["paused"]
            assert said["status"]["position"] == pytest.approx(2.0, abs=0.05)

    run(work)


def test_whoever_does_not_answer_gets_no_second_picture(play: Play) -> None:
    player = play(loop=True)

    async def work() -> None:
        async with serving(player) as (server, session):
            stalled = [await session.ws_connect(f"{server.url}ws") for _ in range(50)]
            for socket in stalled:
                await received(socket)
            async with session.ws_connect(f"{server.url}ws") as awake:
                for _ in range(8):  # the others do not hold it up
                    await received(awake)
                    await awake.send_json({"do": "next"})
            for socket in stalled:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(received(socket), 0.02)
            stalled[0]._response.close()  # one is killed; the rest may close as they like
            for socket in stalled[1:]:
                await socket.close()

    run(work)


@pytest.mark.parametrize("path", ["/", "/app.js", "/style.css"])
def test_the_files_of_the_page_are_served(play: Play, path: str) -> None:
    player = play(paused=True)

    async def work() -> None:
        async with serving(player) as (server, session):
            response = await session.get(server.url.rstrip("/") + path)
            assert response.status == 200
            assert "default-src 'self'" in response.headers["Content-Security-Policy"]

    run(work)


def test_nothing_else_is_served(play: Play) -> None:
    player = play(paused=True)

    async def work() -> None:
        async with serving(player) as (server, _):
            port = int(server.url.split(":")[2].rstrip("/"))
            for path in (
                "/../pyproject.toml",
                "/%2e%2e/server.py",
                "/page/index.html",
                f"/{CLIP}",
                "/../../etc/passwd",
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)  # clients would tidy the path
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                assert b" 404 " in await reader.readline(), path
                writer.close()

    run(work)


def test_a_picture_can_be_had_without_loss(play: Play) -> None:
    player = play(paused=True)

    async def work() -> None:
        async with serving(player) as (server, session):
            shown = player.wait(0, 20)
            assert shown is not None
            while (await session.get(f"{server.url}network.png")).status == 404:
                await asyncio.sleep(0.05)
            for version in ("bicubic", "network"):
                data = await (await session.get(f"{server.url}{version}.png")).read()
                found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
                assert (found == getattr(shown, version)).all()

    run(work)


def test_other_names_and_other_sites_are_refused(play: Play) -> None:
    player = play(paused=True)

    async def work() -> None:
        async with serving(player) as (server, session):
            foreign = await session.get(server.url, headers={"Host": "evil.example"})
            assert foreign.status == 403
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{server.url}ws", headers={"Origin": "http://evil.example"})
            assert refused.value.status == 403

    run(work)


def test_beyond_this_machine_a_token_is_asked_for(play: Play) -> None:
    player = play(paused=True)

    async def work() -> None:
        async with serving(player, "0.0.0.0") as (server, session):
            base, _, token = server.url.replace("0.0.0.0", "127.0.0.1").partition("?token=")
            assert len(token) > 15
            for url in (base, f"{base}?token=wrong", f"{base}app.js", f"{base}network.png", f"{base}ws?token=%C3%A9"):
                assert (await session.get(url)).status == 403, url
            page = await session.get(f"{base}?token={token}")
            assert page.status == 200
            assert page.cookies["vsr_preview_token"]["httponly"]
            cookie = {"Cookie": f"vsr_preview_token={token}"}
            assert (await session.get(f"{base}app.js", headers=cookie)).status == 200
            async with session.ws_connect(f"{base}ws", headers=cookie) as socket:
                await received(socket)

    run(work)


def test_a_port_that_is_taken_is_said(play: Play) -> None:
    player = play(paused=True)

    async def work() -> None:
        async with serving(player) as (server, _):
            port = int(server.url.split(":")[2].rstrip("/"))
            with pytest.raises(UsageError, match=rf"Cannot listen at 127\.0\.0\.1:{port} .*give another --port"):
                await Server(player, "127.0.0.1", port).start()

    run(work)


def test_what_breaks_is_said_on_the_page(media: Media, play: Play) -> None:
    player = play(media("interlaced.mkv"))

    async def work() -> None:
        async with serving(player) as (server, session), session.ws_connect(f"{server.url}ws") as socket:
            async for message in socket:
                if "error" in (said := json.loads(message.data)):
                    assert "is interlaced" in said["error"]
                    return
            pytest.fail("nothing was said")

    run(work)
