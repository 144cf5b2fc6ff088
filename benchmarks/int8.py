"""What default INT8 does to a model, and what calibrate makes of it: parity, layers, size and time side by side.

    python benchmarks/int8.py demo FOLDER           # the trained demo, from 'molre-edge demo FOLDER'
    python benchmarks/int8.py dinov3-vits16         # full size, random weights with outliers planted in them
    python benchmarks/int8.py dinov3-vitb16 --precision fp8       # calibrate alone; no naive recipe makes FP8

The naive recipe is ONNX Runtime's quantize_static with its own choice of operators (everything it can), largest values
as ranges, symmetric, weights per channel. Both are judged node by node: on golden volumes, on scans that gave no
ranges, and on all scans. Time is that of ONNX Runtime as users run it, each graph in turn with the float16 graph.
Figures go to stdout and, with --json, to a file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import platform
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration.evidence import answers
from molre_edge.calibration.run import calibrate
from molre_edge.calibration.samples import Sample, Split, VolumeReader, content_of, describe_scans, split_scans
from molre_edge.calibration.scan_labels import labels_of
from molre_edge.calibration.settings import CalibrationSettings
from molre_edge.calibration.speed import compare_speed
from molre_edge.demo import draw_model
from molre_edge.errors import EngineError, ParityFailedError
from molre_edge.export.exporter import export_checkpoint
from molre_edge.export.golden import synthetic_volumes
from molre_edge.files import write_json
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.checkpoint import save_checkpoint
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.defaults import default_config
from molre_edge.parity import DEFAULT_LIMITS, Outputs, compare, judge
from molre_edge.progress import Silent
from molre_edge.scans import find_scans
from molre_edge.specs import QUANTISED, Precision
from molre_edge.synthetic import make_head, write_nifti

SLICES = 4
HEADS = ((), ("intraparenchymal_hemorrhage",), ("hydrocephalus",), ("acute_subdural_hematoma",), ("cerebral_atrophy",))


def plant_outliers(model: HeadCTClassifier) -> None:
    """Give some activations of a ViT channels far larger than the rest, as trained ones have them; answers stay.

    A norm's gain for a channel is multiplied and the weights that read it are divided; likewise a value's channel and
    the column of the output projection, in blocks without an adapter there.
    """
    import torch

    layers: Any = model.backbone.get_submodule("layer")
    with torch.no_grad():
        for place, channel, factor in ((2, 5, 60.0), (5, 77, 200.0), (9, 300, 100.0)):
            block = layers[place]
            _move(
                block.norm1, [block.attention.q_proj, block.attention.k_proj, block.attention.v_proj], channel, factor
            )
        for place, channel, factor in ((3, 11, 100.0), (7, 333, 300.0)):
            _move(layers[place].norm2, [layers[place].mlp.up_proj], channel, factor)
        for place, channel, factor in ((1, 40, 80.0), (6, 200, 80.0)):
            value, out = layers[place].attention.v_proj, layers[place].attention.o_proj
            if isinstance(value, torch.nn.Linear) and isinstance(out, torch.nn.Linear):
                value.weight[channel] *= factor
                if value.bias is not None:
                    value.bias[channel] *= factor
                out.weight[:, channel] /= factor


def _move(norm: Any, readers: Sequence[Any], channel: int, factor: float) -> None:
    import torch

    if not all(isinstance(reader, torch.nn.Linear) for reader in readers):
        return  # an adapted one reads the value with more than its weight
    norm.weight[channel] *= factor
    norm.bias[channel] *= factor
    for reader in readers:
        reader.weight[:, channel] /= factor


def make_full_size(backbone: str, folder: Path) -> tuple[Bundle, Path]:
    """A bundle of a full-size model with planted outliers, and synthetic heads."""
    if (folder / "edge-bundle").is_dir():
        return Bundle.open(folder / "edge-bundle"), folder / "scans"
    grid = replace(backbone_entry(backbone).grid, slices=SLICES)
    model = draw_model(default_config(backbone, grid=grid), synthetic_volumes(grid, 3))
    plant_outliers(model)
    # a median of few volumes lies on one of them, and would flip with the last bit
    model.config = replace(model.config, thresholds=(0.5,) * len(model.config.findings))
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(model, folder / "ckpt.pt")
    for number, findings in enumerate(HEADS):
        write_nifti(make_head(500 + number, findings), folder / "scans" / f"head-{number}.nii.gz")
    export_checkpoint(folder / "ckpt.pt", folder / "edge-bundle", golden_volumes=2, adapters="constants")
    return Bundle.open(folder / "edge-bundle"), folder / "scans"


def naive(bundle: Bundle, samples: Sequence[Sample], folder: Path) -> tuple[bytes, int]:
    """The graph of the naive recipe, and how many products have both inputs in INT8."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    class _Reader:
        def __init__(self) -> None:
            self._feeds: Iterator[dict[str, npt.NDArray[np.float32]]] = (
                {"volume": volume.astype(np.float32)} for volume in VolumeReader(bundle.grid).read(samples)
            )

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            return next(self._feeds, None)

    import onnx

    source, target = folder / "fp32.onnx", folder / "naive.onnx"
    source.write_bytes(bundle.read(bundle.graph(Precision.FP32).file))
    logging.getLogger().setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        quantize_static(
            source,
            target,
            _Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
        )
    graph = onnx.load(target)
    made = {name for node in graph.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    products = [node for node in graph.graph.node if node.op_type in ("MatMul", "Gemm", "Conv")]
    return target.read_bytes(), sum(set(node.input[:2]) <= made for node in products)


class Row:
    """Judges graphs of a bundle: on the golden volumes, on the scans kept for judging, and on all scans together."""

    def __init__(self, bundle: Bundle, split: Split) -> None:
        self._bundle, self._reader = bundle, VolumeReader(bundle.grid)
        self._scans = (*split.validation, *split.calibration, *split.unused)
        self._judging = range(len(split.validation))
        fp32 = bundle.read(bundle.graph(Precision.FP32).file)
        self._reference = answers(fp32, self._reader.read(self._scans), precision=Precision.FP32, optimise=True)
        unknown = np.full(len(bundle.findings), np.nan)
        rows = [unknown if sample.labels is None else sample.labels for sample in self._scans]
        self._labels = None if all(row is unknown for row in rows) else np.stack(rows)
        self.one = next(self._reader.read(self._scans))

    def of(self, raw: bytes, precision: Precision) -> dict[str, Any]:
        """The figures of an 8-bit graph."""
        golden, labels = self._bundle.golden(), self._labels
        made = answers(raw, (golden.volumes[i : i + 1] for i in range(len(golden.volumes))), precision=precision)
        sets: dict[str, tuple[Outputs, Outputs, npt.NDArray[np.float64] | None]] = {
            "golden": (golden.outputs, made, None)
        }
        made = answers(raw, self._reader.read(self._scans), precision=precision)
        some = self._judging
        sets["scans"] = (self._reference.take(some), made.take(some), None if labels is None else labels[: len(some)])
        sets["all_scans"] = (self._reference, made, labels)
        return {
            "megabytes": round(len(raw) / 1e6, 1),
            **{name: self._judged(precision, *each) for name, each in sets.items()},
        }

    def _judged(
        self, precision: Precision, truth: Outputs, made: Outputs, labels: npt.NDArray[np.float64] | None
    ) -> dict[str, Any]:
        bundle = self._bundle
        numbers = compare(truth, made, findings=bundle.findings, thresholds=bundle.thresholds, labels=labels)
        verdict = judge(numbers, DEFAULT_LIMITS[precision])
        told = {
            "volumes": numbers.n,
            "passed": verdict.passed,
            "checks": {check.name: check.measured for check in verdict.checks},
        }
        if numbers.labelled:
            told["auc"] = {
                "reference": numbers.mean_auc_reference,
                "engine": numbers.mean_auc_engine,
                "findings": {each.finding: each.auc.to_dict() for each in numbers.per_finding if each.auc is not None},
            }
        return told


class _Progress(Silent):
    def step(self, name: str) -> None:
        print(f"- {name}", flush=True)

    def info(self, text: str) -> None:
        print(text, flush=True)

    def warn(self, text: str) -> None:
        print(f"warning: {text}", flush=True)


def measure(bundle: Bundle, scans: Path, labels: Path | None, settings: CalibrationSettings) -> dict[str, Any]:
    """Both recipes on one bundle."""
    found = find_scans(scans)
    known = labels_of(labels, bundle, found, scans, print)
    contents = sorted(((content_of(source), source) for source in found.scans), key=lambda pair: pair[0])
    samples, _ = describe_scans([s for _, s in contents], [c for c, _ in contents], bundle.grid, labels=known)
    split = split_scans(samples, settings, bundle.grid.slices)
    fp16 = bundle.read(bundle.graph(Precision.FP16).file)
    row = Row(bundle, split)
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {platform.system()}",
        "grid": list(bundle.grid.shape),
        "calibration_scans": len(split.calibration),
        "validation_scans": len(split.validation),
        "fp16_megabytes": round(len(fp16) / 1e6, 1),
    }
    precision = settings.precision
    if precision is Precision.INT8:
        print("- naive", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            raw, products = naive(bundle, split.calibration, Path(folder))
        figures["naive"] = {"products": products, **row.of(raw, precision), "speed": _timed(fp16, raw, row.one)}
    print("- ours", flush=True)
    try:
        limits = DEFAULT_LIMITS[precision]
        result = calibrate(bundle, found, settings, limits, labels=known, progress=_Progress())
    except ParityFailedError as error:
        return {**figures, "ours": str(error)}
    opened = Bundle.open(bundle.folder)
    raw = opened.read(opened.graph(precision).file)
    report = result.report
    figures["ours"] = {
        **{name: report[name] for name in ("summary", "methods", "blocks", "ranking", "speed", "recommendation")},
        **row.of(raw, precision),
        "trials": len(report["trials"]),
        "judged": [(part["what"], part["verdict"]["summary"]) for part in report["comparisons"]],
    }
    return figures


def _timed(fp16: bytes, raw: bytes, volume: npt.NDArray[np.float16]) -> dict[str, Any] | str:
    """Time beside float16, or why ONNX Runtime does not take the graph."""
    try:
        return asdict(compare_speed(fp16, raw, Precision.INT8, volume))
    except EngineError as error:
        return str(error)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="'demo', or a 2D backbone's id")
    parser.add_argument(
        "folder", nargs="?", type=Path, help="of the demo; else where the model is made, and found again"
    )
    parser.add_argument("--validation-scans", type=int)
    parser.add_argument("--precision", choices=[str(each) for each in QUANTISED], default="int8")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    settings = CalibrationSettings(precision=Precision(options.precision), validation_scans=options.validation_scans)
    if options.model == "demo":
        data = options.folder / "data"
        with tempfile.TemporaryDirectory() as folder:  # the naive recipe feeds the volume alone
            bundle = Path(folder) / "edge-bundle"
            export_checkpoint(options.folder / "ckpt.pt", bundle, adapters="constants")
            figures = measure(Bundle.open(bundle), data / "test", data / "manifest.csv", settings)
    else:
        with tempfile.TemporaryDirectory() as folder:
            bundle, scans = make_full_size(options.model, options.folder or Path(folder))
            figures = measure(bundle, scans, None, replace(settings, validation_scans=settings.validation_scans or 1))
    print(json.dumps(figures, indent=2))
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
