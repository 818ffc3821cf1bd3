"""Makes a PNG small for the repository: fewer colours, and no wider than it needs to be."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

LARGEST = 150_000  # bytes


def smaller(path: Path, widest: int = 1600) -> None:
    """Rewrites the file with as many colours as keep it below ``LARGEST``, then narrower; says its size."""
    picture = Image.open(path).convert("RGB")
    if picture.width > widest:
        picture = picture.resize((widest, round(picture.height * widest / picture.width)), Image.Resampling.LANCZOS)
    while True:
        for colours in (128, 64, 32):
            # The palette covers rare colours too (boxes over noise). No dithering: dots compress badly.
            with_true_colours(picture, picture.quantize(
                colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)).save(path, optimize=True)
            if path.stat().st_size < LARGEST:
                print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size / 1000:.0f} kB", flush=True)
                return
        picture = picture.resize((picture.width * 9 // 10, picture.height * 9 // 10), Image.Resampling.LANCZOS)


def with_true_colours(picture: Image.Image, fewer: Image.Image) -> Image.Image:
    """``fewer``, with each colour of its palette the mean of what it stands for: a grey background stays grey."""
    places, pixels = np.asarray(fewer).ravel(), np.asarray(picture).reshape(-1, 3)
    counts = np.maximum(np.bincount(places, minlength=256), 1)
    sums = np.stack([np.bincount(places, pixels[:, channel], minlength=256) for channel in range(3)], axis=1)
    fewer.putpalette((sums / counts[:, None]).round().astype(np.uint8).tobytes())
    return fewer


if __name__ == "__main__":
    for name in sys.argv[1:]:
        smaller(Path(name))
