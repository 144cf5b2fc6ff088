"""JUnit XML, so that a CI can gate on parity: a test suite a run and gate, a test case a check and a finding."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from molre_edge.files import write_whole
from molre_edge.parity.limits import ParityLimits
from molre_edge.parity.numbers import FindingNumbers, ParityNumbers
from molre_edge.parity.text import rounded
from molre_edge.reports.parity_report import Report
from molre_edge.specs import DISCLAIMER

__all__ = ["JUNIT_FILE", "add_case", "close_suite", "document", "junit", "open_suite", "write_junit"]

JUNIT_FILE = "junit.xml"
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(folder: Path, reports: Sequence[tuple[str, Report]]) -> Path:
    """Write ``junit.xml`` whole.

    Args:
        folder: of the file.
        reports: (name of the run, its report).
    """
    path = folder / JUNIT_FILE
    text = junit(reports)
    with write_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    return path


def junit(reports: Sequence[tuple[str, Report]]) -> str:
    """The XML. What is not judged is skipped, so that nobody takes it for a pass.

    A check fails as in the verdict. A finding fails when it alone breaks a limit that the gate sets for each finding:
    on |dp|, on the drop of its AUC, on finite values, and on flips where the gate allows none. So the checks' cases
    alone carry the verdict, and the findings' say where to look.
    """
    return document([_suite(place, name, report) for place, (name, report) in enumerate(reports)])


def document(suites: Sequence[ElementTree.Element]) -> str:
    """Closed suites as one XML text."""
    root = ElementTree.Element("testsuites")  # without name and counts: Ant's schema has none here
    root.extend(suites)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(place: int, name: str, report: Report) -> ElementTree.Element:
    gate = report.gate.name if report.gate else "none"
    properties = {
        "engine": report.engine.name,
        "runtime": report.engine.runtime,
        "device": report.engine.device,
        "reference": report.reference.kind,
        "bundle": report.bundle.digest,
        "gate": gate,
        "gate source": report.limits_source if report.gate else "none",
    }
    suite = open_suite(place, f"parity of {name}, gate {gate}", report.created, properties)
    if report.verdict is None or report.numbers is None or report.gate is None:
        add_case(suite, "checks", "parity", skipped="nothing was compared with a reference")
    else:
        for check in report.verdict.checks:
            failed = check.text if check.judged and not check.passed else ""
            add_case(suite, "checks", check.name, failed, skipped="" if check.judged else check.text)
        if not report.verdict.passed and not report.verdict.failed:
            add_case(suite, "checks", "judged", "none of the gate's limits could be judged; that is not a pass")
        broken = {name for each in report.numbers.nonfinite for name in each.findings}
        for finding in report.numbers.per_finding:
            add_case(suite, "findings", finding.finding, _why(finding, report.gate, report.numbers, broken))
    return close_suite(suite)


def open_suite(place: int, name: str, created: str, properties: Mapping[str, str]) -> ElementTree.Element:
    """A suite without cases.

    Args:
        place: among the suites of the document.
        name: of the suite.
        created: ISO 8601.
        properties: shown with it.
    """
    suite = ElementTree.Element(
        "testsuite",
        name=_text(name),
        timestamp=_text(created)[:19],
        hostname="localhost",
        id=str(place),
        package="molre_edge.parity",
        time="0",
    )
    parent = ElementTree.SubElement(suite, "properties")
    for key, value in properties.items():
        ElementTree.SubElement(parent, "property", name=key, value=_text(value))
    return suite


def close_suite(suite: ElementTree.Element) -> ElementTree.Element:
    """Count its cases; none may follow."""
    for tag, total in (("testcase", "tests"), ("testcase/failure", "failures"), ("testcase/skipped", "skipped")):
        suite.set(total, str(len(suite.findall(tag))))
    suite.set("errors", "0")
    ElementTree.SubElement(suite, "system-out").text = DISCLAIMER
    ElementTree.SubElement(suite, "system-err")
    return suite


def add_case(suite: ElementTree.Element, part: str, name: str, failure: str = "", *, skipped: str = "") -> None:
    """A case that passed, unless it says why it failed or was skipped."""
    case = ElementTree.SubElement(
        suite, "testcase", classname=f"{_text(suite.get('name', ''))}.{part}", name=_text(name), time="0"
    )
    if skipped:
        ElementTree.SubElement(case, "skipped", message=_text(skipped))
    elif failure:
        element = ElementTree.SubElement(case, "failure", type="parity", message=_text(failure))
        element.text = _text(failure)


def _why(finding: FindingNumbers, gate: ParityLimits, numbers: ParityNumbers, broken: set[str]) -> str:
    """Which limits one finding breaks by itself; nothing when it keeps them."""
    why = ["NaN or infinity"] if finding.finding in broken else []
    size = finding.dp.max_abs
    if size is not None and gate.max_abs_dp is not None and size > gate.max_abs_dp:
        why.append(f"largest |dp| {rounded(size, gate.max_abs_dp)}, allowed {gate.max_abs_dp:g}")
    flips = [flip for flip in finding.flips if flip.distance > gate.flip_margin]
    if flips and gate.max_flips_fraction == 0:
        why.append(f"{len(flips)} of {numbers.n} decisions flipped, allowed none")
    if finding.auc is not None and gate.max_finding_auc_drop is not None:
        drop = finding.auc.drop
        if drop > gate.max_finding_auc_drop:
            why.append(f"AUC drop {rounded(drop, gate.max_finding_auc_drop)}, allowed {gate.max_finding_auc_drop:g}")
    return "; ".join(why)


def _text(value: str) -> str:
    """Without the characters that XML can't hold."""
    return _NOT_XML.sub("?", value)
