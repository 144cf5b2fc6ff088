"""The configuration is read once; a wrong key or value is named, with what was expected."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from molre_edge.errors import ConfigError
from molre_edge.node import configuration
from molre_edge.node.configuration import NodeConfig, Sender, read_config

LEAST = 'folder = "state"\nbundle = "edge-bundle"\n[[senders]]\nae_title = "CT1"\n'


def read(folder: Path, text: str) -> NodeConfig:
    path = folder / "node.toml"
    path.write_text(text)
    return read_config(path)


def test_three_keys_are_enough_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    found = read(tmp_path, LEAST)
    assert (found.folder, found.bundle) == (tmp_path / "state", tmp_path / "edge-bundle")
    assert (found.receive.address, found.receive.port, found.status.port) == ("127.0.0.1", 11112, 11180)
    assert found.results.objects == ("sr", "capture")


def test_everything_can_be_named(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        LEAST + 'addresses = ["10.1.0.0/16"]\n[receive]\nae_title = "NODE"\naddress = "0.0.0.0"\nlargest_pdu = 0\n'
        'tls = {certificate = "c.pem", key = "k.pem", authority = "a.pem"}\n[results]\nsr = "comprehensive"\n'
        'secondary_capture = false\n[[destinations]]\nname = "orthanc"\nkind = "stow"\nurl = "https://pacs/dicom-web"\n'
        '[[destinations]]\nname = "pacs"\nae_title = "PACS"\naddress = "10.1.2.3"\nretry_seconds = 1\n',
    )
    assert found.receive.tls is not None and found.receive.tls.key == tmp_path / "k.pem"
    assert [each.kind for each in found.destinations] == ["stow", "dicom"]
    assert found.results.objects == ("sr",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LEAST + "[receive]\nprot = 104", r"node.toml: receive: unknown key 'prot'; did you mean 'port'\?"),
        (LEAST + "[nothing]", "unknown key 'nothing'; known are folder, bundle"),
        ('folder = "state"', "the key 'bundle' is missing"),
        (LEAST.replace("[[senders]]", "[senders]"), "senders: expected a list"),
        (LEAST + "port = 1", "senders number 1: unknown key 'port'"),
        (LEAST + 'addresses = ["10.0.0.300"]', "addresses: expected an IP address or network, got '10.0.0.300'"),
        (LEAST + '[receive]\nport = "104"', "receive: port: expected a whole number, got '104'"),
        (LEAST + "[receive]\nport = true", "port: expected a whole number, got True"),
        (LEAST + "[receive]\nport = 70000", "port: expected 1 to 65535, got 70000"),
        (LEAST + '[receive]\nae_title = "SEVENTEEN LETTERS"', "expected 1 to 16 plain characters"),
        (LEAST + '[receive]\ntls = {certificate = "c.pem"}', "certificate and key go together"),
        (LEAST + "[study]\nquiet_seconds = 60\nlongest_seconds = 10", "longest_seconds: expected 60 to"),
        (LEAST + '[results]\nsr = "basic"', "sr: expected 'comprehensive3d' or 'comprehensive' or 'none', got 'basic'"),
        (LEAST + '[[destinations]]\nname = "a"', "destinations number 1: ae_title: expected 1 to 16"),
        (LEAST + '[[destinations]]\nname = "a"\nkind = "stow"\nurl = "ftp://a"', "needs a url.*: http or https"),
        (LEAST + "[status]\nport = 11112", "status and receive have the same port"),
        (LEAST + "[keep]\nimages_hours = 48\nreports_days = 1", "reports_days: expected 2 to"),
        ('folder = "state"\nbundle = "b"', "senders: name at least one"),
        (LEAST + '[orthanc]\nurl = "localhost:8042"', "orthanc: url: http or https"),
        ("folder = ", "not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, text)


def test_an_orthanc_is_followed_without_senders_too(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('folder = "state"\nbundle = "b"\n[orthanc]\nurl = "http://a:8042"\nheader_file = "h"\n')
    found = read_config(path, orthanc="http://b:8042").orthanc
    assert found is not None and (found.url, found.header_file) == ("http://b:8042", tmp_path / "h")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: the configuration can't be read"):
        read_config(tmp_path / "nowhere.toml")


def test_a_sender_is_known_by_title_and_address() -> None:
    sender = Sender(ae_title="CT1", addresses=("10.1.0.0/16", "10.2.0.7"))
    assert sender.allows("CT1", "10.1.9.9") and sender.allows("CT1", "::ffff:10.2.0.7")
    assert not sender.allows("CT2", "10.1.9.9") and not sender.allows("CT1", "10.2.0.8")
    assert Sender(ae_title="CT1").allows("CT1", "192.0.2.1")


def test_every_key_is_in_the_documentation(root: Path) -> None:
    page = (root / "docs" / "reference" / "node.md").read_text(encoding="utf-8")
    kinds = [getattr(configuration, name) for name in configuration.__all__ if name != "read_config"]
    keys = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    assert len(keys) > 30
    assert sorted(key for key in keys if f"`{key}`" not in page) == []
