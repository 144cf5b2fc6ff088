"""The HTML report loads nothing, runs nothing, escapes every text, and words its verdict plainly."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from molre_edge.dicom_results.codes import code_of
from molre_edge.findings import default_findings
from molre_edge.parity import DEFAULT_LIMITS, Outputs, ParityLimits, compare, judge
from molre_edge.parity.numbers import FEW_CASES
from molre_edge.parity.text import area, typeset
from molre_edge.parity.whose import as_own_answers
from molre_edge.reports import charts
from molre_edge.reports import routing_maps as maps
from molre_edge.reports.charts import POINTS
from molre_edge.reports.parity_page import render
from molre_edge.reports.parity_report import BundleFacts, EngineFacts, FailedScan, ReferenceFacts, Report, TimingRow
from molre_edge.specs import DISCLAIMER, Precision

HOSTILE = "</title></style><script>alert('x')</script><img src=http://evil.example/p onerror=\"x\">&amp;{{ 7*7 }}"
VOID = {"meta", "br", "wbr", "link", "img", "input", "hr", "base", "embed", "source"}
CASES: dict[str, dict[str, Any]] = {
    "pass": {},
    "fail": {"size": 0.2},
    "no reference": {"compared": False},
    "one volume": {"n": 1},
    "no experts": {"n": 3, "gates": None},
    "one expert": {"n": 3, "gates": (1, 2, 1)},
    "not finite": {"n": 3, "broken": True},
}


class Page(HTMLParser):
    """Tags, attributes and text of a page; refuses tags that are not closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.style = ""
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def without_breaks(self) -> str:
        """All text, of which names lose the places where they may break."""
        return re.sub(r"\s+", "", "".join(self.words))


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, full_report: Callable[..., Report]) -> Report:
    return full_report(**CASES[request.param])


