"""Scans as the first block that learns reads them, computed once: before it all is frozen and alike in all arms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from molre_edge.files import write_whole
from molre_edge.model.classifier import ClassifierOutput, HeadCTClassifier
from molre_edge.training.volumes import Volumes

ADAPTED_FROM = 2
"""Blocks before this one hold no adapter."""


class HeldSamples:
    """Labelled scans for :func:`molre_edge.training.loop.train_model`: what block `start` of the backbone reads.

    The class knows the inside of HeadCTClassifier and of the small convolutional backbones; it is for these
    comparisons alone. Values are kept in float16.
    """

    def __init__(self, model: HeadCTClassifier, volumes: Volumes, file: Path, start: int) -> None:
        """Take the values from `file`, or compute them with the model's frozen blocks.

        Args:
            model: any with the backbone's frozen weights.
            volumes: prepared, on the model's grid.
            file: where the values are kept, ``.npy``.
            start: the first block that is left to run; the number of blocks: none, the features are kept.
        """
        self.labels, self._start, self._slices = volumes.labels, start, model.config.grid.slices
        if not file.is_file():
            parts = []
            with torch.inference_mode():
                for i in range(len(volumes)):
                    parts.append(self._before(model, torch.from_numpy(volumes.load([i]).astype(np.float32))))
            with write_whole(file) as partial, partial.open("wb") as stream:
                np.save(stream, np.concatenate(parts))
        self._values = np.load(file, mmap_mode="r", allow_pickle=False)

    def __len__(self) -> int:
        """The number of scans."""
        return len(self._values)

    def _before(self, model: HeadCTClassifier, volume: torch.Tensor) -> np.ndarray:
        x = model.intensity(volume.flatten(0, 1))  # [slices, channels, rows, cols]
        if model.volumetric:
            x = x.transpose(0, 1).unsqueeze(0)
        for block in model.backbone.blocks[: self._start]:
            x = block(x)
        if self._start == len(model.backbone.blocks):
            x = model.backbone.summarise(x)
        return (x if model.volumetric else x.unsqueeze(0)).half().numpy()  # one scan

    def answer(self, model: HeadCTClassifier, indices: Sequence[int]) -> ClassifierOutput:
        """The model's answers to some of them."""
        x = torch.from_numpy(self._values[list(indices)].astype(np.float32))
        if self._start == len(model.backbone.blocks):
            return model.classify(x)
        model._state.start(1 if model.volumetric else self._slices)
        x = x if model.volumetric else x.flatten(0, 1)
        for block in model.backbone.blocks[self._start :]:
            x = block(x)
        features = model.backbone.summarise(x)
        return model._answer(features if model.volumetric else features.unflatten(0, (-1, self._slices)))
