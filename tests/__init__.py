"""The tests: they mirror vsr_plugin/ and kernels/."""

PATIENCE = 180
"""Seconds to wait for what must come, however busy the machine is."""
