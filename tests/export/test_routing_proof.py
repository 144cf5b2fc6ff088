"""Numbers show that two scans get two mixtures, that these are PyTorch's, and that they act as in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.engines.torch_runner import TorchRunner
from molre_edge.errors import ExportError
from molre_edge.export.routing_proof import RoutingProof, even_gates, prove_routing, with_even_gates
from molre_edge.export.routing_trace import router_softmaxes, trace_routers
from molre_edge.model.checkpoint import LoadedCheckpoint
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.parity import Outputs
from molre_edge.specs import Precision

Volumes = npt.NDArray[np.float16]


def run_graph(graph: onnx.ModelProto, volumes: Volumes) -> Outputs:
    with OnnxRuntimeRunner(graph.SerializeToString(), Precision.FP32, cpu_only=True) as runner:
        return runner.run(volumes).outputs


def run_torch(model: HeadCTClassifier, volumes: Volumes) -> Outputs:
    with TorchRunner(model, device="cpu") as runner:
        return runner.run(volumes).outputs


@pytest.fixture
def evidence(graph: onnx.ModelProto, checkpoint: LoadedCheckpoint, volumes: Volumes) -> dict[str, Any]:
    """What a right graph brings to its proof."""
    with even_gates(checkpoint.model):
        even_reference = run_torch(checkpoint.model, volumes[:2])
    return {
        "traces": trace_routers(graph, routers=4, layers=4, experts=3, rank=4),
        "reference": run_torch(checkpoint.model, volumes),
        "answers": run_graph(graph, volumes),
        "even_reference": even_reference,
        "even_answers": run_graph(with_even_gates(graph), volumes[:2]),
        "tolerance": 1e-3,
    }


def prove(evidence: dict[str, Any]) -> RoutingProof:
    return prove_routing(**evidence)


def spoil_scores(graph: onnx.ModelProto, router: int, op: str, value: npt.NDArray[np.float32]) -> None:
    """Put an operator with a constant between a router's scores and its softmax."""
    softmax = router_softmaxes(graph)[router]
    place = [node.name for node in graph.graph.node].index(softmax.name)
    graph.graph.initializer.append(numpy_helper.from_array(value, "spoilt_by"))
    graph.graph.node.insert(place, helper.make_node(op, [softmax.input[0], "spoilt_by"], ["spoilt"], name="spoilt"))
    graph.graph.node[place + 1].input[0] = "spoilt"


def test_a_right_graph_is_proved(evidence: dict[str, Any]) -> None:
    proof = prove(evidence)
    assert len(proof.routers) == proof.adapted_layers == 4
    assert proof.gate_difference > 0.1
    assert proof.gate_error < 1e-5
    assert proof.logit_effect == pytest.approx(proof.logit_effect_reference, rel=1e-3)
    assert proof.logit_effect > 0.1
    assert proof.unmoved == ()


def test_a_router_that_ignores_the_scan_is_refused_though_the_graph_looks_right(
    graph: onnx.ModelProto, evidence: dict[str, Any], volumes: Volumes
) -> None:
    spoil_scores(graph, 1, "Mul", np.zeros(1, np.float32))
    assert len(trace_routers(graph, routers=4, layers=4, experts=3, rank=4)) == 4
    evidence["answers"] = run_graph(graph, volumes)
    with pytest.raises(ExportError, match=r"are not PyTorch's: L1 distance .*, at most 1e-03 allowed"):
        prove(evidence)
    evidence["tolerance"] = 2.0
    with pytest.raises(ExportError, match=r"not dynamic in the graph: .* gates of router \d .* see the scan\?"):
        prove(evidence)


def test_a_router_that_answers_the_mean_is_refused_at_any_tolerance(evidence: dict[str, Any]) -> None:
    """The constant that is nearest to what PyTorch answers; experts that hardly differ would not show it in logits."""
    gates = evidence["answers"].gates.copy()
    gates[:, :, 2] = (gates[:, :, 2].max(0) + gates[:, :, 2].min(0)) / 2
    evidence.update(answers=replace(evidence["answers"], gates=gates), tolerance=2.0)
    with pytest.raises(ExportError, match="gates of router 2 differ by"):
        prove(evidence)


def test_gates_that_are_no_numbers_are_refused(evidence: dict[str, Any]) -> None:
    gates = np.full_like(evidence["answers"].gates, np.nan)
    evidence["answers"] = replace(evidence["answers"], gates=gates)
    with pytest.raises(ExportError, match="the graph's gates are not PyTorch's"):
        prove(evidence)


def test_logits_that_do_not_follow_the_gates_are_refused(evidence: dict[str, Any]) -> None:
    evidence["even_answers"] = replace(evidence["even_answers"], logits=evidence["answers"].logits[:2])
    with pytest.raises(
        ExportError, match=r"do not act as PyTorch's: made even, they change logits by 0\.0e\+00 in the"
    ):
        prove(evidence)


def test_volumes_that_are_all_the_same_prove_nothing(evidence: dict[str, Any]) -> None:
    for name in ("reference", "answers"):
        outputs = evidence[name]
        evidence[name] = replace(outputs, gates=np.repeat(outputs.gates[:1], len(outputs), axis=0))
    with pytest.raises(ExportError, match=r"can't be proved dynamic: PyTorch's own gates differ by no more than 0\.0"):
        prove(evidence)


def test_a_router_that_pytorch_itself_does_not_move_is_named_in_the_proof(evidence: dict[str, Any]) -> None:
    for name in ("reference", "answers"):
        gates = evidence[name].gates.copy()
        gates[:, :, 3] = (1.0, 0.0, 0.0)
        evidence[name] = replace(evidence[name], gates=gates)
    assert prove(evidence).unmoved == (3,)


def test_with_even_gates_changes_the_routers_and_nothing_else(graph: onnx.ModelProto, volumes: Volumes) -> None:
    before = graph.SerializeToString()
    even = with_even_gates(graph)
    onnx.checker.check_model(even, full_check=True)
    assert graph.SerializeToString() == before
    gates = run_graph(even, volumes).gates
    assert gates is not None
    np.testing.assert_allclose(gates, 1 / 3, atol=1e-7)
    assert len(even.graph.node) == len(graph.graph.node) + 4


@pytest.mark.parametrize("name", ["volume", "token", "one router for all", "convolution"])
def test_even_gates_are_the_same_in_pytorch_and_in_the_graph_for_every_routing(
    name: str, export_model: Callable[[str], tuple[HeadCTClassifier, onnx.ModelProto]], volumes: Volumes
) -> None:
    model, graph = export_model(name)
    plain = run_torch(model, volumes)
    with even_gates(model):
        expected = run_torch(model, volumes)
    answers = run_graph(with_even_gates(graph), volumes)
    assert expected.gates is not None and np.ptp(expected.gates) < 1e-7
    np.testing.assert_allclose(answers.logits, expected.logits, atol=2e-5)
    assert np.abs(expected.logits - plain.logits).max() > 1e-2
    assert np.array_equal(run_torch(model, volumes).logits, plain.logits)  # the routers are themselves again
