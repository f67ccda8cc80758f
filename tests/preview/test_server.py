from __future__ import annotations

import asyncio
import json
import resource
import signal
import struct
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest
from aiohttp import web
from yarl import URL

from tests import PATIENCE
from tests.stream.conftest import Media
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import InputError, UsageError
from vsr_plugin.interruption import interrupt
from vsr_plugin.preview import connections
from vsr_plugin.preview import server as module
from vsr_plugin.preview.player import Player
from vsr_plugin.preview.server import Server, serve

from .conftest import CLIP, Play, network_frame


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def in_time() -> None:
        await asyncio.wait_for(work(), PATIENCE)

    asyncio.run(in_time())


@asynccontextmanager
async def serving(player: Player, host: str = "127.0.0.1") -> AsyncIterator[tuple[Server, Any]]:
    server = Server(player, host, 0)
    await server.start()
    try:
        origin = {"Origin": server.url.rstrip("/")} if "?token=" not in server.url else {}
        async with aiohttp.ClientSession(headers=origin) as session:
            yield server, session
    finally:
        await server.stop()


async def until(true: Callable[[], object]) -> None:
    while not true():
        await asyncio.sleep(0.02)


async def received(socket: Any) -> tuple[dict[str, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The next message with images, taken apart."""
    while True:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            break
        assert message.type is aiohttp.WSMsgType.TEXT, message
    return unpacked(message.data)


def unpacked(data: bytes) -> tuple[dict[str, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Words and two images."""
    parts = []
    while data:
        end = 4 + struct.unpack_from(">I", data)[0]
        parts.append(data[4:end])
        data = data[end:]
    words, *files = parts
    bicubic, network = (cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR) for file in files)
    assert bicubic is not None
    assert network is not None
    return json.loads(words), bicubic, network


def test_a_viewer_gets_both_images_and_what_is_playing(play: Play) -> None:
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
            assert np.abs(bicubic.astype(int) - shown.plain).mean() < 2
            assert np.abs(network.astype(int) - shown.network).mean() < 2

    run(work)


def test_the_first_viewer_starts_the_clip_and_commands_are_obeyed(play: Play) -> None:
    player = play(paused=True, loop=True)

    async def work() -> None:
        async with serving(player) as (server, session), session.ws_connect(f"{server.url}ws") as socket:
            await received(socket)
            await socket.send_json({"do": "next"})
            said, *_ = await received(socket)
            assert said["status"]["position"] > 0 or not said["status"]["paused"]
            await socket.send_json({"do": "pause"})
            await socket.send_json({"do": "seek", "to": 2.0})
            await socket.send_json({"do": "scale", "to": 3})
            await socket.send_json({"do": "baseline", "to": "Lanczos"})
            digits = "9" * 400
            for nonsense in (
                '{"do": "model", "to": "../etc"}',
                '{"do": "step", "by": 99}',
                '{"do": "baseline", "to": "nearest"}',
                '{"do": "scale", "to": 99}',
                f'{{"do": "step", "by": {digits}}}',
                '{"do": "seek", "to": [1]}',
                '{"a": 1}',
                "[1]",
                '"x"',
                "no json",
                4000 * "[",
            ):
                await socket.send_str(nonsense)
            while True:
                await socket.send_json({"do": "next"})
                said, _, network = await received(socket)
                if said["status"]["scale"] == 3 and network.shape == (810, 1440, 3):
                    break
            assert said["status"]["paused"]
            assert (said["status"]["baseline"], said["viewers"]) == ("Lanczos", 1)
            assert said["status"]["position"] == pytest.approx(2.0, abs=0.05)

    run(work)


def test_whoever_does_not_answer_gets_no_second_image(play: Play) -> None:
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
                assert b"default-src 'self'" in await reader.read()
                writer.close()

    run(work)


def test_one_moment_can_be_had_without_loss(play: Play) -> None:
    player = play(paused=True, position=1.0)

    async def work() -> None:
        async with serving(player) as (server, session):
            await until(lambda: player.status().seen == "fast")
            shown = network_frame(player)
            await asyncio.sleep(0.3)
            words, bicubic, network = unpacked(await (await session.get(f"{server.url}moment")).read())
            assert (bicubic == shown.plain).all()
            assert (network == shown.network).all()
            assert words["names"] == [
                f"clip_{shown.position:08.3f}_bicubic.png",
                f"clip_{shown.position:08.3f}_fast.png",
            ]

    run(work)


def test_other_names_and_other_sites_are_refused(play: Play) -> None:
    player = play(paused=True)

    async def work() -> None:
        async with serving(player) as (server, session):
            for name in ("evil.example", "a:b:c", "127.0.0.1:x", "127.0.0.1:99999999"):
                foreign = await session.get(server.url, headers={"Host": name})
                assert foreign.status in (400, 403), name
                if foreign.status == 403:
                    assert "default-src 'self'" in foreign.headers["Content-Security-Policy"]
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{server.url}ws", headers={"Origin": "http://evil.example"})
            assert refused.value.status == 403

    run(work)


def test_a_socket_without_an_origin_needs_the_token(play: Play) -> None:
    player = play(paused=True)

    async def work() -> None:
        async with serving(player) as (server, _), aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{server.url}ws")
            assert refused.value.status == 403

    run(work)


GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),  # TLS
    b"\r\n\r\n\r\nnonsense\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + 70_000 * b"x" + b"\r\n\r\n",
    b"GET /" + 70_000 * b"x" + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999\r\n\r\nx",
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: [\r\n\r\n",
]


