"""The file ``config.pbtxt`` of a model of Triton: protobuf's text format, of which it needs little."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from molre_edge.specs import TensorSpec

__all__ = ["BYTES", "CONFIG_FILE", "DTYPES", "ServedModel", "served_tensor"]

CONFIG_FILE = "config.pbtxt"
BYTES = "object"
"""The dtype of text, as NumPy has it."""

DTYPES: Mapping[str, str] = {"float16": "FP16", "float32": "FP32", "float64": "FP64", BYTES: "BYTES"}
"""Triton's names of dtypes in requests and answers; a configuration says TYPE_STRING for BYTES."""


def served_tensor(spec: TensorSpec) -> TensorSpec:
    """A tensor of a graph as Triton's configuration has it: without the batch.

    Args:
        spec: the graph's; its first axis is the batch.
    """
    return TensorSpec(spec.name, spec.dtype, spec.shape[1:])


@dataclass(frozen=True)
class ServedModel:
    """What Triton must know of one model.

    Attributes:
        name: of the model and its folder.
        backend: ``python``, ``onnxruntime`` or ``tensorrt``.
        max_batch: most volumes in a call.
        max_delay_us: how long a request may wait for others, in microseconds.
        inputs, outputs: tensors without the batch; None is an axis whose length differs from request to request.
        on_cpu: whether Triton starts one instance whatever GPUs there are, because the model chooses its device itself.
        parameters: what the configuration carries besides, by name.
    """

    name: str
    backend: str
    max_batch: int
    max_delay_us: int
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    on_cpu: bool
    parameters: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The content of ``config.pbtxt``."""
        lines = [
            f"name: {_quoted(self.name)}",
            f"backend: {_quoted(self.backend)}",
            f"max_batch_size: {self.max_batch}",
        ]
        lines += [f"input [ {_tensor(spec)} ]" for spec in self.inputs]
        lines += [f"output [ {_tensor(spec)} ]" for spec in self.outputs]
        if self.max_batch > 1:
            lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {self.max_delay_us} }}")
        if self.on_cpu:
            lines.append("instance_group [ { kind: KIND_CPU count: 1 } ]")
        for name, value in sorted(self.parameters.items()):
            lines.append(f"parameters {{ key: {_quoted(name)} value {{ string_value: {_quoted(value)} }} }}")
        return "\n".join(lines) + "\n"


def _tensor(spec: TensorSpec) -> str:
    kind = DTYPES[spec.dtype]
    dims = ", ".join("-1" if axis is None else str(axis) for axis in spec.shape)
    return f"{{ name: {_quoted(spec.name)} data_type: TYPE_{'STRING' if kind == 'BYTES' else kind} dims: [ {dims} ] }}"


def _quoted(text: str) -> str:
    """Printable ASCII in quotation marks: protobuf's text format and JSON agree on it."""
    return json.dumps(text)
