"""What containers say of their own bytes, which FFmpeg passes over without an error where it does not fit.

| module | what it is |
|---|---|
| `walk` | follows the bytes of a file while they are read, and notes where a check finds that they do not fit |
| `structure` | the checks by the name of FFmpeg's demuxer, those of FLV, Ogg, MXF, IVF and MPEG-PS among them |
| `asf`, `avi`, `gif`, `matroska`, `mov`, `nut`, `transport` | the checks of one format each |
| `matroska_header` | what Matroska can hold and FFmpeg neither reads nor writes |
"""
