"""What a model is trained on: volumes, or the frozen backbone's features where only later modules learn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from molre_edge.files import write_whole
from molre_edge.model.checkpoint import weights_digest
from molre_edge.model.classifier import ClassifierOutput, HeadCTClassifier
from molre_edge.parity import Outputs
from molre_edge.training.volumes import Volumes

__all__ = ["FeatureSamples", "Samples", "VolumeSamples", "make_samples", "predict"]


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
        """Read volumes from their files as they are asked for."""
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
    """Features of a frozen backbone, [n, slices, d] or [n, d]; only what comes after it runs."""

    def __init__(self, features: Tensor, labels: npt.NDArray[np.float32]) -> None:
        """Keep features and labels in memory."""
        self._features, self.labels = features, labels

    def __len__(self) -> int:
        """The number of scans."""
        return len(self._features)

    def answer(self, model: HeadCTClassifier, indices: Sequence[int]) -> ClassifierOutput:
        """See :class:`Samples`."""
        return model.classify(self._features[list(indices)].to(_device(model)))


def make_samples(
    model: HeadCTClassifier, volumes: Volumes, cache: Path, on_case: Callable[[], None] = lambda: None
) -> Samples:
    """Volumes, or features where the model's backbone is frozen and unadapted; those are computed once and cached.

    Args:
        model: on its device.
        volumes: prepared.
        cache: folder of the features; a file's name is a hash of backbone, weights and volumes.
        on_case: is called after each scan whose features were computed.
    """
    learns = any(p.requires_grad for p in model.backbone.parameters())
    if learns or not model.features_are_frozen or not len(volumes):
        return VolumeSamples(volumes)
    digest = hashlib.sha256(weights_digest(model.backbone.state_dict()).encode())
    digest.update(repr((model.config.backbone, model.config.windows, model.config.grid)).encode())
    digest.update("\n".join(path.name for path in volumes.files).encode())
    path = cache / f"features-{digest.hexdigest()[:32]}.npy"
    if not path.is_file():
        rows = []
        for i in range(len(volumes)):
            with torch.inference_mode():
                batch = torch.from_numpy(volumes.load([i]).astype(np.float32)).to(_device(model))
                rows.append(model.features(batch).cpu().numpy())
            on_case()
        with write_whole(path) as partial, partial.open("wb") as file:
            np.save(file, np.concatenate(rows))
    return FeatureSamples(torch.from_numpy(np.load(path, allow_pickle=False)), volumes.labels)


def predict(model: HeadCTClassifier, samples: Samples, batch: int) -> Outputs:
    """The model's answers to all samples, in their order."""
    parts = []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(samples), batch):
            answer = samples.answer(model, range(start, min(start + batch, len(samples))))
            gates = None if answer.gates is None else answer.gates.float().cpu().numpy()
            parts.append(
                Outputs(answer.logits.float().cpu().numpy(), answer.embedding.float().cpu().numpy(), gates)
            )
    model.train(was_training)
    return Outputs.stack(parts)


def _device(model: HeadCTClassifier) -> torch.device:
    return next(model.parameters()).device
