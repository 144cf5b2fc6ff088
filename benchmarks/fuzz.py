"""Fuzzes everything that reads files from others, for as long as is asked; only MolreEdgeError may come out.

    pip install atheris
    python benchmarks/fuzz.py WORK --checkpoint CKPT --bundle BUNDLE --scans SCANS --seconds 60

Each target runs in a process of its own with 4 GiB more memory than it has at its start, guided by atheris, which sees
the branches of molre_edge, pydicom and nibabel (not those of C code). Without atheris, or with --blind, damage is
random. Files that made a reader fail are kept in WORK/findings.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import resource
import shutil
import sys
import time
import traceback
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuzz_targets import Target

MORE_BYTES = 4 << 30
WATCHED = (
    "pydicom.pixels.utils",
    "nibabel.nifti1",
    "nibabel.nifti2",
    "molre_edge.bundle.engine_files",
    "molre_edge.runs.labels",
    "molre_edge.scans.workers.prepare",
    "molre_edge.runs.store",
    "molre_edge.parity",
)


class Tally:
    """What came of it."""

    def __init__(self, name: str, target: Target, work: Path, seconds: float) -> None:
        """Start the clock."""
        self.name, self.target, self.work = name, target, work
        self.end = time.monotonic() + seconds
        self.outcomes: Counter[str] = Counter()
        self.findings: list[str] = []
        self.slowest = 0.0

    def try_one(self, raw: bytes) -> None:
        """Damage the good file as the bytes say, and read it."""
        from fuzz_targets import damage, steps_of

        from molre_edge.errors import MolreEdgeError

        steps = steps_of(raw[1:])
        if not steps:  # a good file, which takes longest
            return
        content, head = self.target.content, self.target.head
        if head is not None and raw[:1] and raw[0] % 4:
            content = damage(content[:head], steps) + content[head:]
        else:
            content = damage(content, steps)
        folder = self.work / "try"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        path = folder / self.target.name
        path.write_bytes(content)
        begun = time.monotonic()
        try:
            self.target.read(path)
            self.outcomes["read"] += 1
        except MolreEdgeError as error:
            self.outcomes[f"refused: {type(error).__name__}"] += 1
        except Exception as error:
            self.outcomes["bug"] += 1
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:200]}"
            if text not in self.findings:
                self.findings.append(text)
                found = self.work.parent / "findings"
                found.mkdir(exist_ok=True)
                (found / f"{self.work.name}-{len(self.findings)}-{self.target.name}").write_bytes(content)
        self.slowest = max(self.slowest, time.monotonic() - begun)

    def result(self) -> dict[str, Any]:
        """For the table."""
        return {
            "runs": sum(self.outcomes.values()),
            "outcomes": dict(self.outcomes),
            "slowest, s": round(self.slowest, 2),
            "bugs": self.findings,
        }


def fuzz(name: str, target: Target, work: Path, seconds: float, blind: bool, seed: int, out: Any) -> None:
    """One target, in this process."""
    work.mkdir(parents=True)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MORE_BYTES, held + MORE_BYTES))
    tally = Tally(name, target, work, seconds)
    if blind:
        dice = random.Random(seed)
        while time.monotonic() < tally.end:
            tally.try_one(dice.randbytes(dice.randrange(5, 60)))
    else:
        import atheris

        def one(raw: bytes) -> None:
            if time.monotonic() > tally.end:
                out.send(tally.result())
                os._exit(0)  # atheris does not give way
            tally.try_one(raw)

        words = [sys.argv[0], f"-seed={seed + 1}", "-max_len=64", "-len_control=0", "-verbosity=0", "-rss_limit_mb=0"]
        words.append(f"-artifact_prefix={work}/")
        atheris.Setup([*words, str(_seeds(work / "corpus", seed))], one)
        atheris.Fuzz()
    out.send(tally.result())


def _seeds(folder: Path, seed: int) -> Path:
    """Inputs that do something, for atheris to begin with."""
    folder.mkdir()
    dice = random.Random(seed)
    for number in range(64):
        (folder / str(number)).write_bytes(dice.randbytes(dice.randrange(8, 60)))
    return folder


def in_a_process(options: argparse.Namespace, name: str, place: Path, out: Any) -> None:
    """Import what is to be watched, then fuzz: the branches are marked at import."""
    if not options.blind:
        import atheris

        with atheris.instrument_imports(include=["molre_edge", "pydicom", "nibabel"]):
            for module in WATCHED:
                importlib.import_module(module)
    from fuzz_targets import make_targets

    (place / "made").mkdir(parents=True)
    targets = make_targets(options.scans, options.checkpoint, options.bundle, place / "made")
    fuzz(name, targets[name], place / "work", options.seconds, options.blind, options.seed, out)


def main() -> None:
    """Run, and print JSON; exit code 1 if there were bugs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    for name in ("checkpoint", "bundle", "scans"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blind", action="store_true", help="random damage, without atheris")
    parser.add_argument("--target", nargs="+")
    options = parser.parse_args()
    from fuzz_targets import make_targets

    (options.work / "names").mkdir(parents=True)
    names = options.target or list(
        make_targets(options.scans, options.checkpoint, options.bundle, options.work / "names")
    )
    results: dict[str, Any] = {}
    context = get_context("spawn")
    for number, name in enumerate(names):
        ours, theirs = context.Pipe()
        place = options.work / f"target-{number:02d}"
        process = context.Process(target=in_a_process, args=(options, name, place, theirs))
        process.start()
        theirs.close()
        try:
            results[name] = ours.recv()
        except EOFError:
            results[name] = {"bugs": [f"the process ended with {process.exitcode}; its last file is in {place}"]}
        process.kill()
        process.join()
        print(name, json.dumps(results[name]), file=sys.stderr, flush=True)
    json.dump(results, sys.stdout, indent=2)
    print()
    sys.exit(1 if any(found["bugs"] for found in results.values()) else 0)


if __name__ == "__main__":
    main()
