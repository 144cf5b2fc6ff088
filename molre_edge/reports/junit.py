"""JUnit XML for CI: a test suite per run and its limits, a test case per check and per finding."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from molre_edge.files import write_whole
from molre_edge.parity.limits import ParityLimits
from molre_edge.parity.numbers import FindingNumbers, ParityNumbers
from molre_edge.parity.text import plain, rounded
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
    """The XML. A check that was not judged is skipped, so that nobody takes it for a pass.

    A check fails if it fails in the verdict. A finding fails if it breaks a limit by itself: on |dp|, on |dlogit|, on
    the drop of its AUC, on finite values, and on flips if none are allowed. The cases of the checks carry the verdict;
    those of the findings show where to look.
    """
    return document([_suite(place, name, report) for place, (name, report) in enumerate(reports)])


def document(suites: Sequence[ElementTree.Element]) -> str:
    """Several closed suites as one XML text."""
    root = ElementTree.Element("testsuites")  # without name and counts: Ant's schema has none for it
    root.extend(suites)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(place: int, name: str, report: Report) -> ElementTree.Element:
    limits = report.limits.name if report.limits else "none"
    properties = {
        "engine": report.engine.name,
        "runtime": report.engine.runtime,
        "device": report.engine.device,
        "reference": (report.verdict.reference if report.verdict else "") or report.reference.kind,
        "bundle": report.bundle.digest,
        "limits": limits,
        "limits source": report.limits_source if report.limits else "none",
    }
    suite = open_suite(place, f"parity of {name}, limits {limits}", report.created, properties)
    if report.verdict is None or report.numbers is None or report.limits is None:
        add_case(suite, "checks", "parity", skipped="nothing was compared with a reference")
    else:
        for check in report.verdict.checks:
            failed = check.text if check.judged and not check.passed else ""
            add_case(suite, "checks", check.name, failed, skipped="" if check.judged else check.text)
        if not report.verdict.passed and not report.verdict.failed:
            add_case(suite, "checks", "judged", "none of the limits could be judged; this is not a pass")
        broken = {name for each in report.numbers.nonfinite for name in each.findings}
        for finding in report.numbers.per_finding:
            add_case(suite, "findings", finding.finding, _why(finding, report.limits, report.numbers, broken))
    return close_suite(suite)


def open_suite(place: int, name: str, created: str, properties: Mapping[str, str]) -> ElementTree.Element:
    """A suite without cases.

    Args:
        place: number of the suite in the document, from 0.
        name: of the suite.
        created: time, ISO 8601.
        properties: name -> value, written into the suite.
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
    """Write the counts of its cases. Add no case afterwards."""
    for tag, total in (("testcase", "tests"), ("testcase/failure", "failures"), ("testcase/skipped", "skipped")):
        suite.set(total, str(len(suite.findall(tag))))
    suite.set("errors", "0")
    ElementTree.SubElement(suite, "system-out").text = DISCLAIMER
    ElementTree.SubElement(suite, "system-err")
    return suite


def add_case(suite: ElementTree.Element, part: str, name: str, failure: str = "", *, skipped: str = "") -> None:
    """Add a case. It passed unless `failure` or `skipped` gives a reason."""
    case = ElementTree.SubElement(
        suite, "testcase", classname=f"{_text(suite.get('name', ''))}.{part}", name=_text(name), time="0"
    )
    if skipped:
        ElementTree.SubElement(case, "skipped", message=_text(skipped))
    elif failure:
        element = ElementTree.SubElement(case, "failure", type="parity", message=_text(failure))
        element.text = _text(failure)


def _why(finding: FindingNumbers, limits: ParityLimits, numbers: ParityNumbers, broken: set[str]) -> str:
    """Which limits one finding breaks by itself; empty if it keeps them."""
    why = ["NaN or infinity"] if finding.finding in broken else []
    size = finding.dp.max_abs
    if size is not None and limits.max_abs_dp is not None and size > limits.max_abs_dp:
        why.append(f"largest |dp| {rounded(size, limits.max_abs_dp)}, allowed {plain(limits.max_abs_dp, 6)}")
    logit, most = finding.logit, limits.max_abs_dlogit
    if logit is not None and most is not None and logit.size > most:
        why.append(f"largest |dlogit| {rounded(logit.size, most)}, allowed {plain(most, 6)}")
    far = [flip for flip in finding.flips if flip.distance > limits.flip_margin_logit]
    if far and limits.max_far_flips_fraction == 0:
        why.append(f"{len(far)} of {numbers.n} decisions flipped far from the threshold, allowed none")
    untied = [flip for flip in finding.flips if not flip.tied]
    if untied and limits.max_flips_fraction == 0:
        why.append(f"{len(untied)} of {numbers.n} decisions flipped, allowed none")
    drop, most = finding.auc.drop if finding.auc else None, limits.max_finding_auc_drop
    if drop is not None and most is not None and drop > most:
        why.append(f"AUC drop {rounded(drop, most)}, allowed {plain(most, 6)}")
    return "; ".join(why)


def _text(value: str) -> str:
    """The text with a question mark for each character that XML forbids."""
    return _NOT_XML.sub("?", value)
