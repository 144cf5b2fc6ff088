"""What reads files from others, and how good ones are damaged: for benchmarks/fuzz.py and tests/security.

A target is a reader with a good file for it. It gets a path to a damaged copy; what it raises beside
:class:`MolreEdgeError` is a bug.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from molre_edge.adapters.file import read_adapter, write_adapter
from molre_edge.adapters.store import INDEX, AdapterStore
from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import list_engines, read_engine
from molre_edge.bundle.golden import read_golden
from molre_edge.errors import BundleError, ScanError
from molre_edge.export.adapter_content import adapter_of, fit_of
from molre_edge.model.checkpoint import load_checkpoint
from molre_edge.parity import DEFAULT_LIMITS, Outputs, compare, judge, load_limits
from molre_edge.reports.parity_report import BundleFacts, EngineFacts, ReferenceFacts, Report, TimingRow
from molre_edge.runs.answers import Record, read_record, write_record
from molre_edge.runs.finished import open_run
from molre_edge.runs.labels import read_labels
from molre_edge.runs.scan_table import Entry, read_entries, write_entries
from molre_edge.runs.store import FORMAT, FORMAT_VERSION, read_head
from molre_edge.scans import find_scans
from molre_edge.scans.workers.prepare import READER_FAILED, prepare
from molre_edge.specs import Grid, Precision

__all__ = ["Target", "damage", "make_targets", "steps_of"]

_SCAN = "scan-aaaaaaaaaaaaaaaa"
_GRID = Grid(slices=4, rows=32, cols=32)
EDGES = (b"\x00", b"\xff", b"\x7f", b"\x80")


@dataclass(frozen=True)
class Target:
    """A reader and a good file for it.

    Attributes:
        content: of the good file.
        name: of the file, since readers look at suffixes.
        read: reads a file.
        head: so many first bytes are damaged most: headers decide more than pixels.
    """

    content: bytes
    name: str
    read: Callable[[Path], object]
    head: int | None = None


def make_targets(scans: Path, checkpoint: Path, bundle: Path, work: Path) -> dict[str, Target]:
    """All readers, with good files out of a tiny chain; `work` is an empty folder for what is made of them."""
    from safetensors.torch import load_file  # noqa: F401  (safetensors is needed below)

    from molre_edge.model.checkpoint import save_checkpoint

    slices = sorted((scans / "head-1").iterdir())
    nifti = sorted(scans.glob("*.nii.gz"))[0]
    safe = work / "ckpt.safetensors"
    loaded = load_checkpoint(checkpoint)
    save_checkpoint(loaded.model, safe)
    opened = Bundle.open(bundle)
    adapter = work / "hospital.adapter"
    write_adapter(adapter_of(loaded, "hospital", opened.golden(), fit_of(loaded)), adapter)
    store = AdapterStore(work / "with adapters")
    store.put(read_adapter(adapter), adapter.read_bytes())
    golden_shapes = {"volumes": (None, *opened.grid.shape)}
    golden_shapes |= {spec.name: spec.shape for spec in next(iter(opened.graphs.values())).outputs}
    logits, gates = np.zeros((1, len(opened.findings)), np.float32), np.full((1, 1, 2, 3), 1 / 3, np.float32)
    outputs = Outputs(logits, np.zeros((1, 8), np.float32), gates)
    write_record(work / f"{_SCAN}.npz", Record(_SCAN, outputs, None, {"read": 1.0}, facts={"kind": "dicom"}))
    write_entries(
        work / "scans.csv",
        [Entry(_SCAN, "a", "a/1", "f", "done"), Entry("scan-bbbbbbbbbbbbbbbb", "b", "b", "", "ignored")],
    )
    (work / "labels.csv").write_text("scan," + ",".join(opened.findings[:3]) + "\nhead-1,1,0,\n")
    (work / "gates.toml").write_text("[fp16]\nmax_abs_dp = 0.1\nmax_abs_dlogit = 0.4\nflip_margin_logit = 0.4\n")
    head = {"format": FORMAT, "version": FORMAT_VERSION, "started": "", "finished": False, "task": {"bundle": "b"}}
    finished = {**head, "finished": True, "task": {"all_series": False}}
    write_record(work / "answers.npz", Record(_SCAN, outputs, outputs, {"read": 1.0}))
    answered, gate = (work / "answers.npz").read_bytes(), DEFAULT_LIMITS[Precision.FP16]
    numbers = compare(outputs, outputs, findings=opened.findings, thresholds=opened.thresholds)
    report = Report(
        title="a run", created="2026-11-02T10:15:04+00:00", findings=opened.findings,
        engine=EngineFacts(name="onnxruntime:fp16", precision="fp16", runtime="ONNX Runtime", device="CPU"),
        reference=ReferenceFacts(kind="pytorch checkpoint"), bundle=BundleFacts(digest=opened.digest, grid=vars(_GRID)),
        thresholds=tuple(opened.thresholds), scans=(_SCAN,), numbers=numbers, limits=gate,
        verdict=judge(numbers, gate), notes=("a note",),
        timing=(TimingRow(who="engine", phase="compute", median_ms=1, p90_ms=1, p95_ms=1, p99_ms=1, n=1),),
    )  # fmt: skip
    graph = opened.graphs[next(iter(opened.graphs))].file
    engine = {
        "format": "molre-edge-engine", "version": 1, "file": "rtx-fp32.engine", "sha256": "0" * 64, "bytes": 4,
        "graph": {"file": graph, "sha256": opened.manifest["files"][graph]},
    }  # fmt: skip

    def dicom(path: Path) -> None:
        """The damaged slice amid its good series, so that it comes to the pixels."""
        folder = path.parent / "series"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for index, file in enumerate(slices[1:], start=1):
            (folder / f"{index}").hardlink_to(file)
        path.rename(folder / "0")
        _read_all(folder)

    def manifest(path: Path) -> None:
        folder = path.parent / "bundle"
        folder.mkdir(exist_ok=True)
        path.rename(folder / "manifest.json")
        broken = Bundle.open(folder)
        for name in broken.manifest["files"]:
            _refused(lambda name=name: broken.read(name))
        _refused(broken.golden)

    def engine_json(path: Path) -> None:
        folder = path.parent / "engines-bundle"
        (folder / "engines").mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes())
        (folder / "engines" / "rtx-fp32.engine").write_bytes(b"none")
        path.rename(folder / "engines" / "rtx-fp32.json")
        there = Bundle.open(folder)
        for found in list_engines(there):
            read_engine(there, found)

    def adapter_index(path: Path) -> None:
        (store.folder / INDEX).write_bytes(path.read_bytes())
        for name in store.index().adapters:
            store.read(name)

    def golden(path: Path) -> None:
        try:
            read_golden(path.read_bytes(), golden_shapes)
        except ValueError as error:  # as Bundle.golden does
            raise BundleError(str(error)) from error

    def report_json(path: Path) -> None:
        folder = path.parent / "run"
        (folder / "outputs").mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps(finished))
        (folder / "outputs" / f"{_SCAN}.npz").write_bytes(answered)
        path.rename(folder / "report.json")
        open_run(folder).report()

    def run_json(path: Path) -> None:
        path.rename(path.parent / "run.json")
        read_head(path.parent)

    return {
        "DICOM": Target(slices[0].read_bytes(), "slice.dcm", dicom, head=1400),
        "NIfTI": Target(nifti.read_bytes(), "head.nii.gz", _read_all),
        "NIfTI, not compressed": Target(_unzipped(nifti), "head.nii", _read_all, head=352),
        "manifest": Target((bundle / "manifest.json").read_bytes(), "manifest", manifest),
        "golden archive": Target((bundle / "golden" / "golden.npz").read_bytes(), "golden.npz", golden),
        "engine JSON": Target(json.dumps(engine).encode(), "engine", engine_json),
        "adapter": Target(adapter.read_bytes(), "hospital.adapter", read_adapter, head=4000),
        "list of adapters": Target((store.folder / INDEX).read_bytes(), "list", adapter_index),
        "run.json": Target(json.dumps(head).encode(), "head", run_json),
        "report.json": Target(json.dumps(report.to_dict()).encode(), "report", report_json),
        "scans.csv": Target((work / "scans.csv").read_bytes(), "scans.csv", read_entries),
        "answers": Target((work / f"{_SCAN}.npz").read_bytes(), f"{_SCAN}.npz", lambda path: read_record(path, _SCAN)),
        "checkpoint, .pt": Target(checkpoint.read_bytes(), "ckpt.pt", load_checkpoint, head=6000),
        "checkpoint, .safetensors": Target(safe.read_bytes(), "ckpt.safetensors", load_checkpoint, head=6000),
        "labels": Target(
            (work / "labels.csv").read_bytes(), "labels.csv", lambda path: read_labels(path, opened.findings)
        ),
        "gates": Target((work / "gates.toml").read_bytes(), "gates.toml", load_limits),
    }


def _read_all(path: Path) -> None:
    """As a run does it: whatever is wrong with one scan is an answer, and a bug of ours is told apart."""
    found = find_scans(path)
    for source in found.scans:
        result = prepare(source, _GRID)
        if isinstance(result, ScanError):
            assert result.code != READER_FAILED, str(result)
            raise result
    for refused in found.rejected:
        raise ScanError(refused.code, refused.reason)


def _refused(call: Callable[[], object]) -> None:
    try:
        call()
    except BundleError:
        return


def _unzipped(path: Path) -> bytes:
    import gzip

    return gzip.decompress(path.read_bytes())


def damage(content: bytes, steps: list[tuple[int, float, bytes]]) -> bytes:
    """Apply steps, each (what, where, bytes): where is a fraction of the length.

    0 overwrites, 1 inserts, 2 cuts the end off, 3 takes a piece out, 4 repeats a piece, 5 puts in a number at the edges
    of what fits into 2 or 4 bytes, 6 flips a bit.
    """
    data = bytearray(content)
    for what, where, piece in steps:
        at = min(int(where * len(data)), max(len(data) - 1, 0))
        kind, size = what % 7, len(piece)
        if not data:
            break
        if kind == 0:
            data[at : at + size] = piece
        elif kind == 1:
            data[at:at] = piece
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + 1 + size * 8]
        elif kind == 4:
            data[at:at] = data[at : at + 1 + size * 8]
        elif kind == 5:
            edge = EDGES[size % len(EDGES)]
            width = 2 if size % 2 else 4
            data[at : at + width] = edge * width
        else:
            data[at] ^= 1 << (size % 8)
    return bytes(data)


def steps_of(raw: bytes) -> list[tuple[int, float, bytes]]:
    """Steps out of a fuzzer's bytes: 4 of each describe one, and up to 8 more are its piece."""
    steps = []
    at = 0
    while at + 4 <= len(raw) and len(steps) < 8:
        what, where, size = struct.unpack_from("<BHB", raw, at)
        piece = raw[at + 4 : at + 4 + size % 9]
        steps.append((what, where / 65535, piece))
        at += 4 + len(piece)
    return steps
