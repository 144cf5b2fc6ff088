"""PyTorch to ONNX: the float32 graph, simplified and checked."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from molre_edge.bundle.manifest import GraphFacts
from molre_edge.errors import ExportError
from molre_edge.specs import TensorSpec

if TYPE_CHECKING:
    import onnx
    import torch

    from molre_edge.model.classifier import HeadCTClassifier

__all__ = ["CONSTANTS", "INPUTS", "MAX_IR_VERSION", "OPSET", "check_graph", "export_fp32", "graph_facts"]

OPSET = 20
"""What TensorRT 10.3 (JetPack 6) parses; from 23 on the exporter emits Attention, which it does not know."""

MAX_IR_VERSION = 10
"""The newest IR that ONNX Runtime 1.23 (Python 3.10) reads."""

CONSTANTS, INPUTS = "constants", "inputs"
"""What the trained tensors of a graph are: part of it, or inputs beside the volume."""

_MAX_BYTES = 2_000_000_000
"""A protobuf message ends at 2 GiB; larger models would need external data."""

_CONTROL_FLOW = {"If", "Loop", "Scan"}


def export_fp32(model: HeadCTClassifier, adapters: str = CONSTANTS) -> onnx.ModelProto:
    """Trace the model with torch.export, only the batch dynamic, and simplify the graph.

    Args:
        model: in eval mode.
        adapters: ``constants``; or ``inputs`` for a graph that takes what was trained as inputs, in the order of
            :func:`molre_edge.model.trained.trained_specs`.

    Raises:
        ExportError: the exporter or the simplifier failed, or the graph is too large for one file.
    """
    import onnxsim
    import torch

    weights = 4 * sum(p.numel() for p in model.parameters())
    if weights > _MAX_BYTES:
        raise ExportError(
            f"the model has {weights / 1e9:.1f} GB of float32 weights; expected at most {_MAX_BYTES / 1e9:.0f} GB, "
            f"because a larger graph does not fit into one ONNX file. Use a smaller backbone"
        )
    with _quiet(), _to_trace(model, adapters) as (traced, examples, dynamic):
        try:
            program = torch.onnx.export(
                traced.eval(),
                examples,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=dynamic,
                input_names=input_names(model, adapters),
                output_names=output_names(model),
                external_data=False,
                verbose=False,
            )
            assert program is not None
            graph = program.model_proto
        except Exception as error:  # the exporter raises a family of its own, each with a long report
            raise ExportError(f"PyTorch's ONNX exporter failed: {_first_line(error)}") from error
        try:
            simplified, _ = onnxsim.simplify(graph)  # it compares nothing by default; parity with PyTorch follows
        except Exception as error:
            raise ExportError(f"onnxsim failed: {_first_line(error)}") from error
    return simplified  # type: ignore[no-any-return]


@contextlib.contextmanager
def _to_trace(
    model: HeadCTClassifier, adapters: str
) -> Iterator[tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]]:
    """The module to trace, examples of its inputs, and which of their axes are dynamic."""
    import torch

    class _Answers(torch.nn.Module):
        """The classifier with a tuple for an answer, without what it does not have."""

        def __init__(self, classifier: HeadCTClassifier) -> None:
            super().__init__()
            self.classifier = classifier

        def forward(self, volume: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(answer for answer in self.classifier(volume) if answer is not None)

    class _AnswersWith(_Answers):
        """The same with what was trained as further inputs."""

        def forward(self, volume: torch.Tensor, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
            state = dict(zip(trained_states(self.classifier).values(), tensors, strict=True))
            answers = torch.func.functional_call(self.classifier, state, (volume,))
            return tuple(answer for answer in answers if answer is not None)

    volume = torch.zeros(2, *model.config.grid.shape)  # a batch of one would be taken for a constant
    batch = {0: torch.export.Dim("batch", min=1)}
    if adapters == CONSTANTS:
        yield _Answers(model), (volume,), {"volume": batch}
        return
    from molre_edge.model.trained import adapter_form, trained_specs, trained_states

    specs = trained_specs(model)
    tensors = tuple(torch.zeros(spec.sides) for spec in specs)
    with adapter_form(model):
        yield _AnswersWith(model), (volume, tensors), {"volume": batch, "tensors": tuple({} for _ in specs)}


def input_names(model: HeadCTClassifier, adapters: str) -> list[str]:
    """``volume`` and, where they are inputs, the trained tensors."""
    if adapters == CONSTANTS:
        return ["volume"]
    from molre_edge.model.trained import trained_specs

    return ["volume", *(spec.name for spec in trained_specs(model))]


def output_names(model: HeadCTClassifier) -> list[str]:
    """logits, gates (absent for K = 0), embedding, attention (absent for 3D backbones)."""
    gates, attention = model.config.adapter.experts > 0, not model.volumetric
    return ["logits", *(["gates"] if gates else []), "embedding", *(["attention"] if attention else [])]


def check_graph(graph: onnx.ModelProto, model: HeadCTClassifier, adapters: str = CONSTANTS) -> None:
    """Check what every target relies on.

    The ONNX checker with shape inference, opset and IR version, no control flow, no foreign operators, normalisation
    layers kept whole, only the batch dynamic, the trained tensors as inputs if `adapters` says so.

    Raises:
        ExportError: names the check that failed.
    """
    import onnx
    import torch

    try:
        onnx.checker.check_model(graph, full_check=True)
    except Exception as error:
        raise ExportError(f"the ONNX checker refuses the graph: {_first_line(error)}") from error
    facts = graph_facts(graph, "")
    if facts.opset != OPSET or facts.ir_version > MAX_IR_VERSION:
        raise ExportError(
            f"the graph has opset {facts.opset} and IR version {facts.ir_version}; expected opset {OPSET} and IR "
            f"version {MAX_IR_VERSION} at most, for TensorRT 10.3 and ONNX Runtime 1.23"
        )
    counts = Counter(node.op_type for node in graph.graph.node)
    foreign = sorted({node.op_type for node in graph.graph.node if node.domain not in ("", "ai.onnx")})
    if flow := sorted(_CONTROL_FLOW & set(counts)):
        raise ExportError(f"the graph has control flow ({', '.join(flow)}); TensorRT would split it or fall back")
    if foreign:
        raise ExportError(f"the graph has operators outside the ONNX standard: {', '.join(foreign)}")
    nodes = Counter(node.name for node in graph.graph.node)
    if twice := [name for name, count in nodes.items() if count > 1 or not name]:
        raise ExportError(f"the graph has several nodes named {twice[0]!r}: precision is set node by node, by name")
    norms = sum(isinstance(module, torch.nn.LayerNorm) for module in model.modules())
    if counts["LayerNormalization"] != norms:
        raise ExportError(
            f"the graph has {counts['LayerNormalization']} LayerNormalization nodes, the model {norms} layers: "
            f"decomposed norms overflow in float16"
        )
    for spec in (*facts.inputs[:1], *facts.outputs):
        if spec.shape[0] is not None or None in spec.shape[1:]:
            raise ExportError(f"{spec}: expected the batch, and nothing else, to be dynamic")
    expected = [*input_names(model, adapters), *output_names(model)]
    if (names := [spec.name for spec in (*facts.inputs, *facts.outputs)]) != expected:
        raise ExportError(f"the graph has {names}, expected {expected}")
    if adapters == INPUTS:
        _check_adapter_inputs(facts, model)


def _check_adapter_inputs(facts: GraphFacts, model: HeadCTClassifier) -> None:
    """Each trained tensor is an input of the model's shape, and each is read."""
    from molre_edge.model.trained import trained_specs

    for given, wanted in zip(facts.adapter_inputs, trained_specs(model), strict=True):
        if given != wanted:
            raise ExportError(f"the graph's input {given}: expected {wanted}")


def graph_facts(graph: onnx.ModelProto, file: str) -> GraphFacts:
    """The facts of a graph for the manifest."""
    opset = next(entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx"))
    return GraphFacts(
        file=file,
        inputs=tuple(_spec(value) for value in graph.graph.input),
        outputs=tuple(_spec(value) for value in graph.graph.output),
        opset=int(opset),
        ir_version=int(graph.ir_version),
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    import onnx

    kind = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    return TensorSpec(value.name, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name, shape)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress notes off the user's screen; its errors are raised all the same."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    """An error's first line; the exporter's own runs over pages."""
    cause: Any = error.__cause__ or error
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0] if lines else 'no message'}"
