"""``python -m vsr_plugin`` is ``vsr``."""

from .cli import main

main()
