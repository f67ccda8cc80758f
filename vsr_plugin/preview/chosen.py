"""The network that a clip is looked through, and the one that is wanted in its place."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..errors import VsrError

if TYPE_CHECKING:
    import threading

    from ..engine import Upscaler
    from ..frames import Frame
    from . import Choice

_log = logging.getLogger(__name__)


class Chosen:
    """One open network; `change` is for the thread that uses it, all else for whoever holds ``changed``.

    Attributes:
        upscaler: The network.
        notice: Why the last one that was wanted is not there; empty if it is.

    Args:
        choice: The networks.
        model: The first one.
        scale: Its enlargement.
        changed: Guards everything here, and hears of it.

    Raises:
        VsrError: it cannot be opened.
    """

    def __init__(self, choice: Choice, model: str, scale: int, changed: threading.Condition) -> None:
        self.upscaler: Upscaler = choice.open(model, scale)
        self.notice = ""
        self._choice, self._changed = choice, changed
        self._wanted = (model, scale)

    @property
    def settled(self) -> bool:
        """Whether it is the one that is wanted."""
        return self._wanted == (self.upscaler.spec.name, self.upscaler.scale)

    @property
    def models(self) -> tuple[str, ...]:
        """What else could be wanted at this scale, in the order of their keys."""
        return self._choice.models(self.upscaler.scale)

    @property
    def scales(self) -> tuple[int, ...]:
        """What this model could be wanted at."""
        return self._choice.scales(self.upscaler.spec.name)

    @property
    def said(self) -> str:
        """What is waited for, or the notice."""
        model, scale = self._wanted
        return self.notice or ("" if self.settled else f"opening {model} ×{scale} …")

    def want(self, model: str | None = None, scale: int | None = None) -> None:
        """Name another model, another scale, or both; what has no weights becomes a notice."""
        old_model, old_scale = self._wanted
        model, scale = model or old_model, scale or old_scale
        if scale not in self._choice.scales(model):
            self.notice = f"{model} has no weights for ×{scale}"
            return
        self._wanted, self.notice = (model, scale), ""
        self._changed.notify_all()

    def change(self, frame: Frame | None) -> Upscaler | None:
        """Take the wanted network, once it has made a picture; on failure keep the one that is there.

        Args:
            frame: What it is to make a picture of, if anything: that compiles it.

        Returns:
            The network that was there before, for the caller to close; None if it still is.
        """
        with self._changed:
            wanted = self._wanted
        opened: Upscaler | None = None
        try:
            opened = self._choice.open(*wanted)
            if frame is not None:
                opened.upscale([frame])
        except Exception as error:  # noqa: BLE001 - whatever it is, the one that is there works
            if not isinstance(error, VsrError):
                _log.debug("opening %s ×%d", *wanted, exc_info=error)
            if opened is not None:
                opened.close()
            with self._changed:
                if self._wanted == wanted:
                    self.notice = str(error) or type(error).__name__
                    self._wanted = (self.upscaler.spec.name, self.upscaler.scale)
            return None
        with self._changed:
            before, self.upscaler = self.upscaler, opened
        return before

    def close(self) -> None:
        """Free the network."""
        self.upscaler.close()
