"""A benchmark as data and as a page: figures, what each time includes, and what they were measured on."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molre_edge import __version__
from molre_edge.benchmarking.measure import INCLUDES, NOT_TOLD, Measurement, Row
from molre_edge.benchmarking.power import NvmlGpu
from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import list_engines
from molre_edge.engines.tensorrt.fit import BuiltFor
from molre_edge.engines.tensorrt.runner import RUNTIMES
from molre_edge.errors import BundleError
from molre_edge.files import write_json, write_whole
from molre_edge.machine import cpu_model, cpu_state, usable_cores
from molre_edge.specs import DISCLAIMER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["all_engines", "bench_json", "machine_facts", "write_bench"]

_FORMAT, _VERSION = "molre-edge-bench", 1


def all_engines(bundle: Bundle) -> list[str]:
    """A word for each runner that the bundle could have: its graphs on ONNX Runtime, and its engines."""
    words = [f"onnxruntime:{precision}" for precision in bundle.graphs]
    try:
        built = [BuiltFor.of(engine) for engine in list_engines(bundle)]
    except BundleError:  # 'verify' and 'inspect' tell of it
        built = []
    return list(dict.fromkeys([*words, *(f"{RUNTIMES[str(each.target)]}:{each.precision}" for each in built)]))


def machine_facts(gpu: NvmlGpu | None) -> dict[str, Any]:
    """What the figures were measured on; called before and after, since clocks and load change."""
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: NOT_TOLD if value is None else value for name, value in cpu_state().items()},
        "gpu": NOT_TOLD if gpu is None else {k: NOT_TOLD if v is None else v for k, v in gpu.facts().items()},
    }


def bench_json(
    bundle: Bundle,
    measured: Measurement,
    rows: Sequence[Row],
    *,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    volumes: str,
) -> dict[str, Any]:
    """All of a benchmark; docs/bench.md describes it.

    Args:
        bundle: whose engines were measured.
        measured: what was measured.
        rows: its figures.
        before: the machine before.
        after: and after.
        volumes: what was run, in words.
    """
    arms = {(arm.name, arm.batch): arm for arm in measured.arms}
    figures = []
    for row in rows:
        arm = arms[row.name, row.batch]
        figures.append(
            {
                **{name: _rounded(value) for name, value in asdict(row).items()},
                "watts": arm.watts or measured.no_power,
                "joules_per_scan": arm.joules_per_scan or measured.no_power,
                "total_ms": [round(value, 3) for value in arm.total_ms],
            }
        )
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "molre-edge": __version__,
        "bundle": bundle.digest,
        "volumes": volumes,
        "grid": list(bundle.grid.shape),
        "includes": dict(INCLUDES),
        "machine": {"before": dict(before), "after": dict(after)},
        "idle_watts": dict(measured.idle_watts) or measured.no_power,
        "runners": dict(measured.facts),
        "not_ready": dict(measured.absent),
        "rows": figures,
        "disclaimer": DISCLAIMER,
    }


def write_bench(folder: Path, result: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write ``bench.json`` and ``bench.html``, each whole; the page stands alone."""
    from molre_edge.reports.plots import picture
    from molre_edge.reports.template import render_template

    write_json(folder / "bench.json", result)
    rows = result["rows"]
    chart = picture(
        lambda figure: _paint(figure, rows),
        name="bench",
        alt="Milliseconds per scan of each runner and batch size: quartiles, median and extremes of the rounds",
        width=760.0,
        height=70.0 + 34.0 * len(rows),
    )
    page = render_template("bench.html", {"bench": result, "chart": chart, "not_told": NOT_TOLD})
    with write_whole(folder / "bench.html") as partial:
        partial.write_text(page, encoding="utf-8")
    return folder / "bench.json", folder / "bench.html"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    return [_rounded(each) for each in value] if isinstance(value, tuple) else value


def _paint(figure: Figure, rows: Sequence[Mapping[str, Any]]) -> None:
    """A box a row, in milliseconds per scan."""
    from molre_edge.reports.plots import COLOURS, SERIES, tidy

    axes = figure.add_subplot()
    names = list(dict.fromkeys(row["name"] for row in rows))
    line = {"color": COLOURS["ink"]}
    boxes = axes.boxplot(
        [[value / row["batch"] for value in row["total_ms"]] for row in reversed(rows)],
        orientation="horizontal",
        whis=(0, 100),
        widths=0.6,
        patch_artist=True,
        medianprops=line,
        whiskerprops=line,
        capprops=line,
    )
    for box, row in zip(boxes["boxes"], reversed(rows), strict=True):
        box.set(facecolor=SERIES[names.index(row["name"]) % len(SERIES)], edgecolor=COLOURS["ink"])
    axes.set_yticks(range(1, len(rows) + 1), [f"{row['name']}, batch {row['batch']}" for row in reversed(rows)])
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds per scan (box: quartiles and median of the rounds; whiskers: all of them)")
    tidy(axes, "x")
