"""The preview as a page, for a machine without a screen: a few files, and one WebSocket with pictures and commands.

Whoever looks gets a picture, says so, and gets the latest one then: a slow viewer sees fewer pictures, a stalled one
none, and nobody has more than one of them in memory. All look at the same player.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import struct
import time
from importlib import resources
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import cv2

from ..errors import BackendError, UsageError, VsrError
from . import KEYS, VIEWS

try:
    from aiohttp import WSMsgType, web
except ImportError as error:
    raise BackendError("--serve needs aiohttp: pip install 'vsr-plugin[preview]'") from error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from . import Picture, Shown
    from .player import Player

    type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_FILES = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
}
_KEYS = {key: what for key, what in KEYS.items() if key != "q"}  # a tab is closed by its browser
_COOKIE = "vsr_preview_token"
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
_STALLED = 60.0  # seconds without an answer after which a viewer is let go
_POLL = 0.25  # seconds between figures while no new picture comes
_LARGEST_MESSAGE = 4096  # bytes of a command
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Server:
    """Serves one player.

    Args:
        player: What is played.
        host: The address to listen at. Anything but loopback asks for a token.
        port: 0 for any that is free.

    Attributes:
        url: What to open, token included; after `start`.
    """

    def __init__(self, player: Player, host: str = "127.0.0.1", port: int = 8470) -> None:
        self.url = ""
        self._player = player
        self._host, self._port = host, port
        self._token = "" if _is_loopback(host) else secrets.token_urlsafe(16)
        self._encoded: tuple[int, bytes] = (0, b"")
        self._encoding = asyncio.Lock()
        self._begun = False
        self._latest: Shown | None = None
        self._error = ""
        self._news = asyncio.Condition()
        self._watcher: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            UsageError: the address is not ours, or taken.
        """
        app = web.Application(middlewares=[self._guarded])
        app.router.add_get("/ws", self._talk)
        app.router.add_get("/{version:bicubic|network}.png", self._png)
        for path in _FILES:
            app.router.add_get(path, self._file)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise UsageError(
                f"Cannot listen at {self._host}:{self._port} ({error.strerror}): give another --port or --host"
            ) from error
        self._watcher = asyncio.create_task(self._watch())
        port = self._runner.addresses[0][1]
        name = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"http://{name}:{port}/" + (f"?token={self._token}" if self._token else "")

    async def stop(self) -> None:
        """Let everyone go, and close the port."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Whoever has no token, or comes by another site's name, gets nothing."""
        if not self._token and not _is_loopback(request.url.host or ""):
            return web.Response(status=403, text="Expected this machine's own address in the URL.")
        given = request.query.get("token") or request.cookies.get(_COOKIE, "")
        if self._token and not hmac.compare_digest(given.encode(), self._token.encode()):
            return web.Response(status=403, text="Expected the token of the printed URL.")
        response = await handler(request)
        if not response.prepared:
            response.headers.update(_HEADERS)
            if self._token and request.path == "/":
                response.set_cookie(_COOKIE, self._token, httponly=True, samesite="Strict")
        return response

    async def _file(self, request: web.Request) -> web.Response:
        name, kind = _FILES[request.path]
        text = (resources.files(__package__) / "page" / name).read_text(encoding="utf-8")
        return web.Response(text=text, content_type=kind)

    async def _png(self, request: web.Request) -> web.Response:
        if self._latest is None:
            return web.Response(status=404, text="Nothing is shown yet.")
        picture = self._latest.bicubic if request.match_info["version"] == "bicubic" else self._latest.network
        data = await asyncio.to_thread(_encode, ".png", picture, [])
        return web.Response(body=data, content_type="image/png")

    async def _watch(self) -> None:
        """Wait for pictures, once for all viewers, who would take a thread each."""
        while not self._error:
            number = self._latest.number if self._latest else 0
            try:
                shown = await asyncio.to_thread(self._player.wait, number, _POLL)
            except VsrError as error:
                self._error = str(error)
            else:
                self._latest = shown or self._latest
            async with self._news:
                self._news.notify_all()

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        """Pictures to one viewer, and what they want."""
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"{request.scheme}://{request.host}":
            return web.Response(status=403, text="Expected a page of this server.")
        socket = web.WebSocketResponse(max_msg_size=_LARGEST_MESSAGE, heartbeat=20.0, compress=False)
        await socket.prepare(request)
        if not self._begun:  # nobody has seen anything yet
            self._begun = True
            self._player.pause(paused=False)
        wanted = asyncio.Event()
        wanted.set()
        sender = asyncio.create_task(self._send(socket, wanted))
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                command = _parsed(message.data)
                if command.get("do") == "next":
                    wanted.set()
                else:
                    self._obey(command)
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        return socket

    async def _send(self, socket: web.WebSocketResponse, wanted: asyncio.Event) -> None:
        """Send the latest picture whenever the one before has arrived, and figures in between."""
        number = 0
        try:
            await socket.send_str(json.dumps({"keys": _KEYS, "views": VIEWS}))
            while not socket.closed and not self._error:
                async with asyncio.timeout(_STALLED):
                    await wanted.wait()
                async with self._news:
                    await self._news.wait()
                    shown = self._latest
                figures = json.dumps({"status": self._player.status().as_dict(), "times": self._times()})
                if shown is None or shown.number == number:
                    await socket.send_str(figures)
                    continue
                wanted.clear()
                number = shown.number
                words = figures.encode()
                await socket.send_bytes(struct.pack(">I", len(words)) + words + await self._pictures(shown))
            await socket.send_str(json.dumps({"error": self._error}))
        except ConnectionError:
            return  # they are gone
        except TimeoutError:
            pass
        await socket.close()

    def _times(self) -> list[tuple[float, float]]:
        """(seconds ago, milliseconds) of the latest pictures."""
        now = time.monotonic()
        return [(round(now - when, 3), round(taken, 2)) for when, taken in list(self._player.times)]

    async def _pictures(self, shown: Shown) -> bytes:
        """Both pictures as JPEG, the length of the first before it; made once for all viewers."""
        async with self._encoding:
            if self._encoded[0] != shown.number:
                both = [await asyncio.to_thread(_encode, ".jpg", p, _QUALITY) for p in (shown.bicubic, shown.network)]
                self._encoded = (shown.number, struct.pack(">I", len(both[0])) + both[0] + both[1])
            return self._encoded[1]

    def _obey(self, command: dict[str, Any]) -> None:
        """Do what a viewer wants; what makes no sense is left alone."""
        player, status = self._player, self._player.status()
        match command:
            case {"do": "pause"}:
                player.pause()
            case {"do": "seek", "to": int() | float() as position}:
                player.seek(float(position))
            case {"do": "skip", "by": int() | float() as seconds}:
                player.skip(float(seconds))
            case {"do": "step", "by": 1 | -1 as frames}:
                player.step(frames)
            case {"do": "model", "to": str() as model} if model in status.models:
                player.choose(model=model)
            case {"do": "scale", "to": int() as scale} if scale in status.scales:
                player.choose(scale=scale)


def serve(player: Player, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Args:
        player: What is played.
        host: As for `Server`.
        port: ″
        say: Is told the address.

    Raises:
        UsageError: as `Server.start`.
    """

    async def run() -> None:
        server = Server(player, host, port)
        await server.start()
        say(server.url)
        try:
            await asyncio.Event().wait()
        finally:
            await server.stop()

    asyncio.run(run())


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parsed(text: str) -> dict[str, Any]:
    try:
        command = json.loads(text)
    except ValueError:
        return {}
    return command if isinstance(command, dict) else {}


def _encode(kind: str, picture: Picture, options: list[int]) -> bytes:
    _, data = cv2.imencode(kind, picture, options)
    return data.tobytes()
