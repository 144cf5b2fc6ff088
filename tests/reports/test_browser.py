"""The pages in a real browser: nothing fails, nothing is asked of the network, and they fit a desk, a phone and paper.

Needs Chromium (Debian: ``apt-get install chromium``), driven over its DevTools protocol through a pair of pipes.
Screenshots are written into the folder that MOLRE_EDGE_SCREENSHOTS names, if it does.
"""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibration_report import report
from PIL import Image

from molre_edge.parity import Outputs
from molre_edge.reports import calibration_page
from molre_edge.reports.bench_page import write_bench
from molre_edge.reports.explanation_page import Pair, write_explanation
from molre_edge.reports.parity_report import KeySlice, Report
from molre_edge.reports.side_by_side import Side, put_side_by_side
from molre_edge.reports.template import render_template
from molre_edge.reports.write import write_comparison, write_report

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
DESK, PHONE, SMALL = (1280, 900), (390, 844), (320, 640)
PATIENCE = 60.0
BEYOND = """[...document.querySelectorAll('main *')].filter(element => {
    if (element.closest('.scroll') && !element.matches('.scroll')) return false;  // these scroll by themselves
    if (element.closest('svg') && !element.matches('svg')) return false;
    return element.getBoundingClientRect().right > window.innerWidth + 1;
}).map(element => element.outerHTML.slice(0, 80))"""
"""What is cut off at the right."""

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed: apt-get install chromium")


