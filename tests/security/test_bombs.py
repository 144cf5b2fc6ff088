"""Files that are small and claim or unpack to much: refused, in a process that may take 1 GiB more, and measured."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

MIB = 1 << 20

DRIVER = """
import json, resource, sys
from pathlib import Path

import nibabel.nifti1, nibabel.nifti2, pydicom.pixels.utils, SimpleITK

from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import list_engines
from molre_edge.errors import MolreEdgeError
from molre_edge.scans.workers.prepare import prepare
from molre_edge.runs.answers import read_record
from molre_edge.runs.store import read_head
from molre_edge.scans import find_scans
from molre_edge.specs import Grid

GRID = Grid(slices=4, rows=32, cols=32)

def scan(path):
    found = find_scans(path)
    if found.rejected:
        return found.rejected[0].code
    result = prepare(found.scans[0], GRID)
    return getattr(result, "code", "read")

READ = {
    "scan": scan,
    "bundle": lambda path: Bundle.open(path),
    "golden": lambda path: Bundle.open(path).golden(),
    "engines": lambda path: list_engines(Bundle.open(path)),
    "run": read_head,
    "answers": lambda path: read_record(path, "scan-aaaaaaaaaaaaaaaa"),
}

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 30), now + (1 << 30)))
results = {}
for what, path in json.loads(sys.argv[1]):
    before = peak()
    try:
        outcome = str(READ[what](Path(path)))
    except MolreEdgeError as error:
        outcome = f"{type(error).__name__}: {error}"
    results[path] = (outcome, peak() - before)
print(json.dumps(results))
"""


def test_what_claims_or_unpacks_to_much_costs_little(tiny_scans: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    cases = _make(tiny_scans, tiny_bundle, tmp_path)
    todo = json.dumps([(what, str(path)) for what, path, _, _ in cases])
    done = subprocess.run([sys.executable, "-c", DRIVER, todo], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    for _, path, expected, most in cases:
        outcome, took = results[str(path)]
        assert expected in outcome, (path.name, outcome)
        assert took <= most, (path.name, took)


def _make(scans: Path, bundle: Path, work: Path) -> list[tuple[str, Path, str, int]]:
    """(what reads it, path, part of the outcome, most MiB that it may take) of each hostile file."""
    cases: list[tuple[str, Path, str, int]] = []

    def add(what: str, name: str, expected: str, most: int = 100) -> Path:
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cases.append((what, path, expected, most))
        return path

    head = gzip.decompress((scans / "head-4.nii.gz").read_bytes())
    _gzip(add("scan", "longer than its header says.nii.gz", "corrupt_header"), head, 256)
    nifti = nibabel.Nifti2Image(np.zeros((4, 4, 4), np.int16), np.diag([1.0, 1, 1, 1]))
    raw = bytearray(nifti.to_bytes())
    raw[16:48] = np.array([3, 100_000, 100_000, 100], "<i8").tobytes()
    add("scan", "100,000 x 100,000.nii", "too_large").write_bytes(raw)
    _gzip(add("scan", "100,000 x 100,000.nii.gz", "too_large"), bytes(raw), 16)
    full = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float64), np.diag([1.0, 1, 1, 1])).to_bytes()
    claim = full[:40] + np.array([3, 512, 512, 1000, 1, 1, 1, 1], "<i2").tobytes() + full[56:352]
    _gzip(add("scan", "2 GiB that are there.nii.gz", "too_large", 1024), claim, 2000)

    slices = sorted((scans / "head-1").iterdir())
    dataset = pydicom.dcmread(slices[0])
    dataset.Rows = dataset.Columns = 65535
    dataset.save_as(add("scan", "65,535 x 65,535.dcm", "too_large"))

    folder = add("scan", "code stream of 100,000 x 100,000", "corrupt_pixels")
    folder.mkdir()
    for path in slices:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset.PixelData = encapsulate([_jpeg2000(100_000)])
        dataset["PixelData"].VR = "OB"
        dataset.save_as(folder / path.name)

    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    plain = pydicom.dcmread(slices[0])
    plain.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    # one slice is no volume, so its pixels are never inflated; scans/test_bounds.py has whole series of such
    bomb = add("scan", "deflated to 700 MiB.dcm", "too_few_slices")
    plain.save_as(bomb)
    meta = 132 + 12 + pydicom.dcmread(bomb).file_meta.FileMetaInformationGroupLength
    start = zlib.decompress(bomb.read_bytes()[meta:], -zlib.MAX_WBITS)
    body = squeeze.compress(start) + b"".join(squeeze.compress(bytes(MIB)) for _ in range(700)) + squeeze.flush()
    bomb.write_bytes(bomb.read_bytes()[:meta] + body)

    for name, text in (
        ("deeply nested", b"[" * 1_000_000),
        ("one number of a million digits", b'{"format": ' + b"9" * 1_000_000 + b"}"),
        ("longer than any", b" " * (17 * MIB)),
        ("NaN", (bundle / "manifest.json").read_bytes().replace(b'"height_mm": 180.0', b'"height_mm": NaN')),
    ):
        add("bundle", f"manifest, {name}", "BundleError").mkdir()
        (work / f"manifest, {name}" / "manifest.json").write_bytes(text)
        engines = add("engines", f"engine, {name}", "BundleError") / "engines"
        engines.mkdir(parents=True)
        (engines.parent / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes())
        (engines / "rtx-fp32.json").write_bytes(text if name != "NaN" else b'{"format": NaN}')
        if name != "NaN":
            add("run", f"run, {name}", "RunError").mkdir()
            (work / f"run, {name}" / "run.json").write_bytes(text)

    _zip(add("answers", "answers/scan-aaaaaaaaaaaaaaaa.npz", "RunError"), "head.npy", 512)
    folder = add("golden", "golden", "BundleError")
    _rewrite_golden(bundle, folder)
    return cases


def _gzip(path: Path, head: bytes, mib: int) -> None:
    """A head, and zeros after it."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(mib // 16):
            file.write(bytes(16 * MIB))


