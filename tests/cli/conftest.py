"""The files that the tests of the stream are made with serve the command line, too."""

from tests.stream.conftest import make, media

__all__ = ["make", "media"]