class Browser:
    """A headless Chromium with one tab."""

    def __init__(self, folder: Path) -> None:
        assert PROGRAM is not None
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()

        def take_pipes() -> None:  # Chromium reads commands from descriptor 3 and answers on 4
            spare = [os.dup(commands), os.dup(answers)]
            os.dup2(spare[0], 3)
            os.dup2(spare[1], 4)

        command = [PROGRAM, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        quiet: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, close_fds=False, preexec_fn=take_pipes, **quiet)
        os.close(commands)
        os.close(answers)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        self._session = None
        with contextlib.suppress(OSError, AssertionError):
            self.ask("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what happens meanwhile is kept in `events`."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            chunk = os.read(self._read, 1 << 20)
            assert chunk, "the browser has gone"
            self._buffer += chunk
        text, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(text))

    def open(self, page: Path, size: tuple[int, int], *, dark: bool = False, media: str = "screen") -> None:
        """Show a page at a size; `events` then are those of this page."""
        width, height = size
        self.events.clear()
        phone = width < 600
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.ask("Page.navigate", url=page.as_uri())
        deadline = time.monotonic() + PATIENCE
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            assert time.monotonic() < deadline, "the page does not load"
            self.events.append(self._next())

    def value_of(self, expression: str) -> Any:
        """What an expression gives, or the promise that it gives."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def complaints(self) -> list[Any]:
        """Errors, warnings and console messages of the page."""
        wanted = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
        return [event for event in self.events if event.get("method") in wanted]

    def requests(self) -> list[str]:
        """Addresses that were asked for."""
        sent = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


# ---------------------------------------------------------------------------------------------------------- the pages

CASES: dict[str, dict[str, Any]] = {
    "pass": {},
    "fail": {"size": 0.2},
    "no reference": {"compared": False},
    "one volume": {"n": 1},
    "no experts": {"n": 3, "gates": None},
    "not finite": {"n": 3, "broken": True},
    "many": {"n": 300, "size": 0.02, "gates": (1, 24, 6)},
}


def key_slice(scan: str) -> KeySlice:
    file = io.BytesIO()
    Image.fromarray(np.full((64, 64), 128, dtype=np.uint8)).save(file, "PNG")
    data = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return KeySlice(scan=scan, data=data, width=64, height=64, slice=3, slices=8, by_routing=True)


EXPLANATION: dict[str, Any] = {
    "headline": "Parity failed: as your model answered (answers.npz, 4 scans, from volumes on the model's grid)",
    "answers_agree": False,
    "step": "windows",
    "text": "Your model windows HU otherwise: window 2 is (50, 130), the checkpoint's is (80, 200). " * 3,
    "notes": ["gates to backbone features differs too"],
    "changes_tried": 120,
    "chain": [
        {"start": "grid", "end": "logits", "steps": ["slice order", "HU", "windows", "gates", "backbone features"]}
        | {"differs": True, "scan": "scan-0001", "size": 0.34, "allowed": 4e-4, "yours": -1.25, "ours": None}
    ],
    "causes": [
        {"step": "windows", "your_model": "windows HU otherwise", "difference_left": 1e-7, "scans": 4}
        | {"to_fix": 'in the checkpoint, "windows": [[40, 80], [50, 130], [600, 2800]]'}
    ],
}


def both_sides() -> list[Pair]:
    rng = np.random.default_rng(0)
    plane, values = rng.normal(40, 20, (64, 64)), rng.normal(size=75)
    images = Pair("Windowed channels, scan-0001, slice 3", "with the change", plane, plane + 5, (0.0, 80.0))
    return [images, Pair("Logits, scan-0001", "your model's", values, values + 0.1, None)]


@pytest.fixture(scope="module")
def pages(full_report: Callable[..., Report], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every kind of page, by name."""
    root = tmp_path_factory.mktemp("pages")
    reports = {name: full_report(**changes) for name, changes in CASES.items()}
    long = "an_engine_with_a_name_that_nobody_would_choose_and_that_has_no_place_to_break:fp16" * 2
    reports["long"] = replace(
        reports["fail"],
        title=long,
        command="molre-edge infer " + "x" * 300,
        engine=replace(reports["fail"].engine, name=long),
    )
    found = {name: write_report(root / name, report)[1] for name, report in reports.items()}
    slices = [key_slice(f"scan-{i:04d}") for i in range(1, 8)]
    found["pictures"] = write_report(root / "pictures", reports["pass"], slices)[1]
    names = ("pass", "fail", "no reference", "pass", "fail", "pass", "long")
    sides = []
    for i, name in enumerate(names):
        answers = reports[name].engine_outputs or reports["pass"].engine_outputs
        assert isinstance(answers, Outputs)
        keys = tuple(str(scan) for scan in range(len(answers)))
        sides.append(Side(name=f"onnxruntime:fp16 (run-{i})", report=reports[name], keys=keys, answers=answers))
    for name, some in (("two runs", sides[:2]), ("seven runs", sides)):
        found[name] = write_comparison(root / name, put_side_by_side(some, "2026-11-02T10:15:04Z"))[1]
    (root / "explanation").mkdir()
    found["explanation"] = write_explanation(root / "explanation", EXPLANATION, ["logits to logits"], both_sides())
    return found