def worded(report: Report) -> str:
    """The words of a page; its pictures, which take most of the time, are left out."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (charts, maps):
            patch.setattr(module, "picture", lambda paint, **_: "<svg></svg>")
        return Page(render(report)).text


# Self-contained


def test_nothing_is_loaded_and_nothing_runs(case: Report) -> None:
    page = Page(render(case))
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form", "audio", "video"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in {"src", "srcset", "action", "data", "xlink:href"}
        if name == "href":
            assert value.startswith("#")
        if name == "style":
            assert "url" not in value
    assert "url(" not in page.style and "@import" not in page.style and "http" not in page.style
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_links_within_the_page_lead_somewhere(full_report: Callable[..., Report]) -> None:
    page = Page(render(full_report()))
    targets = {value for _, name, value in page.attributes if name == "id"}
    links = [value[1:] for _, name, value in page.attributes if name == "href"]
    assert links and set(links) <= targets


def test_every_report_carries_the_disclaimer_and_its_provenance(case: Report) -> None:
    text = worded(case)
    assert text.count(DISCLAIMER) == 2
    for word in (case.bundle.digest, case.command, case.created, case.engine.runtime, case.engine.device):
        assert word in text
    assert "report.json" in text


# Escaping


def hostile_report() -> Report:
    """A report in which every text that comes from outside is hostile."""
    rng = np.random.default_rng(0)
    reference = Outputs(rng.normal(size=(2, 2)), rng.normal(size=(2, 3)), rng.dirichlet([1, 1], size=(2, 1, 1)))
    engine = Outputs(-reference.logits, reference.embedding, reference.gates)
    engine.logits[0, 0] = np.nan
    names = (f"a_{HOSTILE}", f"b_{HOSTILE}")
    numbers = compare(reference, engine, findings=names, thresholds=np.array([0.5, 0.5]))
    limits = ParityLimits(name=f"limits {HOSTILE}", max_abs_dp=0.01)
    details = {f"key {HOSTILE}": f"value {HOSTILE}"}
    return Report(
        title=f"title {HOSTILE}",
        created=f"created {HOSTILE}",
        engine=EngineFacts(
            name=f"engine {HOSTILE}",
            precision=f"precision {HOSTILE}",
            runtime=f"runtime {HOSTILE}",
            device=f"device {HOSTILE}",
            details=details,
        ),
        reference=ReferenceFacts(kind="pytorch checkpoint", volumes=f"volumes {HOSTILE}", details=details),
        bundle=BundleFacts(digest=f"digest {HOSTILE}", checkpoint_sha256=f"c {HOSTILE}", graph_sha256=f"g {HOSTILE}"),
        findings=names,
        thresholds=(0.5, 0.5),
        scans=(f"one {HOSTILE}", f"two {HOSTILE}"),
        numbers=numbers,
        limits=limits,
        limits_source=f"source {HOSTILE}",
        verdict=judge(numbers, limits),
        reference_outputs=reference,
        engine_outputs=engine,
        groups={names[0]: f"group {HOSTILE}"},
        failed=(FailedScan(scan=f"failed {HOSTILE}", code=f"code {HOSTILE}", reason=f"reason {HOSTILE}"),),
        warnings={f"warned {HOSTILE}": (f"warning {HOSTILE}",)},
        timing=(
            TimingRow(
                who=f"who {HOSTILE}",
                phase=f"phase {HOSTILE}",
                median_ms=1,
                p90_ms=1,
                p95_ms=1,
                p99_ms=1,
                n=1,
                includes=f"includes {HOSTILE}",
            ),
        ),
        command=f"command {HOSTILE}",
        versions={f"library {HOSTILE}": f"version {HOSTILE}"},
        notes=(f"note {HOSTILE}",),
    )


def test_hostile_texts_are_shown_and_never_become_markup() -> None:
    page = Page(render(hostile_report()))
    assert "script" not in page.tags and "img" not in page.tags
    texts = {"aria-label", "alt"}  # read out, not followed
    assert not any("evil" in value or "alert" in value for _, name, value in page.attributes if name not in texts)
    shown = page.without_breaks()
    bare = re.sub(r"\s+", "", HOSTILE)
    head = ["title", "created", "limits", "source", "volumes", "one", "two", "a", "b", "group"]
    lists = ["who", "phase", "includes", "failed", "code", "reason", "warned", "warning", "note"]
    provenance = [
        "engine",
        "precision",
        "runtime",
        "device",
        "key",
        "value",
        "digest",
        "c",
        "g",
        "library",
        "version",
        "command",
    ]
    missing = [place for place in head + lists + provenance if f"{place}{bare}" not in shown]
    assert missing == []


# Verdict


def test_a_passed_report_says_so(full_report: Callable[..., Report]) -> None:
    source = render(full_report())
    text = Page(source).text
    assert "✓ Parity passed" in text
    assert "Limits fp16 (default) · 10 checks judged, 10 within their limits" in text
    assert "✗" not in text and "No parity judged" not in text
    assert '<section class="verdict pass"' in source


def test_the_verdict_names_its_reference_in_its_first_line(full_report: Callable[..., Report]) -> None:
    words = as_own_answers("answers.npz", 40, "path")
    for size, start in ((0.001, "✓ Parity passed : as your"), (0.2, "✗ Parity failed : not as your")):
        report = full_report(size=size)
        assert report.verdict is not None
        text = " ".join(Page(render(replace(report, verdict=replace(report.verdict, reference=words)))).text.split())
        assert f"{start} model answered (answers.npz, 40 scans, from scan files) Limits fp16" in text


def test_a_failed_report_says_so_and_why(full_report: Callable[..., Report]) -> None:
    report = full_report(size=0.2)
    source = render(report)
    text = Page(source).text
    assert "✗ Parity failed" in text and "Parity passed" not in text
    assert '<section class="verdict fail"' in source
    assert report.verdict is not None and len(report.verdict.failed) == 8
    for check in report.verdict.failed:
        assert text.count(typeset(check.text)) == 2  # at the top and in the table
    assert "10 checks judged, 2 within their limits" in text


def test_a_report_without_a_reference_judges_nothing(full_report: Callable[..., Report]) -> None:
    source = render(full_report(compared=False))
    text = Page(source).text
    assert "No parity judged" in text
    assert '<section class="verdict none"' in source
    for word in ("Parity passed", "Parity failed", "✓", "✗", "Findings", "Routing", "Worst scans", "Agreement"):
        assert word not in text
    assert "Milliseconds per scan" in text  # what was measured is still there


def test_limits_that_could_not_be_judged_are_not_a_pass(full_report: Callable[..., Report]) -> None:
    base = full_report(n=2)
    assert base.numbers is not None
    limits = ParityLimits(name="areas", max_mean_auc_drop=0.01)
    numbers = compare(
        base.reference_outputs,  # type: ignore[arg-type]
        base.engine_outputs,  # type: ignore[arg-type]
        findings=base.findings,
        thresholds=np.array(base.thresholds),
    )
    text = worded(full_report(n=2, numbers=numbers, limits=limits, verdict=judge(numbers, limits)))
    assert "✗ Parity failed" in text
    assert "None of the limits could be judged. This is not a pass." in text
    assert "9 not judged" in text


def test_a_value_just_beyond_its_limit_is_shown_beyond_it(full_report: Callable[..., Report]) -> None:
    base = full_report(n=2)
    assert base.numbers is not None and base.numbers.dp.max_abs is not None
    limit = base.numbers.dp.max_abs * (1 - 1e-6)
    limits = ParityLimits("tight", max_abs_dp=limit)
    source = render(full_report(n=2, limits=limits, verdict=judge(base.numbers, limits)))
    row = source[source.index(">Largest |Δp|</th>") :]
    cells = re.findall(r'data-label="(?:measured|limit)">(?:≤ )?([^<]*)</td>', row)[:2]
    measured, shown = (float(text.replace("−", "-")) for text in cells)
    assert measured > shown


def test_golden_answers_are_told_apart_from_the_scans_of_the_run(full_report: Callable[..., Report]) -> None:
    reference = ReferenceFacts(kind="golden answers", volumes="8 golden volumes of the bundle")
    text = worded(full_report(n=8, reference=reference))
    assert "Compared: 8 golden volumes of the bundle." in text
    assert "The scans of this run were not compared." in text
    assert "themselves were not compared" not in worded(full_report(n=8))


def test_scans_that_were_not_used_are_told_at_the_top_and_listed(full_report: Callable[..., Report]) -> None:
    text = worded(full_report(n=2))
    assert "2 scans were not used and are not in these numbers" in text
    assert "Modality is MR, expected CT" in text
    one = full_report(n=2, failed=(FailedScan(scan="scan-0003", code="not_ct", reason="MR"),))
    assert "1 scan was not used and is not in these numbers" in worded(one)
    assert "not used" not in worded(full_report(n=2, failed=()))


# Sections


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime:fp16"])
def test_the_precision_is_told_once(full_report: Callable[..., Report], name: str) -> None:
    engine = EngineFacts(name=name, precision="fp16", runtime="ONNX Runtime 1.32", device="CPU")
    text = worded(full_report(n=2, engine=engine))
    assert re.search(r"parity report .*? onnxruntime[: ]fp16 against pytorch checkpoint", text)


def test_facts_of_the_reference_are_told_apart_from_those_of_the_engine(full_report: Callable[..., Report]) -> None:
    reference = ReferenceFacts(kind="pytorch checkpoint", volumes="2 scans", details={"runtime": "PyTorch"})
    assert "reference: runtime PyTorch" in worded(full_report(n=2, reference=reference))


def test_every_finding_has_its_row_under_its_group(full_report: Callable[..., Report]) -> None:
    source = render(full_report(n=2))
    table = source.split('<table class="findings">')[1].split("</table>")[0]
    rows = re.findall(r'<th scope="row">(.*?)</th>|scope="rowgroup">(.*?) <span>', table)
    shown: dict[str, list[str]] = {}
    for finding, group in rows:
        if group:
            shown[group] = []
        else:
            shown[list(shown)[-1]].append(finding)
    expected: dict[str, list[str]] = {}
    for each in default_findings():
        expected.setdefault(each.group.replace("_", " "), []).append(code_of(each.name).meaning)
    assert shown == expected


def test_accuracy_has_the_counts_areas_rates_and_marks_of_every_labelled_finding(
    full_report: Callable[..., Report],
) -> None:
    report = full_report(size=0.2, n=60)
    assert report.numbers is not None
    page = render(report)
    [table] = re.findall(r'<table class="accuracy cards">(.*?)</table>', page, re.S)
    pairs = [Page(pair).text.split() for pair in re.findall(r'<tbody class="pair">(.*?)</tbody>', table, re.S)]
    assert len(pairs) == 75
    marks = set()
    for pair, numbers in zip(pairs, report.numbers.per_finding, strict=True):
        assert numbers.decisions is not None
        shown, counts = " ".join(pair), (numbers.decisions.positives, numbers.decisions.negatives)
        assert " ".join([code_of(numbers.finding).meaning, *numbers.marks, *map(str, counts), "reference"]) in shown
        assert ("few cases" in numbers.marks) is (min(counts) < FEW_CASES)
        marks |= set(numbers.marks)
        for rate in (*numbers.decisions.reference, *numbers.decisions.engine):
            assert rate is None or f"{area(rate.value)} [{area(rate.low)}, {area(rate.high)}]" in shown
        if numbers.auc is None:
            assert "–" in shown
            continue
        for value, (low, high) in (
            (numbers.auc.reference, numbers.auc.reference_interval),
            (numbers.auc.engine, numbers.auc.engine_interval),
        ):
            assert f"{area(value)} [{area(low)}, {area(high)}]" in shown
    assert marks == {"few cases", "near chance"}
    assert f"few cases {sum('few cases' in each.marks for each in report.numbers.per_finding)} of 75" in Page(page).text


def test_an_auc_that_did_not_move_does_not_look_certain(full_report: Callable[..., Report]) -> None:
    report = full_report(size=0.0, n=20)
    text = worded(report)
    assert report.numbers is not None and report.numbers.aucs
    for _, auc in report.numbers.aucs:
        assert auc.not_excluded is not None and f"0 ±{area(auc.not_excluded)} not excluded" in text
    assert "[0, 0]" not in text and "no pair of scans changed its order" in text


def test_findings_of_no_known_group_are_shown_as_other(full_report: Callable[..., Report]) -> None:
    names = tuple(f"finding_{i}" for i in range(75))
    base = full_report(n=2)
    numbers = compare(
        base.reference_outputs,  # type: ignore[arg-type]
        base.engine_outputs,  # type: ignore[arg-type]
        findings=names,
        thresholds=np.array(base.thresholds),
    )
    changes = {"findings": names, "numbers": numbers}
    assert "other · 75" in worded(full_report(n=2, **changes))
    assert "mine · 1" in worded(full_report(n=2, **changes, groups={"finding_3": "mine"}))


def test_routing_is_shown_for_experts_and_only_then(full_report: Callable[..., Report]) -> None:
    text = worded(full_report(n=3))
    assert "5 routers, 6 experts, 8 gate vectors per volume, one a slice." in text
    assert ": routing depends on the scan." in text
    assert "3 routers, 2 experts, one gate vector per volume." in worded(full_report(n=3, gates=(1, 3, 2)))
    assert "1 router, 2 experts" in worded(full_report(n=3, gates=(1, 1, 2)))
    assert "No routing to prove: the model has no experts." in worded(full_report(n=3, gates=None))
    assert "No routing to prove: the model has a single expert." in worded(full_report(n=3, gates=(4, 2, 1)))


def test_routing_that_was_not_shown_to_depend_on_the_scan_is_not_said_to(
    full_report: Callable[..., Report], make_outputs: Callable[..., Outputs]
) -> None:
    assert "A single volume can't show that routing depends on the scan." in worded(full_report(n=1))
    still = make_outputs(n=3)
    assert still.gates is not None
    still.gates[:] = still.gates[:1]
    base = full_report(n=3)
    numbers = compare(still, still, findings=base.findings, thresholds=np.array(base.thresholds))
    text = worded(full_report(n=3, numbers=numbers, reference_outputs=still, engine_outputs=still))
    assert "too little to show that routing depends on the scan" in text
    assert ": routing depends on the scan" not in text


def test_a_single_volume_is_told_in_the_singular(full_report: Callable[..., Report]) -> None:
    text = worded(full_report(n=1))
    assert "1 volume × 75 findings" in text and "1 volumes" not in text
    assert "2 volumes × 75 findings" in worded(full_report(n=2))


def test_without_the_outputs_there_is_no_picture(full_report: Callable[..., Report]) -> None:
    text = worded(full_report(n=2, reference_outputs=None, engine_outputs=None))
    assert "Agreement" not in text and "Worst scans" in text


def test_values_that_are_not_finite_are_shown_as_such(full_report: Callable[..., Report]) -> None:
    source = render(full_report(n=3, broken=True))
    text = Page(source).text
    assert "✗ Parity failed" in text
    assert "NaN or infinity in engine logits of volume 3" in text
    assert text.count("not finite") >= 3
    assert "nan" not in re.findall(r"\b[a-z]+\b", text.replace("NaN", ""))
    assert not re.search(r'="[^"]*\b(nan|inf)\b[^"]*"', source)  # no geometry from them


def test_a_report_in_which_nothing_is_finite_can_be_shown(
    full_report: Callable[..., Report], make_outputs: Callable[..., Outputs]
) -> None:
    base = full_report(n=3)
    nothing = make_outputs(n=3)
    for array in (nothing.logits, nothing.embedding, nothing.gates):
        assert array is not None
        array[:] = np.nan
    numbers = compare(nothing, nothing, findings=base.findings, thresholds=np.array(base.thresholds))
    changes = {"numbers": numbers, "reference_outputs": nothing, "engine_outputs": nothing}
    source = render(full_report(n=3, **changes, verdict=judge(numbers, DEFAULT_LIMITS[Precision.FP16])))
    assert "✗ Parity failed" in source
    assert not re.search(r'="[^"]*\b(nan|inf)\b[^"]*"', source)


def test_an_engine_without_any_difference_can_be_shown(full_report: Callable[..., Report]) -> None:
    source = render(full_report(size=0.0, n=3))
    assert "✓ Parity passed" in source
    assert 'class="limit"' not in source.split('<h2 id="findings">')[1]  # a scale of nothing has no place for the limit


def test_hundreds_of_scans_make_a_page_of_moderate_size_in_moderate_time(full_report: Callable[..., Report]) -> None:
    scans = tuple(f"scan-{i + 1:04d}" for i in range(500))
    report = full_report(
        size=0.05,
        n=500,
        gates=(1, 2, 3),
        failed=tuple(FailedScan(scan=scan, code="not_ct", reason="Modality is MR") for scan in scans[:200]),
    )
    began = time.process_time()
    source = render(report)
    assert time.process_time() - began < 5
    assert len(source) < 1_000_000
    assert report.numbers is not None and len(report.numbers.flips) > 300
    marks = source.split("<h3>How many differ")[0].count("<use ")
    assert POINTS - 300 <= marks <= POINTS + 40  # and the ticks
    assert re.search(r"\d+ of 37500 scan-findings: flips, the largest differences", source)
    assert source.count('class="flip"') <= 4 * 75
    assert " more</span>" in source
    assert "200 scans were not used" in Page(source).text
