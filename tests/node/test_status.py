"""The status port answers on 127.0.0.1, to be read, without names."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from molre_edge.errors import RunError
from molre_edge.node.configuration import NodeConfig
from molre_edge.node.entries import Conclusion
from molre_edge.node.journal import Journal
from molre_edge.node.overview import Overview
from molre_edge.node.status import StatusPort
from molre_edge.node.store import Store

FACTS = {"engine": "onnxruntime:fp16", "bundle": "ab" * 32}


@pytest.fixture
def port(config: NodeConfig, store: Store, journal: Journal) -> Iterator[int]:
    with StatusPort(0, Overview(config, store, journal, FACTS)) as listening:
        yield listening.port


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def concluded(store: Store, study: str, outcome: Any, **values: Any) -> None:
    store.receive(study, f"{study}.1", b"head")
    job = store.next_job(0.0, 3600.0)
    assert job is not None
    store.conclude(job, Conclusion(outcome=outcome, **values), ["pacs"], ["sr"])


def test_a_node_without_work_is_well(port: int) -> None:
    status, text = get(port, "/health")
    data = json.loads(text)
    assert (status, data["state"], data["problems"], data["engine"]) == (200, "ok", [], FACTS["engine"])
    assert json.loads(get(port, "/queue")[1]) == {"studies": [], "destinations": []}


def test_what_needs_a_person_is_told_by_health(config: NodeConfig, store: Store, port: int) -> None:
    concluded(store, "1.2.3", "answered")
    store.not_delivered(store.due_deliveries("pacs")[0], "waiting", "no connection", 60.0)
    status, text = get(port, "/health")
    assert (status, json.loads(text)["problems"]) == (503, ["pacs: objects that wait: 1 (no connection)"])
    assert json.loads(get(port, "/queue")[1])["destinations"][0]["objects"] == 1


def test_what_lasts_is_told_by_health_until_it_is_over(journal: Journal, port: int) -> None:
    journal.trouble("orthanc", "Connection refused")
    assert json.loads(get(port, "/health")[1])["problems"] == ["orthanc: Connection refused"]
    journal.trouble("orthanc")
    assert get(port, "/health")[0] == 200


def test_a_report_that_nobody_sends_is_told(store: Store, port: int) -> None:
    concluded(store, "1.2.3", "answered")
    assert get(port, "/health")[0] == 200
    store._database.execute("UPDATE deliveries SET next_try = next_try - 700")
    assert json.loads(get(port, "/health")[1])["problems"] == ["pacs: objects that nobody sends: 1"]


def test_the_page_lists_studies_by_number_and_state_without_names(store: Store, port: int) -> None:
    concluded(store, "1.2.3", "answered")
    concluded(store, "1.2.4", "refused", code="not_head")
    store.receive("1.2.5", "1.2.5.1", b"head")
    status, page = get(port, "/")
    rows = re.findall(r'<th scope="row" class="n" data-label="study">(\d+)</th><td>([^<]+)</td>', page)
    assert status == 200
    assert rows == [("3", "arriving"), ("2", "can&#39;t be answered"), ("1", "to be sent")]
    assert "not_head" in page and "<script" not in page and "1.2.3" not in page and "study-" not in page


def test_metrics_are_prometheus_text(journal: Journal, store: Store, port: int) -> None:
    journal.count("images", 'what="new"', 3)
    journal.count("report_seconds_sum", by=1.5)
    journal.count("report_seconds_count")
    status, text = get(port, "/metrics")
    assert status == 200
    assert '# TYPE molre_edge_node_images_total counter\nmolre_edge_node_images_total{what="new"} 3\n' in text
    assert "# TYPE molre_edge_node_report_seconds summary\n" in text
    assert all(re.fullmatch(r"# TYPE \w+ \w+|\w+(\{[^}]*\})? [0-9.e+]+", line) for line in text.splitlines())


def test_a_page_of_elsewhere_whose_name_leads_here_gets_nothing(port: int) -> None:
    assert get(port, "/queue", Host="evil.example:80")[0] == 403
    assert get(port, "/queue", Host=f"localhost:{port}")[0] == 200


def test_other_paths_and_methods_get_nothing(port: int) -> None:
    assert get(port, "/../node.toml")[0] == 404
    with pytest.raises(urllib.error.HTTPError) as problem:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", data=b"x")
    problem.value.close()
    assert problem.value.code == 501


def test_a_port_that_is_taken_is_named(config: NodeConfig, store: Store, journal: Journal, port: int) -> None:
    with pytest.raises(RunError, match=f"status: can't listen on 127.0.0.1 port {port}"):
        StatusPort(port, Overview(config, store, journal, FACTS))


def test_images_that_are_missing_are_told(store: Store, port: int, tmp_path: Path) -> None:
    concluded(store, "1.2.3", "answered")
    store.delivered(store.due_deliveries("pacs")[0])
    store.remove_images(float("inf"))
    store.receive("1.2.3", "1.2.3.2", b"late")
    assert "whose older ones were removed, to be sent again whole: 1" in get(port, "/health")[1]
    store._database.execute("UPDATE studies SET last = last - 8 * 86400")
    assert get(port, "/health")[0] == 200  # a week later nobody will send it any more
