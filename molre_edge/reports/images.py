"""Slices as PNG images within a page."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["as_png"]


def as_png(plane: npt.NDArray[np.floating], black: float, white: float) -> str:
    """A plane [rows, cols] in grey as a PNG without any metadata, as an address that holds it."""
    from matplotlib.image import imsave

    file = io.BytesIO()
    nothing: Any = {"Software": None}  # not even the program's name
    values = plane.astype(np.float32)
    imsave(file, values, cmap="gray", vmin=black, vmax=white, format="png", metadata=nothing)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
