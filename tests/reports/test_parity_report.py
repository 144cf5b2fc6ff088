"""report.json keeps to its schema in every case, and a report is written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from molre_edge.reports.parity_report import SCHEMA_VERSION, EngineFacts, ReferenceFacts, Report, TimingRow
from molre_edge.reports.write import write_report
from molre_edge.specs import DISCLAIMER

SCHEMA = json.loads(resources.files("molre_edge.reports").joinpath("report.schema.json").read_text(encoding="utf-8"))
CASES: dict[str, dict[str, Any]] = {
    "pass": {},
    "fail": {"size": 0.2},
    "no reference": {"compared": False},
    "one volume": {"n": 1},
    "no experts": {"n": 3, "gates": None},
    "one expert": {"n": 3, "gates": (1, 2, 1)},
    "not finite": {"n": 3, "broken": True},
    "golden": {"reference": ReferenceFacts(kind="golden answers", volumes="24 golden volumes of the bundle")},
    "bare": {"compared": False, "timing": (), "failed": (), "warnings": {}, "notes": (), "versions": {}, "command": ""},
}


def closed(schema: Any) -> Any:
    """The schema with every object closed: what is written must also be described."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {key: closed(each) for key, each in schema.items()}
    return {"additionalProperties": False, **copy} if "properties" in schema and "type" in schema else copy


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, full_report: Callable[..., Report]) -> Report:
    return full_report(**CASES[request.param])


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema_version"]["const"] == SCHEMA_VERSION


def test_report_json_keeps_to_the_schema_and_holds_nothing_that_it_does_not_describe(
    case: Report, tmp_path: Path
) -> None:
    path, _ = write_report(tmp_path, case)
    data = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    jsonschema.Draft202012Validator(closed(SCHEMA)).validate(data)
    assert data == json.loads(json.dumps(case.to_dict()))


def test_readers_of_this_schema_accept_fields_that_come_later(full_report: Callable[..., Report]) -> None:
    data = full_report(n=3).to_dict()
    data["later"] = data["engine"]["later"] = data["numbers"]["per_finding"][0]["later"] = 1
    jsonschema.Draft202012Validator(SCHEMA).validate(data)


@pytest.mark.parametrize(
    "path", [("verdict",), ("numbers", "gates", "l1"), ("numbers", "per_finding", 0, "flips"), ("engine", "device")]
)
def test_the_schema_refuses_what_is_missing_or_of_another_type(
    full_report: Callable[..., Report], path: tuple[Any, ...]
) -> None:
    data = full_report(n=3).to_dict()
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = {"not": "this"}
    if path[-1] == "l1":
        place.pop("max_l1")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(data)


def test_the_report_says_what_it_is(case: Report) -> None:
    data = case.to_dict()
    assert data["schema_version"] == 2
    assert data["disclaimer"] == DISCLAIMER
    assert (data["verdict"] is None) == (data["limits"] is None) == (data["numbers"] is None)
    assert len(data["thresholds"]) == len(data["findings"]) == 75


def test_indices_lead_to_scans_and_findings(full_report: Callable[..., Report]) -> None:
    data = full_report(size=0.2).to_dict()
    worst = data["numbers"]["worst_scans"][0]
    assert data["scans"][worst["scan"]] in {f"scan-{i + 1:04d}" for i in range(24)}
    entry = data["numbers"]["per_finding"][worst["finding"]]
    assert entry["finding"] == data["findings"][worst["finding"]]
    assert entry["max_abs_dlogit"] == data["numbers"]["max_abs_dlogit"] == worst["max_abs_dlogit"]


def test_a_number_that_is_not_finite_becomes_null_and_a_note_says_where(full_report: Callable[..., Report]) -> None:
    row = TimingRow(
        who="engine", phase="compute", median_ms=1.0, p90_ms=float("inf"), p95_ms=1.0, p99_ms=1.0, n=1, includes=""
    )
    data = full_report(n=2, timing=(row,), notes=("first",)).to_dict()
    assert data["timing"][0]["p90_ms"] is None
    assert data["notes"] == ["first", "timing[0].p90_ms is null because it was not a finite number"]


def test_all_files_are_written_into_a_folder_that_may_not_exist(
    full_report: Callable[..., Report], tmp_path: Path
) -> None:
    paths = write_report(tmp_path / "a" / "b", full_report(n=2))
    assert paths == (tmp_path / "a" / "b" / "report.json", tmp_path / "a" / "b" / "report.html")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["junit.xml", "report.html", "report.json"]


def test_a_report_that_can_not_be_written_leaves_the_last_one_as_it_was(
    full_report: Callable[..., Report], tmp_path: Path
) -> None:
    good = full_report(n=2)
    before = [path.read_bytes() for path in write_report(tmp_path, good)]
    with pytest.raises(TypeError):
        write_report(tmp_path, replace(good, versions={"numpy": {1, 2}}))  # type: ignore[dict-item]
    assert [(tmp_path / name).read_bytes() for name in ("report.json", "report.html")] == before
    assert len(list(tmp_path.iterdir())) == 3


def test_a_name_that_is_not_utf8_is_written_as_an_escape(full_report: Callable[..., Report], tmp_path: Path) -> None:
    command = b"molre-edge infer scans/\xff\xe9".decode("utf-8", "surrogateescape")
    paths = write_report(tmp_path, full_report(n=2, command=command))
    text, page = (path.read_bytes().decode("utf-8") for path in paths)  # both are UTF-8 all the same
    assert json.loads(text)["command"] == command
    assert "scans/\\udcff\\udce9" in page


def test_the_same_report_is_written_the_same_way(full_report: Callable[..., Report], tmp_path: Path) -> None:
    first, second = (write_report(tmp_path / name, full_report(n=3)) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"limits": None}, "numbers, limits and verdict come together; missing: limits"),
        ({"verdict": None, "numbers": None}, "come together; missing: numbers, verdict"),
        ({"reference": ReferenceFacts(kind="none")}, "reference 'none' with numbers"),
        ({"numbers": None, "limits": None, "verdict": None}, "reference 'pytorch checkpoint' without numbers"),
        ({"thresholds": (0.5,)}, "75 findings, 1 thresholds"),
        ({"scans": ("scan-0001",)}, "2 volumes compared, 1 scan ids"),
        ({"findings": ("a",), "thresholds": (0.5,)}, "75 findings compared, 1 names"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(
    full_report: Callable[..., Report], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        full_report(n=2, **change)


def test_facts_of_the_engine_are_kept_as_given(full_report: Callable[..., Report]) -> None:
    engine = EngineFacts(
        name="tensorrt", precision="fp16", runtime="TensorRT 10.3", device="Orin", details={"timing cache": "none"}
    )
    assert full_report(n=2, engine=engine).to_dict()["engine"] == {
        "name": "tensorrt",
        "precision": "fp16",
        "runtime": "TensorRT 10.3",
        "device": "Orin",
        "threads": None,
        "details": {"timing cache": "none"},
    }
