"""Finding and reading beside other readers: CPU time, wall time and peak memory, by format.

    python benchmarks/reading.py WORK --slices 40 --rounds 7
    python benchmarks/reading.py WORK --slices 600 --rounds 3 --formats uncompressed multi-frame nifti

Inputs are made below WORK from a synthetic head, once, and come from the page cache. In each round every reader reads
every format once, in turn, in one process; ratios are of medians, so that a drift of the machine hits all alike. Peak
memory is that of a process of its own, above what it held before it read. The others do less: they order nothing by
position along the normal, check neither what is shown nor that nothing is missing, and rescale to float64 or not at
all. dcm2niix and MONAI are measured where they are installed. "decoder" is the decoder alone, on frames in memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from molre_edge.scans import find_scans, read_scan
from molre_edge.synthetic import make_head, write_dicom_series, write_nifti
from molre_edge.synthetic.head import SyntheticHead

FORMATS = ("uncompressed", "rle", "jpeg-lossless", "jpeg-ls", "jpeg-2000", "multi-frame", "nifti", "nifti-gz")
COMPRESSED = {"rle": "1.2.840.10008.1.2.5", "jpeg-ls": "1.2.840.10008.1.2.4.80", "jpeg-2000": "1.2.840.10008.1.2.4.90"}
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"


def thin_head(slices: int, side: int) -> SyntheticHead:
    """A head of at most 40 slices that were drawn; more are the same, again and again."""
    from dataclasses import replace

    drawn = min(slices, 40)
    head = make_head(3, shape=(drawn, side, side), spacing_mm=(160.0 / drawn, 230.4 / side, 230.4 / side))
    if drawn == slices:
        return head
    at = np.minimum(np.arange(slices) * drawn // slices, drawn - 1)
    return replace(head, hu=head.hu[at], spacing_mm=(160.0 / slices, *head.spacing_mm[1:]))


def make_input(work: Path, name: str, slices: int, side: int) -> Path:
    """The files of one format; made when they are not there."""
    folder = work / f"{slices}-{side}" / name
    if folder.exists():
        return folder
    plain = work / f"{slices}-{side}" / "uncompressed"
    if name == "uncompressed":
        write_dicom_series(thin_head(slices, side), folder)
        return folder
    folder.mkdir(parents=True)
    if name.startswith("nifti"):
        write_nifti(thin_head(slices, side), folder / ("head.nii.gz" if name == "nifti-gz" else "head.nii"))
    elif name == "multi-frame":
        _join(sorted(plain.iterdir()), folder / "all.dcm")
    else:
        for path in sorted(plain.iterdir()):
            _compress(path, folder / path.name, name)
    return folder


def _compress(path: Path, target: Path, name: str) -> None:
    import pydicom

    dataset = pydicom.dcmread(path)
    if name == "jpeg-lossless":
        from pydicom.encaps import encapsulate
        from pydicom.uid import UID

        stored = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
        dataset.PixelData = encapsulate([_jpeg_lossless(stored)])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = UID(JPEG_LOSSLESS)
    else:
        dataset.compress(COMPRESSED[name], generate_instance_uid=False)
    dataset.save_as(target, enforce_file_format=True)


def _jpeg_lossless(stored: np.ndarray[Any, Any]) -> bytes:
    import pydicom
    import SimpleITK as sitk
    from pydicom.encaps import generate_frames

    with tempfile.TemporaryDirectory() as folder:
        writer: Any = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetUseCompression(True)
        writer.SetCompressor("JPEG")
        writer.SetFileName(f"{folder}/one.dcm")
        writer.Execute(sitk.GetImageFromArray(stored[None]))
        return bytes(next(generate_frames(pydicom.dcmread(f"{folder}/one.dcm").PixelData, number_of_frames=1)))


def _join(paths: list[Path], target: Path) -> None:
    """One Enhanced CT file with functional groups."""
    import pydicom
    from pydicom.dataset import Dataset
    from pydicom.uid import EnhancedCTImageStorage

    def item(**values: Any) -> pydicom.Sequence:
        inner = Dataset()
        for name, value in values.items():
            setattr(inner, name, value)
        return pydicom.Sequence([inner])

    whole, frames, pixels = pydicom.dcmread(paths[0]), [], []
    for path in paths:
        one = pydicom.dcmread(path)
        frame = Dataset()
        frame.PlanePositionSequence = item(ImagePositionPatient=one.ImagePositionPatient)
        frames.append(frame)
        pixels.append(one.PixelData)
    shared = Dataset()
    shared.PixelMeasuresSequence = item(PixelSpacing=whole.PixelSpacing, SliceThickness=whole.SliceThickness)
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=whole.ImageOrientationPatient)
    shared.PixelValueTransformationSequence = item(RescaleSlope=1, RescaleIntercept=0, RescaleType="HU")
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    whole.SharedFunctionalGroupsSequence, whole.PerFrameFunctionalGroupsSequence = [shared], frames
    whole.NumberOfFrames, whole.PixelData = len(paths), b"".join(pixels)
    for name in ("ImagePositionPatient", "SliceLocation", "RescaleSlope", "RescaleIntercept"):
        delattr(whole, name)
    whole.save_as(target, enforce_file_format=True)


def readers(folder: Path) -> dict[str, Callable[[], Any]]:
    """What can read these files, by name."""
    import pydicom
    import SimpleITK as sitk

    files = sorted(folder.iterdir())
    source = find_scans(folder).scans[0]
    found: dict[str, Callable[[], Any]] = {
        "find_scans": lambda: find_scans(folder),
        "read_scan": lambda: read_scan(source),
    }

    def itk() -> Any:
        if len(files) == 1:
            return sitk.GetArrayFromImage(sitk.ReadImage(str(files[0])))
        series: Any = sitk.ImageSeriesReader()
        series.SetFileNames([str(file) for file in files])
        return sitk.GetArrayFromImage(series.Execute())

    found["SimpleITK"] = itk
    if source.kind == "nifti":
        import nibabel

        load: Any = nibabel.load  # type: ignore[attr-defined]
        found["nibabel"] = lambda: load(files[0]).get_fdata(dtype=np.float32)
    else:
        found["pydicom"] = lambda: [pydicom.dcmread(file).pixel_array for file in files]
        if decoder := _decoder(files):
            found["decoder"] = decoder
    if importlib.util.find_spec("monai"):

        def monai() -> Any:
            from monai.transforms import LoadImage  # here, since importing it takes seconds

            return LoadImage()(str(files[0] if len(files) == 1 else folder))

        found["MONAI LoadImage"] = monai
    if source.kind == "dicom" and (program := shutil.which("dcm2niix")):

        def convert() -> None:
            with tempfile.TemporaryDirectory() as out:
                subprocess.run([program, "-o", out, str(folder)], check=True, capture_output=True)

        found["dcm2niix"] = convert
    return found


def _decoder(files: list[Path]) -> Callable[[], Any] | None:
    """The decoder alone, on frames that are in memory."""
    import pydicom
    from pydicom.encaps import generate_frames

    datasets = [pydicom.dcmread(file) for file in files]
    first = datasets[0]
    syntax = str(first.file_meta.TransferSyntaxUID)
    if syntax not in COMPRESSED.values():
        return None
    frames = [bytes(next(generate_frames(one.PixelData, number_of_frames=1))) for one in datasets]
    if syntax == COMPRESSED["jpeg-ls"]:
        import jpeg_ls

        return lambda: [jpeg_ls.decode(np.frombuffer(frame, np.uint8)) for frame in frames]
    if syntax == COMPRESSED["jpeg-2000"]:
        from openjpeg.utils import decode

        return lambda: [decode(frame) for frame in frames]
    from pydicom.pixels.decoders.rle import _rle_decode_frame

    return lambda: [_rle_decode_frame(frame, first.Rows, first.Columns, 1, first.BitsAllocated) for frame in frames]


def _cpu_seconds() -> float:
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def measure(folder: Path, rounds: int, only: list[str] | None) -> dict[str, dict[str, float]]:
    """Medians over rounds in which the readers take turns, in ms."""
    todo = {name: read for name, read in readers(folder).items() if only is None or name in only}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in todo}
    for number in range(rounds + 1):
        for name, read in todo.items():
            cpu, wall = _cpu_seconds(), time.perf_counter()
            read()
            taken = 1e3 * (_cpu_seconds() - cpu), 1e3 * (time.perf_counter() - wall)
            if number:  # the first round warms up
                times[name].append(taken)
    return {
        name: {"cpu_ms": statistics.median(c for c, _ in each), "wall_ms": statistics.median(w for _, w in each)}
        for name, each in times.items()
    }


def peak_mib(folder: Path, name: str) -> float:
    """Peak resident memory of a process that reads once, above what it held before."""
    command = [sys.executable, __file__, str(folder), "--peak-of", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _print_peak(folder: Path, name: str) -> None:
    read = readers(folder)[name]
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _status("VmRSS")
    read()
    print(_status("VmHWM") - before)


HEAD = "| format | reader | CPU ms | wall ms | peak MiB | find + read over it, CPU |\n|" + "---|" * 6


def rows(name: str, each: dict[str, dict[str, float]]) -> str:
    """Lines of a Markdown table, with finding plus reading over each other reader."""
    lines = []
    both = each["find_scans"]["cpu_ms"] + each["read_scan"]["cpu_ms"]
    for reader, one in each.items():
        ratio = "" if reader in ("find_scans", "read_scan") else f"{both / one['cpu_ms']:.2f}"
        peak = f"{one['peak_mib']:.0f}" if "peak_mib" in one else ""
        lines.append(f"| {name} | {reader} | {one['cpu_ms']:.0f} | {one['wall_ms']:.0f} | {peak} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for the inputs")
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--side", type=int, default=512, help="rows and columns")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument(
        "--readers", nargs="+", help="beside find_scans and read_scan; all that are installed by default"
    )
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="times only")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        _print_peak(options.work, options.peak_of)
        return
    only = ["find_scans", "read_scan", *options.readers] if options.readers else None
    make_input(options.work, "uncompressed", options.slices, options.side)
    results = {}
    print(HEAD, flush=True)
    for name in options.formats:
        folder = make_input(options.work, name, options.slices, options.side)
        results[name] = measure(folder, options.rounds, only)
        for reader, one in results[name].items():
            if options.memory and reader not in ("decoder", "dcm2niix"):
                one["peak_mib"] = peak_mib(folder, reader)
        print(rows(name, results[name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
