"""Undo the zoom of OpenCV's Qt windows: the mouse wheel zooms them, whatever else it is used for.

OpenCV's functions cannot stop or undo it. Its widget has a slot that does, `resetZoom()`, which Qt can call by name.
All versions 5 of Qt are binary compatible; with any other version, nothing is done.
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

_VIEW, _SLOT = b"DefaultViewPort", b"resetZoom()"  # in modules/highgui/src/window_QT.h
# Functions of Qt in the wheels of opencv-python, as compilers spell them.
_QT = "14QtOpenCVPython"
_VERSION = f"_ZN{_QT}8qVersionEv"
_ALL_WIDGETS = f"_ZN{_QT}12QApplication10allWidgetsEv"
_CLASS_NAME = f"_ZNK{_QT}11QMetaObject9classNameEv"
_INDEX_OF_SLOT = f"_ZNK{_QT}11QMetaObject11indexOfSlotEPKc"
_METACALL = f"_ZN{_QT}11QMetaObject8metacallEPNS_7QObjectENS0_4CallEiPPv"
_INVOKE = 0  # QMetaObject::InvokeMetaMethod


def find_reset() -> Callable[[], object] | None:
    """A function that undoes the zoom of all open windows, to be called in their thread; None without Qt 5."""
    # Other processors return lists in other ways; on other systems, OpenCV's windows do not use Qt.
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return None
    try:
        # Symbols of the libraries that it is linked with are found, too.
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
    """The QMetaObject of an object's class, which the first of its virtual functions returns."""
    table = ctypes.c_size_t.from_address(widget).value
    function = ctypes.c_size_t.from_address(table).value
    return int(ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p)(function)(widget))
