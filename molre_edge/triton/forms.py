"""The three forms in which Triton can serve a bundle, each as its configuration and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping

from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import list_engines, read_engine
from molre_edge.engines.tensorrt.api import Target
from molre_edge.engines.tensorrt.fit import BuiltFor
from molre_edge.errors import BundleError
from molre_edge.specs import VOLUME, Precision, TensorSpec
from molre_edge.triton.config import BYTES, ServedModel, served_tensor

__all__ = ["ADAPTER", "BUNDLE", "MODEL_SCRIPT", "VERSION", "onnx_model", "plan_model", "python_model"]

VERSION = "1"
"""The folder of a model's only version."""
BUNDLE = "bundle"
"""The folder of the bundle within a version of the Python form."""
ADAPTER = "adapter"
"""The parameter of a request that names an adapter."""

MODEL_SCRIPT = '''\
"""Triton's Python backend loads this file: molre-edge answers, with the bundle beside it."""

from molre_edge.triton.backend import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def python_model(
    bundle: Bundle,
    name: str,
    engine: str,
    precision: Precision,
    max_batch: int,
    max_delay_us: int,
    threads: int | None,
) -> ServedModel:
    """The configuration of the form that molre-edge answers itself.

    Its outputs are those of the graph in float32, and what makes them readable: ``probabilities``, ``thresholds`` and
    ``findings`` [findings], and ``provenance``, one JSON text a volume.
    """
    facts = bundle.graph(precision)
    outputs = [_own(bundle, spec) for spec in facts.outputs]
    findings = (None if bundle.fit is not None else len(bundle.findings),)
    outputs += [TensorSpec(each, "float64", findings) for each in ("probabilities", "thresholds")]
    outputs += [TensorSpec("findings", BYTES, findings), TensorSpec("provenance", BYTES, (1,))]
    parameters = {"engine": engine, **_names(bundle, precision)}
    if threads is not None:
        parameters["threads"] = str(threads)
    return ServedModel(
        name, "python", max_batch, max_delay_us, [served_tensor(facts.inputs[0])], outputs, True, parameters
    )


def onnx_model(
    bundle: Bundle, name: str, precision: Precision, max_batch: int, max_delay_us: int
) -> tuple[ServedModel, bytes]:
    """The configuration of the graph for Triton's ONNX Runtime, and the graph.

    Raises:
        BundleError: the graph takes what was trained as inputs, or is altered.
    """
    _refuse_adapters(bundle, "onnx")
    facts = bundle.graph(precision)
    return _graph_model(bundle, name, "onnxruntime", precision, max_batch, max_delay_us, {}), bundle.read(facts.file)


def plan_model(
    bundle: Bundle, name: str, precision: Precision, max_batch: int, max_delay_us: int
) -> tuple[ServedModel, bytes]:
    """The configuration of an engine for Triton's TensorRT, and the engine.

    Raises:
        BundleError: the bundle has no engine of full TensorRT for the precision, or one that takes no single volume;
            or the graph takes what was trained as inputs.
        SigningError: the release must be signed, and this machine did not build the engine from it.
    """
    _refuse_adapters(bundle, "plan")
    built = [each for each in list_engines(bundle) if each.graph == bundle.graph(precision).file]
    fitting = [each for each in built if BuiltFor.of(each).target is Target.HERE]
    if not fitting:
        other = " (those of --target rtx are for TensorRT-RTX, which Triton does not have)" if built else ""
        raise BundleError(
            f"{bundle.folder}: has no {precision} engine of TensorRT{other}. Expected one: build it on a machine with "
            f"the server's GPU and TensorRT: 'molre-edge build --engine {precision} --target here'"
        )
    engine = fitting[0]
    try:
        profile = engine.facts["profile"][VOLUME]
        smallest, largest = int(profile["min"][0]), int(profile["max"][0])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BundleError(
            f"{engine.path.with_suffix('.json')}: names no batch sizes. Build the engine again"
        ) from error
    if smallest != 1:
        raise BundleError(
            f"{engine.path}: was built for {smallest} volumes or more a call, and Triton also sends one. Build it "
            f"again with --batch 1 1 {largest}"
        )
    content = read_engine(bundle, engine)
    facts = {"engine_sha256": engine.sha256, "tensorrt": BuiltFor.of(engine).version}
    return _graph_model(bundle, name, "tensorrt", precision, min(max_batch, largest), max_delay_us, facts), content


def _graph_model(
    bundle: Bundle,
    name: str,
    backend: str,
    precision: Precision,
    max_batch: int,
    max_delay_us: int,
    parameters: Mapping[str, str],
) -> ServedModel:
    """A model whose tensors are those of the graph; who reads its numbers finds their names among the parameters."""
    facts = bundle.graph(precision)
    words = {
        **parameters,
        **_names(bundle, precision),
        "findings": json.dumps(list(bundle.findings)),
        "thresholds": json.dumps([float(each) for each in bundle.thresholds]),
    }
    outputs = [served_tensor(spec) for spec in facts.outputs]
    return ServedModel(name, backend, max_batch, max_delay_us, [served_tensor(facts.inputs[0])], outputs, False, words)


def _names(bundle: Bundle, precision: Precision) -> dict[str, str]:
    return {"bundle": bundle.digest, "graph_sha256": bundle.manifest["files"][bundle.graph(precision).file]}


def _own(bundle: Bundle, spec: TensorSpec) -> TensorSpec:
    """An output of the Python form: float32, and any number of findings and experts where adapters differ."""
    shape = spec.shape[1:]
    if bundle.fit is not None and spec.name == "logits":
        shape = (None,)
    if bundle.fit is not None and spec.name == "gates":
        shape = (None, shape[1], None)
    return TensorSpec(spec.name, "float32", shape)


def _refuse_adapters(bundle: Bundle, form: str) -> None:
    if bundle.fit is not None:
        raise BundleError(
            f"{bundle.folder}: its graphs take adapters as inputs, which the form {form} can't give them: Triton "
            f"expects a batch of every input. Use the form python, or export the checkpoint again with --adapters "
            f"constants"
        )
