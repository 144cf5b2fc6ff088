"""What it costs that trained tensors are a graph's inputs, not its constants, and how fast they are exchanged.

    python benchmarks/adapter_inputs.py --backbone dinov3-vitb16 --slices 4 --rounds 15

One model with random weights and the backbone's default placement (K = 6, r = 8), exported both ways; one volume a
call on ONNX Runtime's CPU. Both graphs run in every round, in alternating order, so that a busy machine slows both; the
ratio is each round's time with inputs over its time with constants. A time is the network alone. CPU time is the
process's: with --threads 1 no thread spins while it waits for another, so it is the work alone, and other programs
disturb it least. With --rtx, both float16 graphs are built with TensorRT-RTX, for one GPU, and their layers compared.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import torch

from molre_edge.adapters.tensors import Tensors
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.errors import MolreEdgeError
from molre_edge.export.golden import synthetic_volumes
from molre_edge.export.graph import CONSTANTS, INPUTS, export_fp32, graph_facts
from molre_edge.export.half import to_half
from molre_edge.files import write_json
from molre_edge.model.adapters import AdaptedLayer
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.defaults import default_config
from molre_edge.model.trained import trained_tensors
from molre_edge.specs import Grid, Precision

_ARMS = (CONSTANTS, INPUTS)


def draw(backbone: str, grid: Grid | None) -> HeadCTClassifier:
    """A model whose experts take part."""
    torch.manual_seed(0)
    config = default_config(backbone, adapter="molre")
    model = HeadCTClassifier(config if grid is None else replace(config, grid=grid)).eval()
    for module in model.modules():
        if isinstance(module, AdaptedLayer):
            torch.nn.init.normal_(module.lora_B, std=0.02)
    return model


def compare_times(
    graphs: Mapping[str, bytes],
    precision: Precision,
    tensors: Tensors,
    volume: np.ndarray,
    rounds: int,
    threads: int | None,
) -> dict[str, Any]:
    """Milliseconds of both arms, the ratio, how far their answers are apart, and the time of an exchange."""
    times: dict[str, list[float]] = {name: [] for name in _ARMS}
    cpu_times: dict[str, list[float]] = {name: [] for name in _ARMS}
    with ExitStack() as stack:
        runners = {
            name: stack.enter_context(
                OnnxRuntimeRunner(
                    graphs[name], precision, cpu_only=True, threads=threads, adapter=tensors if name == INPUTS else None
                )
            )
            for name in _ARMS
        }
        answers = {name: runner.run(volume).outputs for name, runner in runners.items()}
        for round_ in range(rounds + 1):  # the first is a warm-up
            for name in _ARMS if round_ % 2 else reversed(_ARMS):
                begun = time.process_time()
                times[name].append(runners[name].run(volume).milliseconds["compute"])
                cpu_times[name].append(time.process_time() - begun)
        start = time.perf_counter()
        for _ in range(10):
            runners[INPUTS].use_adapter(tensors)
        exchange = (time.perf_counter() - start) / 10
    measured = {name: np.array(values[1:]) for name, values in times.items()}
    return {
        "precision": str(precision),
        **{f"{name}_ms": round(float(np.median(values)), 1) for name, values in measured.items()},
        **_ratio("ratio", times),
        **_ratio("cpu_ratio", cpu_times),
        "rounds": rounds,
        "max_abs_dlogit": float(np.abs(answers[INPUTS].logits - answers[CONSTANTS].logits).max()),
        "exchange_ms": round(1e3 * exchange, 2),
    }


def _ratio(name: str, times: Mapping[str, list[float]]) -> dict[str, Any]:
    """Median and quartiles of the rounds' ratios, the warm-up left out."""
    ratios = np.array(times[INPUTS][1:]) / np.array(times[CONSTANTS][1:])
    low, middle, high = (round(float(value), 4) for value in np.percentile(ratios, [25, 50, 75]))
    return {name: middle, f"{name}_quartiles": [low, high]}


def compare_layers(graphs: Mapping[str, bytes], backbone: str) -> dict[str, Any]:
    """Layers of both float16 engines, as TensorRT-RTX builds them for sm86."""
    from molre_edge.engines.tensorrt.api import BuildOptions
    from molre_edge.engines.tensorrt.build import build_tensorrt

    found: dict[str, Any] = {}
    for name, raw in graphs.items():
        facts = graph_facts(onnx.load_from_string(raw), "graphs/fp16.onnx")
        with tempfile.TemporaryDirectory() as folder:
            bundle: Any = SimpleNamespace(
                folder=Path(folder),
                manifest={"config": {"backbone": {"id": backbone}}},
                graph=lambda precision, facts=facts: facts,
                read=lambda file, raw=raw: raw,
            )
            try:
                built = build_tensorrt(bundle, Precision.FP16, BuildOptions(compute_capabilities=("sm86",))).facts
                found[name] = {**built["layers"], "build_seconds": built["build_seconds"]}
            except MolreEdgeError as error:
                found[name] = {"error": str(error)}
    return found


def main() -> None:
    """Run it."""
    import onnxruntime

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="dinov3-vitb16")
    parser.add_argument("--slices", type=int, help="the backbone's own grid by default, with these slices")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, help="of ONNX Runtime; all cores by default")
    parser.add_argument("--rtx", action="store_true", help="build both float16 engines too")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    model = draw(options.backbone, None)
    if options.slices is not None:
        model = draw(options.backbone, replace(model.config.grid, slices=options.slices))
    tensors, volume = trained_tensors(model), synthetic_volumes(model.config.grid, 2)[1:]
    single = {name: export_fp32(model, name) for name in _ARMS}
    rows = [compare_times(_raw(single), Precision.FP32, tensors, volume, options.rounds, options.threads)]
    half = _raw({name: to_half(graph) for name, graph in single.items()})
    single.clear()
    gc.collect()
    rows.append(compare_times(half, Precision.FP16, tensors, volume, options.rounds, options.threads))
    figures = {
        "backbone": options.backbone,
        "volume": " x ".join(map(str, (1, *model.config.grid.shape))),
        "adapted_layers": sum(isinstance(module, AdaptedLayer) for module in model.modules()),
        "trained_tensors": len(tensors),
        "trained_values": sum(value.size for value in tensors.values()),
        "graph_megabytes": {name: round(len(raw) / 1e6, 2) for name, raw in half.items()},
        "threads": options.threads or torch.get_num_threads(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "rows": rows,
        **({"rtx_fp16": compare_layers(half, options.backbone)} if options.rtx else {}),
    }
    print(json.dumps(figures, indent=2))
    if options.json:
        write_json(options.json, figures)


def _raw(graphs: Mapping[str, onnx.ModelProto]) -> dict[str, bytes]:
    return {name: graph.SerializeToString() for name, graph in graphs.items()}


if __name__ == "__main__":
    main()
