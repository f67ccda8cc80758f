"""What a still image says beside its pixels: ICC profile, EXIF, resolution, text.

| module | what it is |
|---|---|
| `still` | reads it out of an image's bytes, and puts it into those of an encoder |
| `jpeg`, `png`, `tiff`, `webp` | where each format keeps it |
"""
