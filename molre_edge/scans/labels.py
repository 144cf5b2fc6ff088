"""Numbers the connected parts of a mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["label_parts"]


def label_parts(mask: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Number the connected parts of a mask, over the faces of its voxels.

    On one thread: masks here are so small that starting others costs more than they save, and readers are processes.

    Args:
        mask: of two or three axes.

    Returns:
        uint32, same shape: 0 outside, and from 1 on within.
    """
    import SimpleITK as sitk

    make: Any = sitk.ConnectedComponentImageFilter
    connected = make()
    connected.SetNumberOfWorkUnits(1)
    labels: npt.NDArray[np.uint32] = sitk.GetArrayFromImage(
        connected.Execute(sitk.GetImageFromArray(mask.astype(np.uint8, copy=False)))
    )
    return labels
