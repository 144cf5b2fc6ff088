"""A node under two senders, a PACS that goes away, kills at random moments and a full disk: is every study answered.

Senders are processes of their own (``python reliability_node.py send ...``), so that they can be killed as well. What a
sender was told is kept is never sent by it again: if the node lost it, the end shows it.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["node_trial"]

_SENDERS = ("CT1", "CT2")
_CLASS = "1.2.840.10008.5.1.4.1.1."
_QUIET_SECONDS = 1.5
_LATE = 0.2
"""Share of studies of which two images come after the rest was answered."""


def node_trial(
    work: Path, bundle: Path, limits: Path | None, *, studies: int, kills: int, seed: int, shape: tuple[int, int, int],
    disk_mb: int = 0, engine: str = "fp32", most_seconds: float = 1800.0,
) -> dict[str, Any]:  # fmt: skip
    """Try it.

    Args:
        work: a folder of one's own.
        bundle: for the node.
        limits: parity limits for it.
        studies: how many.
        kills: of the node, with signal 9.
        seed: of all that is random.
        shape: slices, rows, columns of each study.
        disk_mb: size of a small disk (tmpfs; needs root) for the node's folder, which is full for a while; 0 for none.
        engine: of the node.
        most_seconds: then it has failed.

    Returns:
        Figures, and ``problems``: empty if every study has exactly one current report, of all its images.
    """
    rng = random.Random(seed)
    work.mkdir(parents=True, exist_ok=True)
    planned = _make_studies(work / "images", studies, shape, rng)
    with _small_disk(work / "disk", disk_mb) as disk, Trial(work, disk, bundle, limits, engine) as trial:
        begun = time.monotonic()
        trial.run(planned, kills, rng, begun + most_seconds)
        found = trial.account(planned)
        found["seconds"] = round(time.monotonic() - begun, 1)
    return found


class Trial:
    """A node, its PACS and its senders."""

    def __init__(self, work: Path, disk: Path, bundle: Path, limits: Path | None, engine: str) -> None:
        """Write the configuration."""
        self.work, self.folder, self.disk = work, disk / "node", disk
        self.ports = {name: _free_port() for name in ("node", "pacs", "status")}
        self.pacs = _Pacs(self.ports)
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.node: subprocess.Popen[bytes] | None = None
        self.log = work / "node.log"
        lines = [
            f'folder = "{self.folder}"', f'bundle = "{bundle}"', f'engine = "{engine}"',
            *([f'limits = "{limits}"'] if limits else []),
            "threads = 1",
            *(f'[[senders]]\nae_title = "{name}"\naddresses = ["127.0.0.1"]' for name in (*_SENDERS, "PACS")),
            f"[receive]\nport = {self.ports['node']}", f"[status]\nport = {self.ports['status']}",
            f"[study]\nquiet_seconds = {_QUIET_SECONDS}", "[disk]\nfloor_mb = 1",
            f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\naddress = "127.0.0.1"\nport = {self.ports["pacs"]}\n'
            "retry_seconds = 0.5\nlongest_retry_seconds = 2",
        ]  # fmt: skip
        (work / "node.toml").write_text("\n".join(lines) + "\n")

    def __enter__(self) -> Trial:
        """Start the node and the PACS."""
        self.pacs.open()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End what is left."""
        if self.node is not None and self.node.poll() is None:
            self.node.kill()
            self.node.wait()
        self.pacs.close()

    def start(self) -> None:
        """Start the node."""
        with self.log.open("ab") as log:
            self.node = subprocess.Popen(
                [sys.executable, "-m", "molre_edge", "node", "--config", str(self.work / "node.toml")],
                stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip

    def run(self, planned: dict[str, list[Path]], kills: int, rng: random.Random, until: float) -> None:
        """Send everything while all goes wrong, then wait until nothing is left to do."""
        late = rng.sample(sorted(planned), int(len(planned) * _LATE))
        first = [files[:-2] if uid in late else files for uid, files in planned.items()]
        rest = [planned[uid][-2:] for uid in late]
        trouble = threading.Thread(target=self._trouble, args=(kills, random.Random(rng.random())))
        trouble.start()
        self._send(first, rng, until)
        self._wait(until, kills=False)
        self._send(rest, rng, until)
        trouble.join()
        self._wait(until, kills=True)

    def _trouble(self, kills: int, rng: random.Random) -> None:
        """Make trouble; trouble that failed would make the trial look better than it was."""
        try:
            self._make_trouble(kills, rng)
        except Exception as error:
            self.problems.append(f"the trouble ended early: {type(error).__name__}: {error}")

    def _make_trouble(self, kills: int, rng: random.Random) -> None:
        """Kill the node, fill the disk, send the PACS away."""
        away, full = (sorted(rng.sample(range(kills), max(1, kills // 4))) for _ in range(2))
        for number in range(kills):
            if number in away:
                self.pacs.close()
                self.counts["pacs_away"] += 1
            ballast = self.disk / "ballast"
            if number in full and self.disk != self.work:
                _fill(ballast)
                self.counts["disk_full"] += 1
            time.sleep(rng.uniform(0.5, 8.0))
            assert self.node is not None
            if self.node.poll() is None:
                self.node.send_signal(signal.SIGKILL)
                self.counts["kills"] += 1
            if (code := self.node.wait()) != -signal.SIGKILL:
                self.problems.append(f"the node ended by itself with {code}")
            ballast.unlink(missing_ok=True)
            self.start()
            if number in away:
                self.pacs.open()

    def _send(self, studies: Sequence[list[Path]], rng: random.Random, until: float) -> None:
        """Two senders at once, killed now and then until all is taken: studies in random order, some by both."""
        shares: list[list[Path]] = [[], []]
        for files in rng.sample(list(studies), len(studies)):
            for share in rng.choice([shares[:1], shares[1:], shares]):
                share += rng.sample(files, len(files))
        jobs = []
        for name, share in zip(_SENDERS, shares, strict=True):
            number = len(list(self.work.glob(f"{name}-*.list")))
            listed = self.work / f"{name}-{number}.list"
            listed.write_text("\n".join(map(str, share)))
            jobs.append([name, str(listed), str(self.ports["node"])])
        running: dict[int, Any] = {at: self._sender(job) for at, job in enumerate(jobs)}
        while running:
            if time.monotonic() > until:
                raise TimeoutError("the senders did not come to an end")
            time.sleep(0.2)
            for at, process in list(running.items()):
                if process.poll() == 0:
                    del running[at]
                elif process.poll() is not None:
                    running[at] = self._sender(jobs[at])
                elif rng.random() < 0.02:
                    process.kill()
                    process.wait()
                    self.counts["senders_killed"] += 1

    def _sender(self, job: list[str]) -> Any:
        return subprocess.Popen([sys.executable, __file__, "send", *job])

    def _wait(self, until: float, *, kills: bool) -> None:
        """Until the node says that nothing waits; with the PACS there and no more kills, for all of it."""
        quiet = 0
        while quiet < 3:
            if time.monotonic() > until:
                raise TimeoutError(f"the node did not come to an end: {self._queue()}")
            time.sleep(0.3)
            queue = self._queue()
            idle = queue is not None and not queue["studies"] and (not kills or not queue["destinations"])
            quiet = quiet + 1 if idle else 0

    def _queue(self) -> Any:
        import urllib.request

        url = f"http://127.0.0.1:{self.ports['status']}/queue"
        with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(url, timeout=5) as answer:
            return json.loads(answer.read())
        return None

    def account(self, planned: dict[str, list[Path]]) -> dict[str, Any]:
        """End the node well, and look at what is left and at what the PACS has."""
        assert self.node is not None
        self.node.terminate()
        code = self.node.wait(60)
        problems = [*self.problems, *([] if code == 0 else [f"the node ended with {code}"])]
        problems += self._look(planned)
        reports = {uid: self.pacs.reports.get(uid, {}) for uid in planned}
        for got in reports.values():
            current = set(got) - {before for before in got.values() if before}
            if len(current) != 1:
                problems.append(f"{len(current)} current reports at the PACS for one study")
            problems += [
                "a predecessor that the PACS never got" for before in got.values() if before and before not in got
            ]
        problems += ["a report of a study that nobody sent" for uid in self.pacs.reports if uid not in planned]
        lines = self.log.read_text().splitlines()
        return {
            "studies": len(planned), "images": sum(map(len, planned.values())), **dict(sorted(self.counts.items())),
            "images_in_the_log": _tally(lines, " received "),
            "reports": sum(map(len, reports.values())), "later_versions": sum(len(got) - 1 for got in reports.values()),
            "delivered_again": self.pacs.again, "sent_back": self.pacs.back, "problems": problems,
        }  # fmt: skip

    def _look(self, planned: dict[str, list[Path]]) -> list[str]:
        """The node's folder: every image whole and once, one current report of all images for each study."""
        from pydicom import dcmread

        from molre_edge.node.ids import set_digest
        from molre_edge.node.store import Store

        problems = [f"left: {path.name}" for path in self.folder.rglob("*.partial")]
        problems += [f"left: {path}" for path in (self.folder / "jobs").iterdir()]
        store = Store(self.folder)
        try:
            if store.lost:
                problems.append(f"{store.lost} images are gone")
            known = {row["id"]: row for row in store.rows("SELECT * FROM studies")}
            if len(known) != len(planned):
                problems.append(f"{len(known)} studies, {len(planned)} were sent")
            for uid, files in planned.items():
                study = store.ids.study(uid)
                wanted = {
                    store.ids.instance(str(dcmread(file, stop_before_pixels=True).SOPInstanceUID)) for file in files
                }
                images = list((self.folder / "images" / study).glob("*.dcm"))
                if {path.stem for path in images} != wanted:
                    problems.append(f"{len(images)} images of a study, {len(wanted)} were sent")
                pixels = {bytes(dcmread(file).PixelData) for file in files}
                if any(bytes(dcmread(path).PixelData) not in pixels for path in images):
                    problems.append("an image with other pixels")
                rows = store.rows("SELECT * FROM reports WHERE study = ? ORDER BY version", study)
                if not rows or rows[-1]["images"] != set_digest(wanted) or rows[-1]["outcome"] == "refused":
                    problems.append(f"no current report of all images: {[dict(row)['outcome'] for row in rows]}")
        finally:
            store.close()
        return problems


class _Pacs:
    """Keeps what it gets, and sends every other report back to the node."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports
        self._ae: Any = None
        self.reports: dict[str, dict[str, str]] = {}
        self.again = self.back = 0
        self._lock = threading.Lock()

    def open(self) -> None:
        import logging

        from pynetdicom import AE, evt

        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
        self._ae = AE(ae_title="PACS")
        for end in ("88.33", "88.34", "7"):
            self._ae.add_supported_context(_CLASS + end)
        for _ in range(100):
            with contextlib.suppress(OSError):
                self._ae.start_server(
                    ("127.0.0.1", self._ports["pacs"]), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
                )
                return
            time.sleep(0.1)
        raise TimeoutError("the PACS' port stays taken")

    def close(self) -> None:
        if self._ae is not None:
            self._ae.shutdown()
            self._ae = None

    def _store(self, event: Any) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        if dataset.Modality != "SR":
            return 0
        before = ""
        if "PredecessorDocumentsSequence" in dataset:
            (study,) = dataset.PredecessorDocumentsSequence
            before = str(study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        with self._lock:
            got = self.reports.setdefault(str(dataset.StudyInstanceUID), {})
            uid = str(dataset.SOPInstanceUID)
            if uid in got:
                self.again += 1
                if got[uid] != before:
                    return 0xA900
            got[uid] = before
            send_back = len(got) % 2 == 1
        if send_back and _store_one(dataset, self._ports["node"]):
            self.back += 1
        return 0


def _store_one(dataset: Any, port: int) -> bool:
    from pynetdicom import AE

    ae = AE(ae_title="PACS")
    ae.acse_timeout = ae.dimse_timeout = 5
    ae.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", port, ae_title="MOLRE-EDGE")
    if not association.is_established:
        return False
    taken = getattr(association.send_c_store(dataset), "Status", None) == 0
    association.release()
    return taken


def send(title: str, listed: Path, port: int) -> None:
    """Send files until each was taken; note each that was. Every twentieth is sent once more."""
    import logging

    from pydicom import dcmread
    from pynetdicom import AE

    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    done = listed.with_suffix(".done")
    while True:
        taken = set(done.read_text().splitlines()) if done.exists() else set()
        left = [file for file in listed.read_text().splitlines() if file not in taken]
        if not left:
            return
        ae = AE(ae_title=title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
        ae.add_requested_context(f"{_CLASS}2", "1.2.840.10008.1.2.1")
        association = ae.associate("127.0.0.1", port, ae_title="MOLRE-EDGE")
        with done.open("a", buffering=1) as noted:
            for at, file in enumerate(left):
                if not association.is_established:
                    break
                for _ in range(2 if at % 20 == 0 else 1):
                    answer = association.send_c_store(dcmread(file))
                if getattr(answer, "Status", None) == 0:
                    noted.write(f"{file}\n")
        if association.is_established:
            association.release()
        time.sleep(0.3)


def _make_studies(folder: Path, count: int, shape: tuple[int, int, int], rng: random.Random) -> dict[str, list[Path]]:
    """Studies of a few synthetic heads, each with UIDs and a patient of its own: UID -> its files."""
    from pydicom import dcmread

    from molre_edge.synthetic import make_head, write_dicom_series

    heads = []
    for number, findings in enumerate([(), ("intraparenchymal_hemorrhage",), ("hydrocephalus",)], start=1):
        place = folder / f"head-{number}"
        write_dicom_series(make_head(number, findings, shape=shape), place)
        heads.append(sorted(place.iterdir()))
    made: dict[str, list[Path]] = {}
    for number in range(count):
        uid = f"2.25.{rng.getrandbits(100)}"
        target = folder / f"study-{number}"
        target.mkdir()
        for at, file in enumerate(heads[number % len(heads)]):
            dataset = dcmread(file)
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid, f"{uid}.1"
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{uid}.1.{at}"
            dataset.PatientID, dataset.PatientName = f"ID-{number}", f"Trial^{number}"
            dataset.save_as(target / f"{at:03d}.dcm")
            made.setdefault(uid, []).append(target / f"{at:03d}.dcm")
    return made


@contextlib.contextmanager
def _small_disk(place: Path, size_mb: int) -> Iterator[Path]:
    """A file system of its own, which can be full; the folder above it where none is asked for."""
    if not size_mb:
        yield place.parent
        return
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(ballast: Path) -> None:
    """Take all space that is left."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))


def _tally(lines: list[str], event: str) -> dict[str, int]:
    """Sums of the numbers in the log's lines of an event."""
    total: Counter[str] = Counter()
    for line in lines:
        if event in line:
            for word in line.split():
                key, _, value = word.partition("=")
                if value.isdigit():
                    total[key] += int(value)
    return dict(sorted(total.items()))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
