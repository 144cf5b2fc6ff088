"""The PyTorch reference: the model that was validated, as it is. Imports torch when it is entered, not before."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.tensors import Tensors
from molre_edge.engines.runner import RunResult, check_volume
from molre_edge.errors import EngineError, MissingDependencyError
from molre_edge.parity import Outputs
from molre_edge.specs import Precision, TensorSpec

if TYPE_CHECKING:
    from molre_edge.model.classifier import HeadCTClassifier

__all__ = ["TorchRunner"]


class TorchRunner:
    """Runs a classifier in float32 with PyTorch, on a GPU where there is one (TF32 off), else on the CPU.

    Attributes:
        name: ``torch:fp32``.
        precision: fp32.
    """

    name = "torch:fp32"
    precision = Precision.FP32

    def __init__(self, model: HeadCTClassifier, *, device: str | None = None) -> None:
        """Take a model in eval mode.

        Args:
            model: the reference.
            device: PyTorch's name of a device; None takes the first GPU, else the CPU.
        """
        self._model = model
        self._wanted = device
        self._device: Any = None

    @classmethod
    def from_checkpoint(cls, path: Path, *, backbone_weights: Path | None = None) -> TorchRunner:
        """The runner of a checkpoint.

        Raises:
            CheckpointError: see :func:`molre_edge.model.checkpoint.load_checkpoint`.
            MissingDependencyError: torch or transformers is not installed.
        """
        try:
            from molre_edge.model.checkpoint import load_checkpoint
        except ImportError as error:
            raise MissingDependencyError("Running the PyTorch reference", "torch", "export") from error
        return cls(load_checkpoint(path, backbone_weights=backbone_weights).model)

    def __enter__(self) -> TorchRunner:
        """Move the model to its device."""
        import torch

        self._device = torch.device(self._wanted or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._model.to(self._device).eval()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the device."""
        self._model.to("cpu")
        self._device = None

    @property
    def input_spec(self) -> TensorSpec:
        """The volume: float32."""
        return TensorSpec("volume", "float32", (None, *self._model.config.grid.shape))

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Logits, gates (where there are experts), embedding, attention (of 2D models): as the exported graph has."""
        from molre_edge.model.adapters import AdaptedLayer
        from molre_edge.model.config import Routing
        from molre_edge.model.routing import Site

        config = self._model.config
        specs = [TensorSpec("logits", "float32", (None, len(config.findings)))]
        if config.adapter.experts:
            layers = [module for module in self._model.modules() if isinstance(module, AdaptedLayer)]
            by_slice = config.router.level is not Routing.VOLUME and config.adapter.experts > 1
            slices = config.grid.slices if by_slice and any(x.site is not Site.VOLUME for x in layers) else 1
            shape = (None, slices, len(self._model.routers), config.adapter.experts)
            specs.append(TensorSpec("gates", "float32", shape))
        width = int(self._model.backbone.embed_dim)  # type: ignore[arg-type]  # a backbone's own attribute
        specs.append(TensorSpec("embedding", "float32", (None, width)))
        if not self._model.volumetric:
            specs.append(TensorSpec("attention", "float32", (None, config.grid.slices)))
        return tuple(specs)

    def use_adapter(self, tensors: Tensors) -> None:
        """Answer by these trained tensors from the next batch on; the model keeps them.

        Raises:
            AdapterError: they do not fit the model.
        """
        from molre_edge.model.trained import load_trained

        load_trained(self._model, tensors)

    @property
    def facts(self) -> dict[str, Any]:
        """Runtime and device."""
        import torch

        on_gpu = self._device is not None and self._device.type == "cuda"
        return {
            "runtime": "PyTorch",
            "version": torch.__version__,
            "device": torch.cuda.get_device_name(self._device) if on_gpu else "CPU",
            "threads": torch.get_num_threads(),
        }

    def run(self, volume: npt.NDArray[np.float16]) -> RunResult:
        """Answer a batch; float16 HU [batch, slices, rows, cols], computed in float32."""
        if self._device is None:
            raise EngineError(f"{self.name} is not ready: use it in a 'with' block")
        import torch

        check_volume(volume, self.input_spec)
        with torch.inference_mode(), _ExactFloat32(torch):
            start = time.perf_counter()
            fed = torch.from_numpy(volume.astype(np.float32)).to(self._device)
            self._synchronise(torch)
            ready = time.perf_counter()
            answer = self._model(fed)
            self._synchronise(torch)
            done = time.perf_counter()
            named = answer._asdict().items()
            outputs = Outputs.of({name: value.cpu().numpy() for name, value in named if value is not None})
            end = time.perf_counter()
        phases = {"to_device": ready - start, "compute": done - ready, "from_device": end - done}
        return RunResult(outputs, {name: 1e3 * seconds for name, seconds in phases.items()})

    def _synchronise(self, torch: Any) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


class _ExactFloat32:
    """TF32 off while the reference runs: it would not be float32."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch

    def __enter__(self) -> None:
        backends = self._torch.backends
        self._before = (backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32)
        backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = False

    def __exit__(self, *_: object) -> None:
        backends = self._torch.backends
        backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = self._before