def test_garbage_is_answered_in_silence(
    play: Play, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    player = play(paused=True)

    async def work() -> None:
        async with serving(player) as (server, session):
            for request in GARBAGE:
                reader, writer = await asyncio.open_connection("127.0.0.1", URL(server.url).port)
                writer.write(request)
                writer.write_eof()
                answer = await reader.read()
                assert answer == b"" or answer.split(None, 2)[1] in (b"400", b"403", b"405"), request
                assert b"aiohttp" not in answer
                writer.close()
            assert (await session.get(server.url)).headers["Server"] == "vsr-preview"
            async with session.ws_connect(f"{server.url}ws") as socket:
                assert socket._response.headers["Server"] == "vsr-preview"

    run(work)
    assert caplog.text == ""
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("pending", "timeout", "closed"), [(8, 1000.0, 32), (1000, 1.0, 40)])
def test_half_requests_keep_nobody_out(
    play: Play, monkeypatch: pytest.MonkeyPatch, pending: int, timeout: float, closed: int
) -> None:
    monkeypatch.setattr(connections, "_MOST_PENDING", pending)
    monkeypatch.setattr(connections, "_REQUEST_TIMEOUT", timeout)
    player = play(paused=True)

    async def work() -> None:
        async with serving(player, "0.0.0.0") as (server, session):
            base, token = f"http://127.0.0.1:{URL(server.url).port}/", URL(server.url).query["token"]
            async with session.ws_connect(f"{base}ws?token={token}") as socket:
                half = [await asyncio.open_connection("127.0.0.1", URL(base).port) for _ in range(40)]
                for index, (_, writer) in enumerate(half):  # every second one is refused, and stays
                    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"\r\n" if index % 2 else b""))
                await asyncio.gather(*(reader.read() for reader, _ in half[:closed]), return_exceptions=True)
                assert (await session.get(f"{base}?token={token}")).status == 200
                await received(socket)

    run(work)


def test_beyond_this_machine_a_token_is_asked_for(play: Play) -> None:
    player = play(paused=True)

    async def work() -> None:
        async with serving(player, "0.0.0.0") as (server, session):
            printed, _, token = server.url.partition("?token=")
            assert len(token) > 15
            assert "0.0.0.0" not in printed, "no browser elsewhere would find it"
            port = URL(printed).port
            base = f"http://127.0.0.1:{port}/"
            name = f"vsr_preview_token_{port}"  # a second preview on this machine has its own
            for url in (base, f"{base}?token=wrong", f"{base}app.js", f"{base}moment", f"{base}ws?token=%C3%A9"):
                assert (await session.get(url)).status == 403, url
            page = await session.get(base, headers={"Accept": "text/html"})
            assert (page.status, page.content_type) == (403, "text/html")
            assert "default-src 'self'" in page.headers["Content-Security-Policy"]
            assert (await session.get(f"{base}style.css")).status == 200, "its design is no secret"
            reader, writer = await asyncio.open_connection("127.0.0.1", port)  # clients would not send this
            writer.write(
                b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: " + name.encode() + b"=\xff\r\n\r\n"
            )
            assert b" 403 " in await reader.readline()
            writer.close()
            page = await session.get(f"{base}?token={token}")
            assert page.status == 200
            assert page.cookies[name]["httponly"]
            cookie = {"Cookie": f"{name}={token}"}
            assert (await session.get(f"{base}app.js", headers=cookie)).status == 200
            async with session.ws_connect(f"{base}ws", headers=cookie) as socket:
                await received(socket)

    run(work)


def test_a_port_that_is_taken_is_said(play: Play) -> None:
    player = play(paused=True)

    async def work() -> None:
        async with serving(player) as (server, _):
            port = int(server.url.split(":")[2].rstrip("/"))
            with pytest.raises(UsageError, match=rf"Cannot listen at 127\.0\.0\.1:{port} .*use another port"):
                await Server(player, "127.0.0.1", port).start()

    run(work)


def test_a_host_that_is_none_is_said(play: Play) -> None:
    player = play(paused=True)

    async def work() -> None:
        with pytest.raises(UsageError, match=r"Cannot listen at a\.\.b:0"):
            await Server(player, "a..b", 0).start()

    run(work)


def test_what_breaks_is_said_on_the_page(media: Media, play: Play) -> None:
    player = play(media("interlaced.mkv"))

    async def work() -> None:
        async with serving(player) as (server, session), session.ws_connect(f"{server.url}ws") as socket:
            assert "is interlaced" in await complaint(socket)
            with pytest.raises(InputError, match="is interlaced"):
                await server.until_shown()

    run(work)