@pytest.fixture(scope="module")
def other_pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of calibration, bench and the node, with names as long as real ones."""
    folder = tmp_path_factory.mktemp("other pages")
    long = "stages_3_blocks_2_attention_of_windows_output_projection"
    calibration = report()
    calibration["ranking"][0]["name"] = calibration["layers"][0]["node"] = long
    calibration["comparisons"] *= 2
    for each in calibration["comparisons"]:
        judged = {"judged": True, "measured": 0.123456, "limit": 1.0}
        each["verdict"]["checks"] = [{**check, **judged} for check in each["verdict"]["checks"]]
        each["findings"][0]["finding"] = "traumatic_subarachnoid_hemorrhage_of_the_convexity"
    (folder / "calibration.html").write_text(calibration_page.render(calibration), encoding="utf-8")
    names = [f"tensorrt-rtx:{precision}" for precision in ("fp32", "fp16", "int8")]
    times = dict.fromkeys(("median_ms", "p90_ms", "p95_ms", "p99_ms", "compute_ms", "scans_per_second"), 12345.678)
    row = {**times, "batch": 16, "rounds": 50, "total_ms": [10.0, 12.0], "to_first": (0.51, 0.49, 0.53)}
    row |= {
        "answers": "right",
        "to_plain": (1.01, 1.0, 1.02),
        "watts": {"VDD_GPU_SOC": 12.3},
        "joules_per_scan": {"VDD_GPU_SOC": 0.4},
    }
    memory = dict.fromkeys(("peak_mib", "resident_mib", "gpu_mib"), 1234.5)
    runner = {"runtime": "TensorRT-RTX", "version": "1.7.1.116", "device": "NVIDIA GeForce RTX 5090 Laptop GPU"}
    bench = {
        "rows": [{**row, "name": name} for name in names],
        "runners": {name: {**runner, "load_seconds": 1.5, "memory": memory} for name in names},
        "volumes": "3 golden volumes", "grid": [32, 224, 224], "created": "2026-11-02", "bundle": "0" * 64,
        "answers": {name: {"passed": False, "limits": "default", "problems": [long * 2]} for name in names},
        "includes": {"total": "all of it"}, "idle_watts": {"VDD_GPU_SOC": 3.2}, "not_ready": {"torch:fp32": long * 2},
        "machine": {"before": {"cpu": long, "load_1min": 0.5}}, "molre-edge": "1",
    }  # fmt: skip
    health = {"engine": "tensorrt:fp16", "bundle": "0" * 64, "version": "1", "up_seconds": 9e5, "problems": [long * 2]}
    study = {"number": 12345, "state": "can't be answered", "images": 1234, "version": 12, "problem": long}
    times = dict.fromkeys(("last_image", "report", "next_try"), "2026-11-02 10:15:04")
    waits = {"destination": long, "objects": 1234, "refused": 12, "attempts": 12, "problem": long, **times}
    node = {"well": False, "health": health, "queue": {"studies": [], "destinations": [waits]}}
    page = render_template("node.html", {**node, "studies": [{**study, **times}] * 3})
    (folder / "node.html").write_text(page, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in ("calibration", "node")} | {
        "bench": write_bench(folder, bench)[1]
    }


PAGES = [*CASES, "long", "pictures", "two runs", "seven runs", "explanation"]


def keep(browser: Browser, name: str) -> Image.Image:
    """A screenshot, kept where somebody wants to see it."""
    data = browser.screenshot()
    folder = os.environ.get("MOLRE_EDGE_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name.replace(' ', '-')}.png").write_bytes(data)
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in PAGES for size in (DESK, PHONE)]
    + [(name, SMALL) for name in ("fail", "long", "seven runs")],
)
def test_a_page_shows_without_errors_asks_for_nothing_and_fits(
    browser: Browser, pages: dict[str, Path], name: str, size: tuple[int, int]
) -> None:
    browser.open(pages[name], size)
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith("data:")] == [pages[name].as_uri()]
    assert browser.value_of("document.documentElement.scrollWidth") <= size[0]
    assert browser.value_of(BEYOND) == []
    assert browser.value_of("document.querySelector('.verdict').getBoundingClientRect().top < window.innerHeight")
    picture = keep(browser, f"{name}-{size[0]}")
    assert picture.width == size[0] and picture.height > 700 - size[0] // 4


@pytest.mark.parametrize("size", [PHONE, SMALL])
@pytest.mark.parametrize("name", ["calibration", "bench", "node"])
def test_a_page_of_wide_tables_fits_a_phone_and_its_tables_scroll_by_themselves(
    browser: Browser, other_pages: dict[str, Path], name: str, size: tuple[int, int]
) -> None:
    browser.open(other_pages[name], size)
    assert browser.complaints() == []
    assert browser.value_of("document.documentElement.scrollWidth") <= size[0]
    assert browser.value_of(BEYOND) == []
    assert browser.value_of("[...document.querySelectorAll('.scroll')].filter(e => e.tabIndex !== 0).length") == 0
    heights = browser.value_of("[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)")
    assert min(heights, default=10) > 8
    keep(browser, f"{name}-{size[0]}")


@pytest.mark.parametrize("name", ["pass", "seven runs"])
def test_texts_of_pictures_lie_within_them_and_are_large_enough_on_a_phone(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    browser.open(pages[name], PHONE)
    outside = """[...document.querySelectorAll('svg.plot')].flatMap(svg => {
        const box = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].filter(text => {
            const mine = text.getBoundingClientRect();
            return mine.left < box.left - 3 || mine.right > box.right + 3 || mine.bottom > box.bottom + 3;
        }).map(text => text.textContent);
    })"""
    assert browser.value_of(outside) == []
    heights = browser.value_of(
        "[...document.querySelectorAll('svg.plot text')].map(t => t.getBoundingClientRect().height)"
    )
    assert heights and min(heights) > 8


def brightness(browser: Browser, name: str) -> float:
    return float(np.asarray(keep(browser, name).convert("L"), dtype=np.float32).mean())


@pytest.mark.parametrize("name", ["fail", "two runs"])
def test_light_and_dark_follow_the_reader_s_setting_and_paper_is_white(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    browser.open(pages[name], DESK)
    light = brightness(browser, f"{name}-light")
    browser.open(pages[name], DESK, dark=True)
    assert browser.complaints() == []
    dark = brightness(browser, f"{name}-dark")
    browser.open(pages[name], DESK, dark=True, media="print")
    assert dark < 80 < 200 < light
    assert browser.value_of("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("name", ["pass", "fail", "many", "seven runs"])
def test_it_prints_on_a4_with_nothing_cut_off(browser: Browser, pages: dict[str, Path], name: str) -> None:
    a4_px = (round(184 / 25.4 * 96), 1000)  # the width between the margins
    browser.open(pages[name], a4_px, media="print")
    assert browser.value_of("document.documentElement.scrollWidth") <= a4_px[0]
    data = base64.b64decode(browser.ask("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert data.startswith(b"%PDF") and 2 <= data.count(b"/Type /Page\n") <= 30


AXE = find_spec("axe_playwright_python")
"""The package that carries axe-core's script; nothing of it is imported."""


