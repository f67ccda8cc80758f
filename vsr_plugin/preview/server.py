"""The preview as a web page, for machines without a screen: a few files, and one WebSocket with frames and commands.

A viewer gets a frame, acknowledges it, and then gets the latest one. A slow viewer sees fewer frames, a stalled one
none, and each has at most one frame in memory. All share one player.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
import time
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any

from ..errors import BackendError
from ..installation import install
from ..interruption import interrupting
from . import BASELINES, KEYS, VIEWS, messages
from .addresses import is_loopback, not_listening, public_name

try:
    from aiohttp import WSCloseCode, WSMsgType, web

    from .connections import Connections
except ImportError as error:
    raise BackendError(f"The page needs aiohttp: {install('preview')}") from error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from . import DisplayedFrame
    from .player import Player

    type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)

_STYLE = "/style.css"
_FILES = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    _STYLE: ("style.css", "text/css"),  # also for refused.html
}
_KEYS = {key: what for key, what in KEYS.items() if key != "q"}  # a tab is closed by its browser
_COOKIE = "vsr_preview_token"  # and the port, since all ports share cookies
_STALLED = 60.0  # seconds without an answer after which a viewer is disconnected
_POLL = 0.25  # seconds between updates of figures while no new frame comes
_FAREWELL = 1.0  # seconds to tell viewers that the server ends
_LARGEST_MESSAGE = 4096  # bytes of a command
_OK = 200
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Server": "vsr-preview",
}


class Server:
    """Serves one player.

    Args:
        player: What is played.
        host: The address to listen at. Anything but loopback asks for a token.
        port: 0 for any that is free.

    Attributes:
        url: The URL to open, token included; empty before `start`.
    """

    def __init__(self, player: Player, host: str = "127.0.0.1", port: int = 8470) -> None:
        self.url = ""
        self._player = player
        self._host, self._port = host, port
        self._token = "" if is_loopback(host) else secrets.token_urlsafe(16)
        self._encoded: tuple[int, list[bytes]] = (0, [])
        self._encoding = asyncio.Lock()
        self._begun = False
        self._cookie = ""
        self._latest: DisplayedFrame | None = None
        self._failure: Exception | None = None
        self._senders: dict[asyncio.Task[None], web.WebSocketResponse] = {}
        self._news = asyncio.Condition()
        self._watcher: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._connections: Connections | None = None
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            UsageError: the address is not of this machine, or taken.
        """
        app = web.Application(middlewares=[self._guarded])
        app.router.add_get("/ws", self._talk)
        app.router.add_get("/moment", self._moment)
        for path in _FILES:
            app.router.add_get(path, self._file)
        app.on_response_prepare.append(_add_headers)
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        assert self._runner.server is not None
        self._connections = Connections(self._runner.server, _HEADERS)
        try:
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_server(self._connections, self._host, self._port)
        except (OSError, UnicodeError) as error:  # UnicodeError: the name is not valid
            await self._runner.cleanup()
            raise not_listening(self._host, self._port, error) from error
        self._watcher = asyncio.create_task(self._watch())
        port = self._listener.sockets[0].getsockname()[1]
        name = public_name(self._host)
        self._cookie = f"{_COOKIE}_{port}"
        self.url = f"http://{f'[{name}]' if ':' in name else name}:{port}/"
        if self._token:
            self.url += f"?token={self._token}"

    @property
    def viewers(self) -> int:
        """Number of viewers at present."""
        return len(self._senders)

    async def until_shown(self) -> None:
        """Wait for the first frame.

        Raises:
            VsrError: there will be none.
        """
        async with self._news:
            await self._news.wait_for(lambda: self._latest or self._failure)
        if self._failure is not None:
            raise self._failure

    async def until_failed(self) -> None:
        """Wait until the clip cannot be played any further, if ever, and the viewers have been told why.

        Raises:
            VsrError: always.
        """
        async with self._news:
            await self._news.wait_for(lambda: self._failure)
        if self._senders:
            await asyncio.wait(self._senders, timeout=_FAREWELL)
        assert self._failure is not None
        raise self._failure

    async def stop(self) -> None:
        """Disconnect all viewers, and close the port."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._senders:  # else aiohttp waits for them to leave
            closing = [
                asyncio.create_task(socket.close(code=WSCloseCode.GOING_AWAY)) for socket in self._senders.values()
            ]
            await asyncio.wait([asyncio.gather(*closing, return_exceptions=True)], timeout=_FAREWELL)
        if self._listener is not None:
            self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse requests without the token, or by another site's name."""
        response = self._refusal(request)
        if response is None:
            assert self._connections is not None
            self._connections.admit(request.protocol)
            try:
                response = await handler(request)
            except web.HTTPException as error:  # an unknown path
                response = web.Response(status=error.status, text=error.text)
        if self._token and request.path == "/" and response.status == _OK:
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="Strict")
        return response

    def _refusal(self, request: web.Request) -> web.StreamResponse | None:
        if not self._token and not is_loopback(_host(request)):
            return _refused(request, "Expected this machine's own address in the URL.")
        if request.path == _STYLE:
            return None
        given = request.query.get("token") or request.cookies.get(self._cookie, "")
        if self._token and not hmac.compare_digest(given.encode(errors="replace"), self._token.encode()):
            return _refused(request, "Expected the token of the printed URL.")
        return None

    async def _file(self, request: web.Request) -> web.Response:
        name, kind = _FILES[request.path]
        return web.Response(text=_page(name), content_type=kind)

    async def _moment(self, request: web.Request) -> web.Response:
        """What is shown now, without loss: packed as on the WebSocket, as PNGs with their file names."""
        shown = self._latest
        if shown is None:
            return web.Response(status=404, text="Nothing is shown yet.")
        files = shown.files(self._player.status().name)
        body = messages.pack({"names": list(files)}, await asyncio.to_thread(messages.pngs, files.values()))
        return web.Response(body=body, content_type="application/octet-stream")

    async def _watch(self) -> None:
        """Wait for frames, once for all viewers, who would need a thread each."""
        while self._failure is None:
            number = self._latest.number if self._latest else 0
            try:
                shown = await asyncio.to_thread(self._player.wait, number, _POLL)
            except Exception as error:  # noqa: BLE001 - sent to the viewers
                self._failure = error
            else:
                self._latest = shown or self._latest
            async with self._news:
                self._news.notify_all()

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        """Send frames to one viewer, and obey its commands."""
        origin = request.headers.get("Origin")
        own = f"{request.scheme}://{request.host}"
        known = origin is None and self._token  # a program, not a browser; it has sent the token
        if origin != own and not known:
            return web.Response(status=403, text="Expected a page of this server.")
        socket = web.WebSocketResponse(max_msg_size=_LARGEST_MESSAGE, heartbeat=20.0, compress=False)
        await socket.prepare(request)
        if not self._begun:  # the first viewer starts the clip
            self._begun = True
            self._player.pause(paused=False)
        wanted = asyncio.Event()
        wanted.set()
        sender = asyncio.create_task(self._send(socket, wanted))
        self._senders[sender] = socket
        sender.add_done_callback(partial(_let_go, request))
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                command = messages.parse(message.data)
                if command.get("do") == "next":
                    wanted.set()
                else:
                    self._obey(command)
        finally:
            del self._senders[sender]
            sender.cancel()
        return socket

    async def _send(self, socket: web.WebSocketResponse, wanted: asyncio.Event) -> None:
        """Send the latest frame whenever the one before has arrived, and figures in between."""
        number = 0
        await socket.send_str(json.dumps({"keys": _KEYS, "views": VIEWS, "baselines": BASELINES}))
        while not socket.closed and self._failure is None:
            async with asyncio.timeout(_STALLED):
                await wanted.wait()
            async with self._news:
                if self._failure is not None:
                    break
                if self._latest is None or self._latest.number == number:
                    await self._news.wait()
                shown = self._latest
            figures: dict[str, Any] = {
                "status": self._player.status().as_dict(),
                "times": self._times(),
                "viewers": self.viewers,
            }
            async with asyncio.timeout(_STALLED):
                if shown is None or shown.number == number:
                    await socket.send_str(json.dumps(figures))
                    continue
                wanted.clear()
                number = shown.number
                figures["shown"] = {"baseline": shown.baseline, "model": shown.model}
                await socket.send_bytes(messages.pack(figures, await self._jpegs(shown)))
        await socket.send_str(json.dumps({"error": str(self._failure)}))
        await socket.close()

    def _times(self) -> list[tuple[float, float]]:
        """(seconds ago, milliseconds) of the latest frames."""
        now = time.monotonic()
        return [(round(now - when, 3), round(taken, 2)) for when, taken in self._player.times]

    async def _jpegs(self, shown: DisplayedFrame) -> list[bytes]:
        """Both images, encoded once for all viewers."""
        async with self._encoding:
            if self._encoded[0] != shown.number:
                files = await asyncio.to_thread(messages.jpegs, (shown.plain, shown.network))
                self._encoded = shown.number, files
            return self._encoded[1]

    def _obey(self, command: dict[str, Any]) -> None:
        """Obey a viewer's command; invalid commands are ignored."""
        player, status = self._player, self._player.status()
        match command:
            case {"do": "pause"}:
                player.pause()
            case {"do": "seek", "to": float() as position}:
                player.seek(position)
            case {"do": "skip", "by": float() as seconds}:
                player.skip(seconds)
            case {"do": "step", "by": 1.0 | -1.0 as frames}:
                player.step(int(frames))
            case {"do": "model", "to": str() as model} if model in status.models:
                player.choose(model=model)
            case {"do": "baseline", "to": str() as baseline} if baseline in BASELINES:
                player.choose(baseline=baseline)
            case {"do": "scale", "to": float() as scale} if scale in status.scales:
                player.choose(scale=int(scale))


