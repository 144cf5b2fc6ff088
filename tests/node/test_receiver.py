"""What arrives is on the disk before its sender is told of success; who and what is not wanted is refused by name."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shutil
import socket
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_images import CT, EXPLICIT, SR, Lines, image, save
from waiting import wait_until

from molre_edge.errors import RunError
from molre_edge.node.configuration import NodeConfig, Sender, Tls
from molre_edge.node.header import IMAGE_CLASSES
from molre_edge.node.journal import Journal
from molre_edge.node.receiver import _PDU_SECONDS, SYNTAXES, Receiver
from molre_edge.node.store import Store
from molre_edge.scans.dicom_kind import LOSSLESS


@pytest.fixture
def receiver(config: NodeConfig, store: Store, journal: Journal) -> Iterator[Receiver]:
    with Receiver(config, store, journal) as listening:
        yield listening


def associate(config: NodeConfig, title: str = "CT1", called: str = "MOLRE-EDGE", classes: Any = (CT,)) -> Any:
    from pynetdicom import AE

    ae = AE(ae_title=title)
    for uid in ("1.2.840.10008.1.1", *classes):
        ae.add_requested_context(uid)
    return ae.associate("127.0.0.1", config.receive.port, ae_title=called)


def send(config: NodeConfig, *datasets: Any) -> list[int]:
    association = associate(config, classes=(CT, SR))
    assert association.is_established
    statuses = [int(association.send_c_store(each).Status) for each in datasets]
    association.release()
    return statuses


def test_images_are_kept_as_files_of_their_syntax(config: NodeConfig, receiver: Receiver, store: Store) -> None:
    from pydicom import dcmread

    assert send(config, image("1.2.3", 1), image("1.2.3", 2), image("1.2.3", 2)) == [0, 0, 0]
    files = list((store.folder / "images").rglob("*.dcm"))
    kept = dcmread(files[0])
    assert len(files) == 2
    assert (kept.StudyInstanceUID, kept.file_meta.TransferSyntaxUID) == ("1.2.3", EXPLICIT)


def test_an_image_is_synced_before_success(
    config: NodeConfig, receiver: Receiver, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real = store.receive

    def receive(*words: Any) -> Any:
        result = real(*words)
        order.append("kept")
        return result

    monkeypatch.setattr(store, "receive", receive)
    association = associate(config)
    association.send_c_store(image("1.2.3", 1))
    order.append("told")
    association.release()
    assert order == ["kept", "told"]


def test_echo_is_answered(config: NodeConfig, receiver: Receiver) -> None:
    association = associate(config)
    assert association.send_c_echo().Status == 0
    association.release()


@pytest.mark.parametrize(("title", "called"), [("CT2", "MOLRE-EDGE"), ("CT1", "OTHER")])
def test_unknown_callers_and_other_titles_are_rejected(
    config: NodeConfig, receiver: Receiver, title: str, called: str
) -> None:
    assert associate(config, title, called).is_rejected


def test_where_the_log_can_t_be_written_callers_are_rejected_and_senders_served_as_ever(
    config: NodeConfig, store: Store
) -> None:
    class Full(Lines):
        def info(self, text: str) -> None:
            raise OSError(28, "No space left on device")

        warn = info

    with Receiver(config, store, Journal(Full())):
        assert associate(config, "CT2").is_rejected
        assert send(config, image("1.2.3", 1)) == [0]


def test_an_error_of_the_list_rejects(config: NodeConfig, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> bool:
        raise ValueError("no address")

    monkeypatch.setattr(Sender, "allows", fails)
    assert not associate(config).is_established


def test_a_known_title_from_another_address_is_rejected(
    config: NodeConfig, store: Store, journal: Journal, lines: Lines
) -> None:
    elsewhere = dataclasses.replace(config, senders=(Sender(ae_title="CT1", addresses=("192.0.2.0/24",)),))
    with Receiver(elsewhere, store, journal):
        assert associate(config).is_rejected
    assert lines.warned[0].endswith("rejected reason=address sender=CT1")


def test_callers_that_stop_in_the_middle_of_a_pdu_are_closed_then_kept_out_and_senders_served(
    config: NodeConfig, store: Store, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call() -> socket.socket:
        return stack.enter_context(socket.create_connection(("127.0.0.1", config.receive.port), 60, ("127.0.0.2", 0)))

    few = dataclasses.replace(config, receive=dataclasses.replace(config.receive, associations=2))
    with Receiver(few, store, journal) as receiver, contextlib.ExitStack() as stack:
        with monkeypatch.context() as patch:
            for name, seconds in (("_PDU_SECONDS", 0.2), ("_LOOK_SECONDS", 0.05)):
                patch.setattr(f"molre_edge.node.receiver.{name}", seconds)
            patch.setattr(receiver._ae, "acse_timeout", 0.3)
            callers = []
            for stated in (b"\x00\x00\x00\x64", *[b"\xff\xff\xff\xff"] * 3):  # one that is allowed, others too long
                callers.append(call())
                callers[-1].sendall(b"\x01\x00" + stated)
            assert [caller.recv(1) for caller in callers] == [b""] * 4
            wait_until(lambda: not receiver.open_associations)
        assert call().recv(1) == b""
        assert journal.counts()["connections_closed", ""] >= 1
        assert send(config, image("1.2.3", 2)) == [0]  # in its own time, however busy the machine is


def test_one_address_has_no_more_associations_than_its_share(
    config: NodeConfig, store: Store, journal: Journal, lines: Lines
) -> None:
    one = dataclasses.replace(config, receive=dataclasses.replace(config.receive, associations_per_address=1))
    with Receiver(one, store, journal) as receiver:
        first, second = associate(config), associate(config)
        assert first.is_established and second.is_rejected
        assert (second.acceptor.primitive.result, lines.warned[0].split(" ", 2)[2]) == (2, "reason=busy sender=CT1")
        first.release()
        wait_until(lambda: not receiver.open_associations)
        assert send(config, image("1.2.3", 1)) == [0]


def test_checks_that_only_open_the_port_keep_no_sender_of_their_address_out(
    config: NodeConfig, store: Store, journal: Journal
) -> None:
    with Receiver(config, store, journal) as receiver:
        for _ in range(10):
            socket.create_connection(("127.0.0.1", config.receive.port), 60).close()
            wait_until(lambda: not receiver.open_associations)  # and not 30 s later
        assert send(config, image("1.2.3", 1)) == [0]
        assert journal.counts().get(("connections_closed", ""), 0) == 0


def test_the_node_ends_while_a_caller_is_in_the_middle_of_a_pdu(
    config: NodeConfig, store: Store, journal: Journal
) -> None:
    with socket.socket() as caller:
        with Receiver(config, store, journal) as receiver:
            caller.connect(("127.0.0.1", config.receive.port))
            caller.sendall(b"\x01\x00\x00\x00\x00\x64")
            wait_until(lambda: receiver.open_associations)
            begun = time.monotonic()
        assert time.monotonic() - begun < _PDU_SECONDS / 2


def test_below_the_floor_of_the_disk_images_are_refused_until_there_is_space(
    config: NodeConfig, store: Store, journal: Journal
) -> None:
    free = [10]
    with Receiver(config, store, journal, free_bytes=lambda: free[0]):
        assert send(config, image("1.2.3", 1)) == [0xA700]
        free[0] = 10**9
        assert send(config, image("1.2.3", 2)) == [0]
        assert store.next_job(0.0, 3600.0) is None  # half a study is not answered as if it were whole
        assert send(config, image("1.2.3", 1)) == [0]
        assert store.next_job(0.0, 3600.0) is not None


def test_a_disk_that_fails_is_told_and_nothing_is_left(
    config: NodeConfig, receiver: Receiver, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("molre_edge.node.store.write_durable", full)
    assert send(config, image("1.2.3", 1)) == [0xA700]
    assert store.rows("SELECT * FROM studies") == []


def test_an_image_whose_uid_is_not_the_announced_one_is_refused(config: NodeConfig, receiver: Receiver) -> None:
    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.dsutils import encode

    wrong = image("1.2.3", 1)
    association = associate(config)
    (context,) = (each for each in association.accepted_contexts if each.abstract_syntax == CT)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 0
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CT, "1.2.3.77"
    request.DataSet = io.BytesIO(encode(wrong, False, True) or b"")
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    assert answer.Status == 0xA900


def test_our_own_report_coming_back_starts_nothing_and_a_foreign_one_is_refused(
    config: NodeConfig, receiver: Receiver, store: Store
) -> None:
    own = image("1.2.3", 1, SR, Manufacturer="molre-edge", ManufacturerModelName="molre-edge", Modality="SR")
    foreign = image("1.2.3", 2, SR, Manufacturer="another", Modality="SR")
    assert send(config, own, foreign) == [0, 0x0122]
    assert store.rows("SELECT * FROM studies") == []


def test_every_syntax_and_class_of_ct_that_is_read_is_accepted(config: NodeConfig, receiver: Receiver) -> None:
    from pynetdicom import AE

    assert set(LOSSLESS) <= set(SYNTAXES)
    ae = AE(ae_title="CT1")
    wanted = [(uid, syntax) for uid in IMAGE_CLASSES for syntax in SYNTAXES]
    for uid, syntax in wanted:
        ae.add_requested_context(uid, syntax)
    association = ae.associate("127.0.0.1", config.receive.port, ae_title="MOLRE-EDGE")
    got = [(each.abstract_syntax, each.transfer_syntax[0]) for each in association.accepted_contexts]
    association.release()
    assert sorted(got) == sorted(wanted)


def test_the_log_names_senders_and_counts_and_no_person(config: NodeConfig, receiver: Receiver, lines: Lines) -> None:
    send(config, image("1.2.3", 1), image("1.2.3", 1), image("1.2.3", 2))
    receiver.drain(60.0)
    (line,) = lines.told
    assert line.endswith("received sender=CT1 again=1 new=2")
    assert not any(word in line for word in ("Okonkwo", "ID-8812", "1.2.3"))


def test_after_draining_nobody_is_accepted(config: NodeConfig, receiver: Receiver) -> None:
    receiver.drain(1.0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", config.receive.port)).close()


def test_a_port_that_is_taken_is_named(config: NodeConfig, receiver: Receiver, store: Store, journal: Journal) -> None:
    with pytest.raises(RunError, match=f"port {config.receive.port} .*: another program may have it"):
        Receiver(config, store, journal).__enter__()


def test_a_header_is_parsed_in_bounds(config: NodeConfig) -> None:
    from molre_edge.errors import ScanError
    from molre_edge.node.header import identity

    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = packer.compress(bytes(40_000_000)) + packer.flush()
    for dataset, syntax in [(bomb, f"{SYNTAXES[0]}.99"), (b"", EXPLICIT), (b"\xff" * 100, EXPLICIT), (b"no", EXPLICIT)]:
        with pytest.raises(ScanError, match="no Study and SOP Instance UID"):
            identity(dataset, syntax)


def test_each_syntax_s_header_is_understood(tmp_path: Path) -> None:
    from pynetdicom.dsutils import encode

    from molre_edge.node.header import identity

    dataset = image("1.2.3", 1)
    for syntax, implicit, little in [("1.2.840.10008.1.2", True, True), (EXPLICIT, False, True),
                                     ("1.2.840.10008.1.2.2", False, False)]:  # fmt: skip
        assert identity(encode(dataset, implicit, little) or b"", syntax) == ("1.2.3", "1.2.3.9.1")
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = packer.compress(encode(dataset, False, True) or b"") + packer.flush()
    assert identity(deflated, f"{EXPLICIT}.99") == ("1.2.3", "1.2.3.9.1")


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make certificates")
def test_with_tls_only_senders_with_a_certificate_are_heard(
    config: NodeConfig, store: Store, journal: Journal, tmp_path: Path
) -> None:
    import ssl

    from pynetdicom import AE

    for name in ("node", "stranger"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-subj", "/CN=localhost", "-keyout", str(tmp_path / f"{name}.key"),
             "-out", str(tmp_path / f"{name}.pem")],
            check=True, capture_output=True,
        )  # fmt: skip
    own = tmp_path / "node.pem"
    tls = Tls(certificate=own, key=tmp_path / "node.key", authority=own)
    receive = dataclasses.replace(config.receive, tls=tls)

    def established(*chain: Path) -> bool:
        context = ssl.create_default_context(cafile=str(own))
        if chain:
            context.load_cert_chain(*chain)
        ae = AE(ae_title="CT1")
        ae.add_requested_context(CT)
        association = ae.associate("127.0.0.1", receive.port, ae_title="MOLRE-EDGE", tls_args=(context, "localhost"))
        if association.is_established:
            association.release()
            return True
        return False

    with Receiver(dataclasses.replace(config, receive=receive), store, journal):
        assert established(own, tmp_path / "node.key")
        assert not established(tmp_path / "stranger.pem", tmp_path / "stranger.key")
        assert not associate(config).is_established


@pytest.mark.skipif(not Path("/usr/bin/storescu").exists(), reason="DCMTK is not installed")
def test_dcmtk_s_storescu_and_echoscu_are_served(
    config: NodeConfig, receiver: Receiver, store: Store, tmp_path: Path
) -> None:
    save(image("1.2.3", 1), tmp_path / "a.dcm")
    peer = ["-aet", "CT1", "-aec", "MOLRE-EDGE", "127.0.0.1", str(config.receive.port)]
    subprocess.run(["/usr/bin/echoscu", *peer], check=True)
    subprocess.run(["/usr/bin/storescu", *peer, str(tmp_path / "a.dcm")], check=True)
    assert len(store.rows("SELECT * FROM images")) == 1