LESS = """{
    document.querySelectorAll('svg').forEach(svg => svg.replaceChildren());
    document.querySelectorAll('tbody:nth-of-type(n+6), tr:nth-of-type(n+16)').forEach(rows => rows.remove());
}"""
"""Leaves of each table the first rows, and of pictures their names: all of them take axe half a minute."""


@pytest.mark.skipif(AXE is None, reason="axe-core is not installed: make venv, or pip install axe-playwright-python")
@pytest.mark.parametrize(
    ("name", "size", "dark"),
    [
        ("fail", DESK, False),
        ("pictures", PHONE, True),
        ("two runs", DESK, True),
        ("explanation", PHONE, False),
        ("calibration", DESK, True),
        ("calibration", PHONE, False),
        ("bench", DESK, False),
        ("node", PHONE, True),
    ],
)
def test_axe_finds_nothing_that_keeps_readers_out(
    browser: Browser, pages: dict[str, Path], other_pages: dict[str, Path], name: str, size: tuple[int, int], dark: bool
) -> None:
    """Contrast, headers, names of pictures, reach by keyboard, order of headings and more: all rules of axe-core."""
    browser.open((pages | other_pages)[name], size, dark=dark)
    assert AXE is not None and AXE.submodule_search_locations
    script = Path(AXE.submodule_search_locations[0]) / "axe.min.js"
    browser.value_of(script.read_text(encoding="utf-8") + "; 0")
    browser.value_of(LESS)
    found = browser.value_of("""axe.run({resultTypes: ['violations']}).then(result => result.violations.map(
        each => `${each.impact} ${each.id}: ${each.nodes.length} times, as in ${each.nodes[0].html.slice(0, 200)}`
    ))""")
    assert found == []
