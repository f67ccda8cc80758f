"""Checks of the structure of containers, where FFmpeg silently skips damaged parts.

| module | what it is |
|---|---|
| `walk` | runs a check over the bytes of a file while they are read, and records the damage that it finds |
| `structure` | the checks by the name of FFmpeg's demuxer, including those of FLV, Ogg, MXF, IVF and MPEG-PS |
| `asf`, `avi`, `gif`, `matroska`, `mov`, `nut`, `transport` | the checks of one format each |
| `matroska_header` | parts of Matroska that FFmpeg neither reads nor writes |
"""
