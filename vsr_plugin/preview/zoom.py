"""The zoom that OpenCV's windows of Qt have of their own: the mouse wheel works it, whatever else it is wanted for.

OpenCV's functions cannot stop or undo it. Its widget has a slot that does, `resetZoom()`, and Qt calls that by name.
All versions 5 of Qt are binary compatible; with any other one nothing is done.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_VIEW, _SLOT = b"DefaultViewPort", b"resetZoom()"  # of modules/highgui/src/window_QT.h
# Functions of Qt in the wheels of opencv-python, as compilers spell them.
_QT = "14QtOpenCVPython"
_VERSION = f"_ZN{_QT}8qVersionEv"
_ALL_WIDGETS = f"_ZN{_QT}12QApplication10allWidgetsEv"
_CLASS_NAME = f"_ZNK{_QT}11QMetaObject9classNameEv"
_INDEX_OF_SLOT = f"_ZNK{_QT}11QMetaObject11indexOfSlotEPKc"
_METACALL = f"_ZN{_QT}11QMetaObject8metacallEPNS_7QObjectENS0_4CallEiPPv"
_INVOKE = 0  # QMetaObject::InvokeMetaMethod


def find_reset() -> Callable[[], object] | None:
    """What ends the zoom of all open windows, to be called in their thread; None where none of them is of Qt 5."""
    # Lists are returned in different ways by other processors; other systems have windows of their own.
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return None
    try:
        # A library finds what it is linked with, too.
        library = ctypes.CDLL(str(next(Path(cv2.__file__).parent.glob("cv2*.so"))))
        class_name, index_of_slot, metacall = (library[name] for name in (_CLASS_NAME, _INDEX_OF_SLOT, _METACALL))
        all_widgets, version = library[_ALL_WIDGETS], library[_VERSION]
    except (StopIteration, OSError, AttributeError):
        return None
    version.restype = ctypes.c_char_p
    if not version().startswith(b"5."):
        return None
    class_name.argtypes, class_name.restype = [ctypes.c_void_p], ctypes.c_char_p
    index_of_slot.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    metacall.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    views = [view for view in _widgets(all_widgets) if class_name(_meta_object(view)) == _VIEW]
    slots = [(view, index_of_slot(_meta_object(view), _SLOT)) for view in views]
    if not slots or any(slot < 0 for _, slot in slots):
        return None
    return lambda: [metacall(view, _INVOKE, slot, (ctypes.c_void_p * 1)()) for view, slot in slots]


def _widgets(all_widgets: Callable[[object], object]) -> Iterator[int]:
    """The addresses in a QList<QWidget*>: a pointer to 32-bit numbers, of which the third and fourth are the bounds."""
    data = ctypes.c_void_p()
    all_widgets(ctypes.byref(data))
    assert data.value is not None
    _, _, begin, end = (ctypes.c_int * 4).from_address(data.value)
    yield from (ctypes.c_size_t * end).from_address(data.value + 16)[begin:end]


def _meta_object(widget: int) -> int:
    """What Qt knows of the class of an object, which is what the first of its virtual functions returns."""
    table = ctypes.c_size_t.from_address(widget).value
    function = ctypes.c_size_t.from_address(table).value
    return int(ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p)(function)(widget))