async def complaint(socket: Any) -> str:
    """What is said at the end."""
    async for message in socket:
        if message.type is aiohttp.WSMsgType.BINARY:
            await socket.send_json({"do": "next"})
        elif "error" in (said := json.loads(message.data)):
            return str(said["error"])
    pytest.fail("nothing was said")


def test_a_network_that_breaks_midway_ends_it_for_everyone(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    player = play(loop=True)

    async def work() -> None:
        async with serving(player) as (server, session):
            await server.until_shown()
            awake = await session.ws_connect(f"{server.url}ws")
            stalled = await session.ws_connect(f"{server.url}ws")
            await received(awake)
            await received(stalled)
            await awake.send_json({"do": "next"})
            ended = asyncio.create_task(server.until_failed())
            monkeypatch.setattr(Upscaler, "_begin", broken)
            assert await complaint(awake) == "out of luck"
            with pytest.raises(RuntimeError, match="out of luck"):
                await ended

    run(work)


def broken(*_: object) -> None:
    raise RuntimeError("out of luck")


def test_nothing_is_printed_that_cannot_be_looked_at(media: Media, play: Play) -> None:
    said: list[str] = []
    with pytest.raises(InputError, match="is interlaced"):
        serve(play(media("interlaced.mkv"), paused=True), "127.0.0.1", 0, said.append)
    assert said == []


def test_viewers_who_do_not_read_cost_no_memory(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty who ask for every image and read none, while as many go by as would fill gigabytes."""
    player, sent = play(loop=True), []
    send = web.WebSocketResponse.send_bytes

    async def counted(self: web.WebSocketResponse, data: bytes, compress: int | None = None) -> None:
        sent.append(len(data))
        await send(self, data, compress)

    monkeypatch.setattr(web.WebSocketResponse, "send_bytes", counted)

    async def work() -> None:
        async with serving(player) as (server, _):
            await server.until_shown()
            stalled = [await asleep(server) for _ in range(50)]

            async def pass_by(images: int) -> None:
                end = number(player) + images
                while number(player) < end:
                    for _, writer in stalled:
                        writer.write(NEXT)
                    await asyncio.sleep(0.02)

            count = 0
            while len(sent) < len(stalled) or len(sent) > count:  # until no more fits between two programs
                count = len(sent)
                await pass_by(20)
            before = resident()
            await pass_by(60)
            assert resident() - before < 50e6
            for _, writer in stalled:
                writer.transport.abort()

    run(work)


def test_viewers_who_do_not_read_are_let_go(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STALLED", 0.5)
    player = play(loop=True)

    async def work() -> None:
        async with serving(player) as (server, _):
            await server.until_shown()
            _, writer = await asleep(server)
            await until(lambda: server.viewers)
            while server.viewers:  # in vain it is said that more is wanted
                writer.write(NEXT)
                await asyncio.sleep(0.05)

    run(work)


NEXT = b'\x81\x8d\0\0\0\0{"do":"next"}'


async def asleep(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A viewer who reads nothing."""
    port = URL(server.url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    writer.write(
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Origin: http://127.0.0.1:{port}\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    return reader, writer


def test_an_image_that_came_meanwhile_is_not_waited_for(play: Play) -> None:
    """Else a viewer a little slower than the clip would see half of it."""
    player = play(loop=True)

    async def work() -> None:
        async with serving(player) as (server, session), session.ws_connect(f"{server.url}ws") as socket:
            await received(socket)
            seen = number(player)
            await until(lambda: number(player) > seen)
            assert server._watcher is not None
            server._watcher.cancel()  # there will be no other
            await socket.send_json({"do": "next"})
            await received(socket)

    run(work)


def number(player: Player) -> int:
    """Of the latest frame."""
    latest = player.wait()
    assert latest is not None
    return latest.number


def resident() -> float:
    """Bytes of this process in memory."""
    return float(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_viewers_are_let_go_at_the_end(play: Play) -> None:
    """Else it would wait for them."""
    player = play(paused=True)

    async def work() -> None:
        async with serving(player) as (server, session), session.ws_connect(f"{server.url}ws") as socket:
            await received(socket)
            await asyncio.gather(server.stop(), socket.receive())
            assert socket.close_code == aiohttp.WSCloseCode.GOING_AWAY

    run(work)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_between_two_steps_of_its_loop(play: Play, number: signal.Signals) -> None:
    """Raised within one, it could leave a lock behind that the player's threads wait for."""
    player = play(paused=True)
    status = player.status
    finished: list[bool] = []

    def interrupted() -> Any:
        if not finished:
            signal.raise_signal(number)
            finished.append(True)
        return status()

    async def look(url: str) -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}ws", origin=url.rstrip("/")) as socket:
            async for _ in socket:
                pass

    def say(url: str) -> None:
        player.status = interrupted  # type: ignore[method-assign]
        viewer.append(threading.Thread(target=asyncio.run, args=(look(url),), daemon=True))
        viewer[0].start()

    viewer: list[threading.Thread] = []
    before = signal.signal(number, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            serve(player, "127.0.0.1", 0, say)
    finally:
        signal.signal(number, before)
    viewer[0].join(20)
    assert finished
