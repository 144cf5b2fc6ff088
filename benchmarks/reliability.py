"""What is left after kill -9 at random moments, and whether 1,000 scans with bad ones among them are all accounted for.

    python benchmarks/reliability.py kill WORK --checkpoint CKPT --bundle BUNDLE --scans SCANS --limits TOML --kills 20
    python benchmarks/reliability.py scans WORK --bundle BUNDLE --count 1000 --bad 0.05

`kill` runs each command of COMMANDS once to its end, then kills it again and again: half of the times at a moment
anywhere between its start and its usual end, half after its first file has appeared. After each kill nothing under a
final name may be half written; the same command, called again, must end well, with the results of a run that nobody
cut, without leftovers, and without asking a scan again that was answered. A new command is one more entry.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from molre_edge.bundle.bundle import MANIFEST, Bundle
from molre_edge.bundle.engine_files import list_engines, read_engine
from molre_edge.errors import BundleError
from molre_edge.runs.answers import read_record
from molre_edge.runs.scan_table import read_entries


@dataclass(frozen=True)
class Assets:
    """What commands work on; nothing in it is changed."""

    checkpoint: Path
    bundle: Path
    scans: Path
    limits: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """One command under test.

    Attributes:
        words: (assets, work) -> its command line; called again after a kill, with the work folder as the kill left it.
        prepare: fills a new work folder.
        state: after a kill, one word for what is there; raises AssertionError if something is half written.
        check: after the second call: (work of it, work of a run that nobody cut, what the second call said).
    """

    words: Callable[[Assets, Path], Sequence[object]]
    prepare: Callable[[Assets, Path], None]
    state: Callable[[Path], str]
    check: Callable[[Path, Path, str], None]


def check_bundle(folder: Path) -> Bundle:
    """Open a bundle and read all of it."""
    bundle = Bundle.open(folder)
    for name in bundle.manifest["files"]:
        bundle.read(name)
    bundle.golden()
    return bundle


def _export_state(work: Path) -> str:
    if not (work / "bundle").exists():
        return "no bundle"
    check_bundle(work / "bundle")
    return "a whole bundle"


def _export_check(work: Path, uncut: Path, said: str) -> None:
    names = [sorted(check_bundle(each / "bundle").manifest["files"]) for each in (work, uncut)]
    assert names[0] == names[1], names


def _calibrate_state(work: Path) -> str:
    return "with int8" if "graphs/int8.onnx" in check_bundle(work / "bundle").manifest["files"] else "without int8"


def _calibrate_check(work: Path, uncut: Path, said: str) -> None:
    assert _calibrate_state(work) == _calibrate_state(uncut) == "with int8"


def _build_state(work: Path) -> str:
    bundle = check_bundle(work / "bundle")
    engines = list_engines(bundle)
    try:
        for engine in engines:
            read_engine(bundle, engine)
    except BundleError:
        return "an engine that is refused"
    return f"{len(engines)} whole engines"


def _build_check(work: Path, uncut: Path, said: str) -> None:
    assert _build_state(work) == _build_state(uncut) == "1 whole engines"


def _answered(work: Path) -> int:
    return len(list((work / "run" / "outputs").glob("scan-*.npz")))


def _infer_state(work: Path) -> str:
    run = work / "run"
    for path in (run / "outputs").glob("scan-*.npz"):
        read_record(path, path.stem)
    for path in [*run.glob("*.json"), *(work / "state").glob("*.json")]:
        json.loads(path.read_text())
    (work / "answered").write_text(str(_answered(work)))
    if not (run / "scans.csv").exists():
        return "not begun"
    scans = sum(entry.status in ("pending", "done") for entry in read_entries(run / "scans.csv", torn=True))
    return "all answered" if _answered(work) == scans else "some answered" if _answered(work) else "none answered"


def _infer_check(work: Path, uncut: Path, said: str) -> None:
    for name in ("findings.csv", "scans.csv"):
        assert (work / "run" / name).read_bytes() == (uncut / "run" / name).read_bytes(), name
    before = int((work / "answered").read_text()) if (work / "answered").exists() else 0
    found = re.search(r"Scans: (\d+) to do(?:, (\d+) done before)?", said)
    assert found is not None and (int(found[1]), int(found[2] or 0)) == (_answered(work) - before, before), said


def _no_preparation(assets: Assets, work: Path) -> None:
    (work / "state").mkdir()


def _copy_bundle(assets: Assets, work: Path) -> None:
    shutil.copytree(assets.bundle, work / "bundle")


def _limits(assets: Assets) -> list[object]:
    return [] if assets.limits is None else ["--limits", assets.limits]


COMMANDS: dict[str, Command] = {
    "export": Command(
        lambda a, w: ["export", a.checkpoint, "-o", w / "bundle", "--golden-volumes", 3, "--force", *_limits(a)],
        lambda a, w: None,
        _export_state,
        _export_check,
    ),
    "export over a bundle": Command(
        lambda a, w: ["export", a.checkpoint, "-o", w / "bundle", "--golden-volumes", 3, "--force", *_limits(a)],
        _copy_bundle,
        lambda w: _export_state(w) if (w / "bundle").exists() or _hidden_old(w) else _fail("the old bundle is lost"),
        _export_check,
    ),
    "calibrate": Command(
        lambda a, w: ["calibrate", a.scans, "--bundle", w / "bundle", *_limits(a)],
        _copy_bundle,
        _calibrate_state,
        _calibrate_check,
    ),
    "build": Command(
        lambda a, w: ["build", "--engine", "fp32", "--target", "rtx", "--bundle", w / "bundle"],
        _copy_bundle,
        _build_state,
        _build_check,
    ),
    "infer": Command(
        lambda a, w: [
            *("infer", a.scans, "--engine", "fp32", "--reference", "golden", "--bundle", a.bundle, "-o", w / "run"),
            *("--id-secret", w.parent / "ids.secret"),
            *(["--resume"] if (w / "run" / "run.json").exists() else []),
        ],
        _no_preparation,
        _infer_state,
        _infer_check,
    ),
}


def _hidden_old(work: Path) -> bool:
    """Killed between two renames, the old bundle waits under a hidden name, and comes back with the next export."""
    return any((path / MANIFEST).exists() for path in work.glob(".bundle.*.old"))


def _fail(text: str) -> str:
    raise AssertionError(text)


def start(words: Sequence[object], assets: Assets, work: Path) -> subprocess.Popen[str]:
    """A command in a process of its own; what it says goes to a file."""
    environment = {**os.environ, "MOLRE_EDGE_STATE": str(work / "state"), "TERM": "dumb", **assets.environment}
    with (work.parent / f"{work.name}.said").open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "molre_edge", *map(str, words)], stdout=said, stderr=said, env=environment, cwd=work
        )


def leftovers(work: Path) -> list[str]:
    """Hidden files and folders of ours, and processes that work on in the folder."""
    hidden = [str(path.relative_to(work)) for path in work.rglob(".*")]
    running = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == work.resolve() and (process / "cmdline").read_bytes():
                running.append(process.name)
        except OSError:
            continue
    return hidden + running


def run_to_end(command: Command, assets: Assets, work: Path) -> tuple[float, float]:
    """Run without a cut; seconds until its first file, and until its end."""
    work.mkdir(parents=True)
    command.prepare(assets, work)
    there = set(work.rglob("*"))
    begun = time.perf_counter()
    process, first = start(command.words(assets, work), assets, work), None
    while process.poll() is None:
        if first is None and set(work.rglob("*")) - there:
            first = time.perf_counter() - begun
        time.sleep(0.01)
    assert process.returncode == 0, (work.parent / f"{work.name}.said").read_text()
    took = time.perf_counter() - begun
    return first or took, took


def kill_once(command: Command, assets: Assets, work: Path, uncut: Path, after: float) -> tuple[str, list[str]]:
    """Kill after so many seconds, look, call again, look again: what was there, and the problems."""
    work.mkdir(parents=True)
    command.prepare(assets, work)
    process = start(command.words(assets, work), assets, work)
    try:
        process.wait(after)
        word = "it had ended"
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        word = ""
    try:
        there = command.state(work)
        if not word:
            word = there
            again = start(command.words(assets, work), assets, work)
            assert again.wait(600) == 0, (work.parent / f"{work.name}.said").read_text()[-500:]
            command.check(work, uncut, (work.parent / f"{work.name}.said").read_text())
        time.sleep(0.1)  # a reader that was reading ends when it finds nobody to tell
        assert not leftovers(work), leftovers(work)
    except Exception as error:
        return word, [f"{type(error).__name__}: {error}"]
    return word, []


def kill_often(name: str, assets: Assets, work: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill one command so often; what was found."""
    command, dice = COMMANDS[name], random.Random(seed)
    folder = work / name.replace(" ", "-")
    first, took = run_to_end(command, assets, folder / "uncut")
    states, problems = Counter[str](), list[str]()
    for number in range(kills):
        after = dice.uniform(first if number % 2 else 0.0, took)
        trial = folder / f"kill-{number:03d}"
        word, found = kill_once(command, assets, trial, folder / "uncut", after)
        states[word] += 1
        print(
            f"{name}: kill {number} after {after:.2f} of {took:.2f} s: {word}; {found or 'in order'}", file=sys.stderr
        )
        problems += [f"kill {number} after {after:.2f} s: {each}" for each in found]
        if not found:
            shutil.rmtree(trial)
    return {"kills": kills, "usual seconds": round(took, 1), "found": dict(states), "problems": problems}


