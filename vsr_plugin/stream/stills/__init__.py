"""Metadata of still images: ICC profile, EXIF, resolution, text.

| module | what it is |
|---|---|
| `still` | reads metadata from an image's bytes, and writes it into those of an encoder |
| `jpeg`, `png`, `tiff`, `webp` | where each format stores metadata |
"""
