"""Many scans, some of them spoilt, and whether every one is accounted for."""

from __future__ import annotations

import csv
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reliability_commands import Assets, answered
from reliability_kills import leftovers, start

__all__ = ["BAD", "account", "many"]


def _cut(folder: Path) -> None:
    path = sorted(folder.iterdir())[3]
    path.write_bytes(path.read_bytes()[:-3000])


def _missing(folder: Path) -> None:
    sorted(folder.iterdir())[5].unlink()


def _water(folder: Path) -> None:
    import pydicom

    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PixelData = bytes(len(dataset.PixelData))
        dataset.save_as(path)


def _magnetic(folder: Path) -> None:
    import pydicom

    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.Modality = "MR"
        dataset.save_as(path)


def _huge(folder: Path) -> None:
    import pydicom

    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.Rows = dataset.Columns = 60000
        dataset.save_as(path)


def _no_decoder(folder: Path) -> None:
    import pydicom

    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        pixels = dataset.PixelData[:4000]
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
        dataset.PixelData = (
            b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0" + len(pixels).to_bytes(4, "little") + pixels
        )
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)


BAD: dict[str, Callable[[Path], None]] = {
    "cut file": _cut,
    "slice missing": _missing,
    "no head": _water,
    "not CT": _magnetic,
    "60,000 x 60,000 claimed": _huge,
    "damaged JPEG 2000": _no_decoder,
}


def make_scans(folder: Path, count: int, bad: float, seed: int, shape: tuple[int, int, int]) -> dict[str, str]:
    """`count` studies of a few heads under UIDs of their own, some spoilt; name -> how ("" is good)."""
    import pydicom
    from pydicom.uid import generate_uid

    from molre_edge.synthetic import make_head, write_dicom_series

    models = folder.parent / "models"
    for number in range(4):
        if not (models / str(number)).exists():
            write_dicom_series(make_head(number, shape=shape), models / str(number))
    heads = [[pydicom.dcmread(path) for path in sorted((models / str(n)).iterdir())] for n in range(4)]
    dice = random.Random(seed)
    spoilt = set(dice.sample(range(count), round(bad * count)))
    kinds = list(BAD)
    truth = {}
    for number in range(count):
        target = folder / f"case-{number:05d}"
        target.mkdir(parents=True)
        study, series = generate_uid(), generate_uid()
        for index, dataset in enumerate(heads[number % 4]):
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            dataset.save_as(target / f"{index:03d}.dcm")
        kind = kinds[len([n for n in spoilt if n < number]) % len(kinds)] if number in spoilt else ""
        if kind:
            BAD[kind](target)
        truth[target.name] = kind
    return truth


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def account(run: Path, truth: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Hold a run's tables against what was made: counts by kind and code, and problems."""
    rows, found_rows = (_rows(run / name) for name in ("scans.csv", "findings.csv"))
    answers = Counter(row["scan"] for row in found_rows)
    by_case: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_case.setdefault(row["path"].split("/")[0], []).append(row)
    codes: dict[str, Counter[str]] = {}
    problems = []
    for case, kind in truth.items():
        found = by_case.pop(case, [])
        codes.setdefault(kind or "good", Counter()).update(row["code"] or row["status"] for row in found)
        if kind and (not found or any(row["status"] == "done" for row in found) or not all(r["reason"] for r in found)):
            problems.append(f"{case} ({kind}): {found}")
        if not kind and ([row["status"] for row in found] != ["done"] or answers.pop(found[0]["scan"], 0) != 1):
            problems.append(f"{case}: {found}")
    problems += [f"a row for {case}, which was not made" for case in by_case]
    problems += [f"an answer for {scan}, which is not one of the good scans" for scan in answers]
    return {kind: dict(found) for kind, found in codes.items()}, problems


def many(work: Path, bundle: Path, count: int, bad: float, seed: int, words: Sequence[object] = ()) -> dict[str, Any]:
    """Run over many scans, watching memory, and account for each."""
    truth = make_scans(work / "scans", count, bad, seed, (12, 96, 96))
    assets = Assets(Path(), bundle, work / "scans")
    line = [
        "infer",
        work / "scans",
        "--engine",
        "fp32",
        "--reference",
        "golden",
        "--bundle",
        bundle,
        "-o",
        work / "run",
    ]
    begun = time.perf_counter()
    process, mib = start([*line, *words], assets, work), list[float]()
    while process.poll() is None:
        try:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            there = answered(work)
        except (OSError, IndexError):
            continue
        if there:
            mib.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        time.sleep(0.5)
    seconds = time.perf_counter() - begun
    codes, problems = account(work / "run", truth)
    if process.returncode != (4 if any(truth.values()) else 0):
        problems.append(f"exit code {process.returncode}")
    step = max(len(mib) // 10, 1)
    return {
        "scans": count,
        "spoilt": sum(map(bool, truth.values())),
        "codes": codes,
        "seconds": round(seconds, 1),
        "resident MiB, highest of each tenth of the time": [
            round(max(mib[i : i + step])) for i in range(0, len(mib), step)
        ],
        "problems": problems + leftovers(work / "run"),
    }
