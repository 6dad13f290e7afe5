"""What the pictures share: colours of arrays, and saving whole files only."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_choice
from spherecnn.files import write_atomic

# What `save` writes.
SUFFIXES = (".png", ".svg", ".pdf", ".jpg")


def save(figure: Any, path: str | os.PathLike[str], dpi: int = 120) -> Path:
    """Write a matplotlib figure, wholly or not at all, in the format of the suffix: .png, .svg, .pdf or .jpg.

    Raises
    ------
    InputError
        If the suffix is another one or the file cannot be written.
    """
    path = Path(path)
    check_choice("the suffix of the picture", path.suffix.lower(), SUFFIXES)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower(), dpi=dpi)
    write_atomic(path, buffer.getvalue())
    return path


def colours(values: np.ndarray, cmap: str = "viridis") -> np.ndarray:
    """Return RGB float32 (H, W, 3) of RGB (H, W, 3) or grey (H, W, 1) in [0, 1], or of a field (H, W).

    A field goes through `cmap`, scaled from its least to its greatest finite value.
    """
    if values.ndim == 2:
        from matplotlib import colormaps

        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
        scaled = (values - low) / (high - low if high > low else 1.0)
        return colormaps[cmap](scaled)[..., :3].astype(np.float32)
    if values.ndim != 3 or values.shape[-1] not in (1, 3):
        raise InputError(
            f"values have shape {values.shape}; expected (H, W) for a field, (H, W, 1) grey or "
            "(H, W, 3) RGB: choose channels to show."
        )
    rgb = np.clip(values, 0, 1).astype(np.float32)
    return np.repeat(rgb, 3, axis=-1) if values.shape[-1] == 1 else rgb
