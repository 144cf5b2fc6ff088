"""The commands that are killed, and what must hold after a kill and after the same command is called again."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from molre_edge.adapters.file import read_adapter_file
from molre_edge.adapters.store import ADAPTERS, AdapterStore
from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import list_engines, read_engine, write_engine
from molre_edge.runs.answers import read_record
from molre_edge.runs.scan_table import read_entries

__all__ = ["COMMANDS", "Assets", "Command", "answered", "check_bundle"]


_OLD_ENGINE = b"an older engine"


@dataclass(frozen=True)
class Assets:
    """What commands work on; nothing in it is changed. `adapters` holds a bundle that takes them, and two of them."""

    checkpoint: Path
    bundle: Path
    scans: Path
    limits: Path | None = None
    data: Path | None = None
    adapters: Path | None = None
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


def _same_graphs(one: Bundle, other: Bundle) -> None:
    files = [
        {name: digest for name, digest in each.manifest["files"].items() if name.startswith("graphs/")}
        for each in (one, other)
    ]
    assert files[0] == files[1], files


def _export_state(work: Path) -> str:
    if not (work / "bundle").exists():
        return "no bundle"
    check_bundle(work / "bundle")
    return "a whole bundle"


def _export_check(work: Path, uncut: Path, said: str) -> None:
    bundles = [check_bundle(each / "bundle") for each in (work, uncut)]
    assert bundles[0].manifest["files"].keys() == bundles[1].manifest["files"].keys()
    _same_graphs(*bundles)


def _replace_state(work: Path) -> str:
    assert (work / "bundle").exists(), "the old bundle is lost"
    bundle, old = check_bundle(work / "bundle"), (work / "old digest").read_text()
    return "the old bundle" if bundle.digest == old else "the new bundle"


def _calibrate_state(work: Path) -> str:
    files = check_bundle(work / "bundle").manifest["files"]
    return "with int8" if "graphs/int8.onnx" in files else "without int8"


def _calibrate_check(work: Path, uncut: Path, said: str) -> None:
    assert _calibrate_state(work) == _calibrate_state(uncut) == "with int8"
    _same_graphs(*(check_bundle(each / "bundle") for each in (work, uncut)))


def _build_state(work: Path) -> str:
    bundle = check_bundle(work / "bundle")
    engines = [read_engine(bundle, engine) for engine in list_engines(bundle)]
    if (work / "old engine").exists():
        assert engines, "the old engine is lost"
        return "the old engine" if engines == [_OLD_ENGINE] else "the new engine"
    return f"{len(engines)} whole engines"


def _build_check(work: Path, uncut: Path, said: str) -> None:
    assert _build_state(work) == _build_state(uncut) in ("1 whole engines", "the new engine")


def _train_state(work: Path) -> str:
    from molre_edge.model.checkpoint_file import read_checkpoint_file
    from molre_edge.training.state import load_state

    state = load_state(work / "ckpt-training" / "state.pt")
    if (work / "ckpt.pt").exists():
        read_checkpoint_file(work / "ckpt.pt")
        return "a whole checkpoint"
    return f"{state.epoch} epochs" if state is not None else "no epoch"


def _train_check(work: Path, uncut: Path, said: str) -> None:
    assert (work / "ckpt.pt").read_bytes() == (uncut / "ckpt.pt").read_bytes(), "another checkpoint"
    rows = []
    for each in (work, uncut):
        with (each / "ckpt-training" / "metrics.csv").open(newline="") as file:
            rows.append([{name: row[name] for name in row if name != "seconds"} for row in csv.DictReader(file)])
    assert rows[0] == rows[1], rows


def answered(work: Path) -> int:
    """How many scans of the run in a work folder have an answer."""
    return len(list((work / "run" / "outputs").glob("scan-*.npz")))


def _infer_state(work: Path) -> str:
    run = work / "run"
    for path in (run / "outputs").glob("scan-*.npz"):
        read_record(path, path.stem)
    for path in [*run.glob("[!.]*.json"), *(work / "state").glob("[!.]*.json")]:
        json.loads(path.read_text())
    (work / "answered").write_text(str(answered(work)))
    if not (run / "scans.csv").exists():
        return "not begun"
    scans = sum(entry.status in ("pending", "done") for entry in read_entries(run / "scans.csv", torn=True))
    return "all answered" if answered(work) == scans else "some answered" if answered(work) else "none answered"


def _infer_check(work: Path, uncut: Path, said: str) -> None:
    for name in ("findings.csv", "scans.csv", "slices.csv"):
        assert (work / "run" / name).read_bytes() == (uncut / "run" / name).read_bytes(), name
    before = int((work / "answered").read_text()) if (work / "answered").exists() else 0
    found = re.search(r"Scans: (\d+) to do(?:, (\d+) done before)?", said)
    assert found is not None and (int(found[1]), int(found[2] or 0)) == (answered(work) - before, before), said


def _no_preparation(assets: Assets, work: Path) -> None:
    (work / "state").mkdir()


def _copy_bundle(assets: Assets, work: Path) -> None:
    shutil.copytree(assets.bundle, work / "bundle")
    (work / "old digest").write_text(Bundle.open(work / "bundle").digest)


def _bundle_with_engine(assets: Assets, work: Path) -> None:
    _copy_bundle(assets, work)
    bundle, graph = Bundle.open(work / "bundle"), "graphs/fp32.onnx"
    write_engine(bundle, "rtx-fp32", _OLD_ENGINE, {"graph": {"file": graph, "sha256": bundle.manifest["files"][graph]}})
    (work / "old engine").touch()


def _bundle_with_adapters(assets: Assets, work: Path) -> None:
    """Two adapters, of the second one two versions."""
    assert assets.adapters is not None
    (work / "state").mkdir()
    shutil.copytree(assets.adapters / "edge-bundle", work / "bundle")
    store = AdapterStore(work / "bundle")
    for name in ("older", "newer"):
        adapter, content = read_adapter_file(assets.adapters / f"{name}.adapter")
        store.put(adapter, content)


def _bundle_for_adapters(assets: Assets, work: Path) -> None:
    assert assets.adapters is not None
    (work / "state").mkdir()
    shutil.copytree(assets.adapters / "edge-bundle", work / "bundle")


def _adapters_state(work: Path) -> str:
    """Which adapters there are, each read whole; the default must answer."""
    check_bundle(work / "bundle")
    store = AdapterStore(work / "bundle")
    index = store.index()
    assert store.read().name == "default"
    return ", ".join(f"{name} {store.read(name).training['created']}" for name in sorted(index.adapters))


def _adapters_check(work: Path, uncut: Path, said: str) -> None:
    assert _adapters_state(work) == _adapters_state(uncut)
    kept = [sorted(path.name for path in (each / "bundle" / ADAPTERS).iterdir()) for each in (work, uncut)]
    assert kept[0] == kept[1], kept


def _adapter(*words: str) -> Callable[[Assets, Path], list[object]]:
    return lambda assets, work: ["adapter", *words, "--bundle", work / "bundle"]


def _add_adapter(assets: Assets, work: Path) -> list[object]:
    assert assets.adapters is not None
    file = assets.adapters / "newer.adapter"
    return ["adapter", "add", file, "--bundle", work / "bundle", *_limits(assets)]


def _once(done: Callable[[AdapterStore], bool], *words: str) -> Callable[[Assets, Path], list[object]]:
    """A command that is called again only where it was not done before the kill; else another that changes nothing."""

    def called(assets: Assets, work: Path) -> list[object]:
        return _adapter(*(("default", "default") if done(AdapterStore(work / "bundle")) else words))(assets, work)

    return called


def _is_older(store: AdapterStore) -> bool:
    return bool(store.read("other").training["created"] == "older")


def _build(assets: Assets, work: Path) -> list[object]:
    return ["build", "--engine", "fp32", "--target", "rtx", "--bundle", work / "bundle"]


def _limits(assets: Assets) -> list[object]:
    return [] if assets.limits is None else ["--limits", assets.limits]


def _export(assets: Assets, work: Path) -> list[object]:
    return ["export", assets.checkpoint, "-o", work / "bundle", "--golden-volumes", 3, "--force", *_limits(assets)]


COMMANDS: dict[str, Command] = {
    "adapter add": Command(_add_adapter, _bundle_for_adapters, _adapters_state, _adapters_check),
    "adapter rollback": Command(
        _once(_is_older, "rollback", "other"), _bundle_with_adapters, _adapters_state, _adapters_check
    ),
    "adapter remove": Command(
        _once(lambda store: "other" not in store.index().adapters, "remove", "other"),
        _bundle_with_adapters,
        _adapters_state,
        _adapters_check,
    ),
    "export": Command(_export, lambda a, w: None, _export_state, _export_check),
    "export over a bundle": Command(_export, _copy_bundle, _replace_state, _export_check),
    "calibrate": Command(
        lambda a, w: ["calibrate", a.scans, "--bundle", w / "bundle", *_limits(a)],
        _copy_bundle,
        _calibrate_state,
        _calibrate_check,
    ),
    "build": Command(_build, _copy_bundle, _build_state, _build_check),
    "build over an engine": Command(_build, _bundle_with_engine, _build_state, _build_check),
    "train": Command(
        lambda a, w: [
            *("train", a.data or "", "-o", w / "ckpt.pt", "--init", a.checkpoint, "--adapter", "none", "--epochs", 2)
        ],
        lambda a, w: None,
        _train_state,
        _train_check,
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
"""By name. `train` needs the assets' labelled scans, `adapter ...` their adapters."""
