"""Training samples: volumes, or the frozen backbone's features if only later modules are trained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from molre_edge.files import write_whole
from molre_edge.model.checkpoint import weights_digest
from molre_edge.model.classifier import ClassifierOutput, HeadCTClassifier
from molre_edge.parity import Outputs
from molre_edge.training.volumes import Volumes

__all__ = ["FeatureSamples", "Samples", "VolumeSamples", "has_fixed_features", "make_samples", "predict"]

_FORMAT = 1  # counts up when the code changes what a backbone's features are


class Samples(Protocol):
    """Labelled scans that a model can answer."""

    labels: npt.NDArray[np.float32]
    """[n, findings], NaN where unknown."""

    def __len__(self) -> int: ...

    def answer(self, model: HeadCTClassifier, indices: Sequence[int]) -> ClassifierOutput:
        """The model's answers to some of them, on the model's device."""


class VolumeSamples:
    """Volumes; the whole model runs."""

    def __init__(self, volumes: Volumes) -> None:
        """Read volumes from their files on demand."""
        self._volumes = volumes
        self.labels = volumes.labels

    def __len__(self) -> int:
        """The number of scans."""
        return len(self._volumes)

    def answer(self, model: HeadCTClassifier, indices: Sequence[int]) -> ClassifierOutput:
        """See :class:`Samples`."""
        batch = torch.from_numpy(self._volumes.load(indices).astype(np.float32))
        return model(batch.to(_device(model)))  # type: ignore[no-any-return]


class FeatureSamples:
    """Features of a frozen backbone, [slices, d] or [d] a file; only what comes after it runs."""

    def __init__(self, files: Sequence[Path], labels: npt.NDArray[np.float32]) -> None:
        """Read features from their files on demand."""
        self._files, self.labels = tuple(files), labels

    def __len__(self) -> int:
        """The number of scans."""
        return len(self._files)

    def answer(self, model: HeadCTClassifier, indices: Sequence[int]) -> ClassifierOutput:
        """See :class:`Samples`."""
        features = np.stack([np.load(self._files[i], allow_pickle=False) for i in indices])
        return model.classify(torch.from_numpy(features).to(_device(model)))


def has_fixed_features(model: HeadCTClassifier) -> bool:
    """Whether nothing in the backbone is trained, so that its features need to be computed only once."""
    return model.features_are_frozen and not any(p.requires_grad for p in model.backbone.parameters())


def make_samples(
    model: HeadCTClassifier, volumes: Volumes, cache: Path, on_case: Callable[[], None] = lambda: None
) -> Samples:
    """Volumes, or features where those of the model's backbone are fixed; these are computed once and cached.

    Args:
        model: on its device.
        volumes: prepared.
        cache: folder of the features; their folder's name is a hash of backbone and weights, a file's that of the
            volume. Each is written whole, so that an interruption costs one scan.
        on_case: called after each scan whose features are ready.
    """
    if not has_fixed_features(model):
        return VolumeSamples(volumes)
    digest = hashlib.sha256(weights_digest(model.backbone.state_dict()).encode())
    config = model.config
    settings = (config.backbone, config.windows, config.window_range, config.normalisation, config.grid)
    digest.update(repr((_FORMAT, *settings)).encode())
    folder = cache / f"features-{digest.hexdigest()[:32]}"
    files = [folder / file.name for file in volumes.files]
    for i, file in enumerate(files):
        if not file.is_file():
            with torch.inference_mode():
                batch = torch.from_numpy(volumes.load([i]).astype(np.float32)).to(_device(model))
                features = model.features(batch)[0].float().cpu().numpy()
            with write_whole(file) as partial, partial.open("wb") as stream:
                np.save(stream, features)
        on_case()
    return FeatureSamples(files, volumes.labels)


def predict(
    model: HeadCTClassifier, samples: Samples, batch: int, on_case: Callable[[], None] = lambda: None
) -> Outputs:
    """The model's answers to all samples, in their order; `on_case` is called after each."""
    parts = []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(samples), batch):
            indices = range(start, min(start + batch, len(samples)))
            answer = samples.answer(model, indices)
            gates = None if answer.gates is None else answer.gates.float().cpu().numpy()
            parts.append(Outputs(answer.logits.float().cpu().numpy(), answer.embedding.float().cpu().numpy(), gates))
            for _ in indices:
                on_case()
    model.train(was_training)
    return Outputs.stack(parts)


def _device(model: HeadCTClassifier) -> torch.device:
    return next(model.parameters()).device
