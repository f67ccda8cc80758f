"""What a program may do wrong."""

from __future__ import annotations


class ProgramError(Exception):
    """A program does what PTX leaves undefined, or what the interpreter does not know."""


class RaceError(ProgramError):
    """What a program computes depends on which of its threads is faster."""
