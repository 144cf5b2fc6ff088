"""How fast images are received: the node beside DCMTK's storescp and Orthanc, in turns, by one storescu; and reports.

    python benchmarks/receiving.py WORK --bundle BUNDLE [--limits TOML] [--images 200] [--rounds 3]

Needs DCMTK and Orthanc (Debian: dcmtk, orthanc). The node syncs each image and its row before it answers; Orthanc and
storescp don't. Prints JSON: images per second of each round, and from the last image to the report, the quiet time
aside.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from molre_edge.synthetic import make_head, write_dicom_series

_QUIET_SECONDS = 2.0


def main() -> None:
    """Measure, and print JSON."""
    options = _options()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    studies = [_study(work / f"study-{number}", number, options.images) for number in range(options.rounds)]
    rates: dict[str, list[float]] = {"node": [], "storescp": [], "orthanc": []}
    with _storescp(work) as plain, _orthanc(work) as orthanc, _node(work, options) as node:
        for study in studies:
            for name, port in (("node", node), ("storescp", plain), ("orthanc", orthanc)):
                begun = time.perf_counter()
                command = ["/usr/bin/storescu", "-aet", "CT1", "-aec", "ANY", "+sd", "127.0.0.1", str(port), str(study)]
                subprocess.run(command, check=True)
                rates[name].append(round(options.images / (time.perf_counter() - begun), 1))
        _until(lambda: (work / "node.log").read_text().count(" answered ") == len(studies))
    waited = re.findall(r"after_last_image_s=([\d.]+)", (work / "node.log").read_text())
    reports = [round(float(each) - _QUIET_SECONDS, 2) for each in waited]
    print(json.dumps({"images": options.images, "images_per_s": rates, "report_s": reports}, indent=2))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--limits", type=Path)
    parser.add_argument("--engine", default="fp32")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _study(folder: Path, number: int, images: int) -> Path:
    """A synthetic head of 512 x 512."""
    if not folder.is_dir():
        write_dicom_series(make_head(number, shape=(images, 512, 512)), folder)
    return folder


@contextlib.contextmanager
def _process(command: list[str], log: Path, port: int) -> Iterator[int]:
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            _until(lambda: _listens(port))
            yield port
        finally:
            process.send_signal(signal.SIGTERM)


def _storescp(work: Path) -> contextlib.AbstractContextManager[int]:
    port, folder = _free_port(), work / "storescp"
    folder.mkdir(exist_ok=True)
    command = ["/usr/bin/storescp", "--output-directory", str(folder), str(port)]
    return _process(command, work / "storescp.log", port)


def _orthanc(work: Path) -> contextlib.AbstractContextManager[int]:
    port, folder = _free_port(), str(work / "orthanc")
    settings = {
        "StorageDirectory": folder, "IndexDirectory": folder, "HttpPort": _free_port(), "DicomPort": port,
        "Plugins": [], "DicomAlwaysAllowStore": True, "DicomCheckCalledAet": False,
    }  # fmt: skip
    (work / "orthanc.json").write_text(json.dumps(settings))
    return _process(["/usr/sbin/Orthanc", str(work / "orthanc.json")], work / "orthanc.log", port)


def _node(work: Path, options: argparse.Namespace) -> contextlib.AbstractContextManager[int]:
    port = _free_port()
    limits = f'limits = "{options.limits.resolve()}"\n' if options.limits else ""
    (work / "node.toml").write_text(
        f'folder = "node"\nbundle = "{options.bundle.resolve()}"\nengine = "{options.engine}"\n{limits}'
        f'[[senders]]\nae_title = "CT1"\n[receive]\nae_title = "ANY"\nport = {port}\n'
        f"[study]\nquiet_seconds = {_QUIET_SECONDS}\n[status]\nport = 0\n"
    )
    command = [sys.executable, "-m", "molre_edge", "node", "--config", str(work / "node.toml")]
    return _process(command, work / "node.log", port)


def _until(done: Callable[[], bool], seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            sys.exit("it did not come to an end: see the logs")
        time.sleep(0.1)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