def _zip(path: Path, name: str, mib: int) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open(name, "w") as file:
        for _ in range(mib // 16):
            file.write(bytes(16 * MIB))


def _rewrite_golden(bundle: Path, folder: Path) -> None:
    """A bundle whose golden archive unpacks to much, its hash rewritten with it: the manifest says all is well."""
    import hashlib
    import shutil

    shutil.copytree(bundle, folder)
    archive = folder / "golden" / "golden.npz"
    archive.unlink()
    _zip(archive, "volumes.npy", 512)
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["golden/golden.npz"] = hashlib.sha256(archive.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _jpeg2000(side: int) -> bytes:
    """The markers of a JPEG 2000 stream that claims so many rows and columns, and nothing after them."""
    size = np.array([side, side, 0, 0, side, side, 0, 0], ">u4").tobytes()
    siz = b"\xff\x51" + (41).to_bytes(2, "big") + bytes(2) + size + b"\x00\x01" + b"\x0f\x01\x01"
    cod = b"\xff\x52" + (12).to_bytes(2, "big") + b"\x00" + b"\x00\x00\x01\x00" + b"\x05\x04\x04\x00\x01"
    return b"\xff\x4f" + siz + cod + b"\xff\x90" + bytes(64)


def test_the_digest_refuses_what_hashes_alone_let_through(tiny_bundle: Path, tmp_path: Path) -> None:
    from molre_edge.bundle.bundle import Bundle
    from molre_edge.errors import BundleError

    digest = Bundle.open(tiny_bundle).digest
    _rewrite_golden(tiny_bundle, tmp_path / "bundle")
    opened = Bundle.open(tmp_path / "bundle")
    assert opened.read("golden/golden.npz")  # file and hash were rewritten together: nothing to be seen
    with pytest.raises(BundleError, match="not the bundle that was released"):
        Bundle.open(tmp_path / "bundle", expect_digest=digest)


def test_one_bit_in_any_covered_file_is_refused_and_the_golden_answers_of_a_swapped_graph_too(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    import shutil

    from molre_edge.bundle.bundle import Bundle
    from molre_edge.errors import BundleError

    names = list(Bundle.open(tiny_bundle).manifest["files"])
    assert {"graphs/fp32.onnx", "graphs/fp16.onnx", "golden/golden.npz"} <= set(names)
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        shutil.copytree(tiny_bundle, folder)
        content = bytearray((folder / name).read_bytes())
        content[(number * 7919) % len(content)] ^= 1 << (number % 8)
        (folder / name).write_bytes(content)
        with pytest.raises(BundleError, match="altered or damaged"):
            Bundle.open(folder).read(name)
    swapped = tmp_path / "swapped"
    shutil.copytree(tiny_bundle, swapped)
    shutil.copy(swapped / "graphs" / "fp16.onnx", swapped / "graphs" / "fp32.onnx")
    with pytest.raises(BundleError, match="altered or damaged"):
        Bundle.open(swapped).read("graphs/fp32.onnx")