def serve(player: Player, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until interrupted, from the first frame on.

    Args:
        player: What is played.
        host: As for `Server`.
        port: ″
        say: Called with the URL.

    Raises:
        UsageError: as `Server.start`.
        VsrError: the clip cannot be played, or not any further.
        KeyboardInterrupt: a signal stopped it.
    """

    async def run() -> None:
        server = Server(player, host, port)
        await server.start()
        try:
            await server.until_shown()
            say(server.url)
            await server.until_failed()
        finally:
            await server.stop()

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        serving = loop.create_task(run())
        with interrupting(lambda: loop.call_soon_threadsafe(serving.cancel)):
            try:
                loop.run_until_complete(serving)
            except asyncio.CancelledError:
                raise KeyboardInterrupt from None


def _page(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text(encoding="utf-8")


def _refused(request: web.Request, reason: str) -> web.Response:
    """A refusal: a page for a browser, one line for its scripts and for other programs."""
    if "text/html" not in request.headers.get("Accept", ""):
        return web.Response(status=403, text=reason)
    return web.Response(status=403, text=_page("refused.html").replace("REASON", reason), content_type="text/html")


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _let_go(request: web.Request, sender: asyncio.Task[None]) -> None:
    """Disconnect a viewer who has stalled, or whose connection failed."""
    if sender.cancelled() or sender.exception() is None:
        return
    error = sender.exception()
    if not isinstance(error, (ConnectionError, TimeoutError)):
        _log.error("disconnected a viewer: %s", error, exc_info=error)
    if request.transport is not None:
        request.transport.abort()


def _host(request: web.Request) -> str:
    """The host name of a request; empty if it is not valid."""
    try:
        return request.url.host or ""
    except ValueError:
        return ""