# ------------------------------------------------------------------------------------------------- many scans, some bad


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
    problems += [f"an answer for {scan}, which is none of the good" for scan in answers]
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
            answered = _answered(work)
        except (OSError, IndexError):
            continue
        if answered:
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


def main() -> None:
    """Run, and print JSON; exit code 1 if there were problems."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = parser.add_subparsers(dest="what", required=True)
    kill = parts.add_parser("kill")
    kill.add_argument("work", type=Path)
    for name in ("checkpoint", "bundle", "scans", "limits"):
        kill.add_argument(f"--{name}", type=Path, required=name != "limits")
    kill.add_argument("--kills", type=int, default=20)
    kill.add_argument("--seed", type=int, default=0)
    kill.add_argument("--command", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    scans = parts.add_parser("scans")
    scans.add_argument("work", type=Path)
    scans.add_argument("--bundle", type=Path, required=True)
    scans.add_argument("--count", type=int, default=1000)
    scans.add_argument("--bad", type=float, default=0.05)
    scans.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.what == "kill":
        paths = (options.checkpoint, options.bundle, options.scans, options.limits)
        given = [path and path.resolve() for path in paths]
        work, assets = options.work.resolve(), Assets(*given)
        result: dict[str, Any] = {}
        for name in options.command:
            result[name] = kill_often(name, assets, work, options.kills, options.seed)
            print(name, json.dumps(result[name]), file=sys.stderr, flush=True)
        problems = [each for found in result.values() for each in found["problems"]]
    else:
        result = many(options.work.resolve(), options.bundle.resolve(), options.count, options.bad, options.seed)
        problems = result["problems"]
    json.dump(result, sys.stdout, indent=2)
    print()
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
