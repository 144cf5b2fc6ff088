"""What a node is told: one TOML file, read once at the start. docs/reference/node.md explains every key."""

from __future__ import annotations

import dataclasses
import ipaddress
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from molre_edge.errors import ConfigError
from molre_edge.files import StrPath, read_regular
from molre_edge.node.toml_tables import read_table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]  # installed on 3.10 only

__all__ = [
    "Destination",
    "Disk",
    "Keep",
    "NodeConfig",
    "Orthanc",
    "Receive",
    "Results",
    "Sender",
    "Status",
    "Study",
    "Tls",
    "read_config",
]

_LARGEST_FILE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Certificates, PEM files. For what we receive: our own, and who may sign senders'; for a destination: the inverse.

    Attributes:
        certificate: our certificate, with its chain.
        key: its private key.
        authority: the certificates that the other side's must be signed by. Default: the system's.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None

    def __post_init__(self) -> None:
        """Certificate and key go together."""
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("certificate and key go together")


@dataclass(frozen=True, kw_only=True)
class Receive:
    """Where images arrive.

    Attributes:
        ae_title: ours; senders must call it.
        address: of the interface to listen on.
        port: to listen on.
        largest_pdu: bytes of a PDU that senders may send; 0 for no limit but that of 2^24.
        associations: so many senders at once.
        associations_per_address: how many of them may come from one address.
        tls: encrypts; both sides show certificates.
    """

    ae_title: str = "MOLRE-EDGE"
    address: str = "127.0.0.1"
    port: int = 11112
    largest_pdu: int = 131072
    associations: int = 10
    associations_per_address: int = 6
    tls: Tls | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        _check_ae_title(self.ae_title)
        _check_range("port", self.port, 1, 65535)
        _check_range("associations", self.associations, 1, 100)
        _check_range("associations_per_address", self.associations_per_address, 1, 100)
        if self.largest_pdu:
            _check_range("largest_pdu", self.largest_pdu, 4096, 1 << 24)
        _address("address", self.address)
        if self.tls is not None and (self.tls.certificate is None or self.tls.authority is None):
            raise ConfigError("tls: certificate, key and authority are needed to receive")


@dataclass(frozen=True, kw_only=True)
class Sender:
    """Who may send.

    Attributes:
        ae_title: the calling AE title.
        addresses: from which addresses or networks, such as ``10.1.0.0/16``; none allow every address.
    """

    ae_title: str
    addresses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        _check_ae_title(self.ae_title)
        for each in self.addresses:
            _address("addresses", each)

    def allows(self, ae_title: str, address: str) -> bool:
        """Whether a caller is this one."""
        if ae_title != self.ae_title:
            return False
        caller = ipaddress.ip_address(address.removeprefix("::ffff:"))
        return not self.addresses or any(caller in ipaddress.ip_network(each) for each in self.addresses)


@dataclass(frozen=True, kw_only=True)
class Study:
    """When a study is answered.

    Attributes:
        quiet_seconds: after its last image.
        longest_seconds: after its first new image, even if images still arrive; those make a new version.
    """

    quiet_seconds: float = 30.0
    longest_seconds: float = 1800.0

    def __post_init__(self) -> None:
        """Check the values."""
        _check_range("quiet_seconds", self.quiet_seconds, 0.1, 86400)
        _check_range("longest_seconds", self.longest_seconds, self.quiet_seconds, 7 * 86400)


@dataclass(frozen=True, kw_only=True)
class Results:
    """What is made of an answer.

    Attributes:
        sr: which structured report; ``none`` for none.
        secondary_capture: whether a page for viewers that show no SR is made.
    """

    sr: Literal["comprehensive3d", "comprehensive", "none"] = "comprehensive3d"
    secondary_capture: bool = True

    @property
    def objects(self) -> tuple[str, ...]:
        """The kinds of DICOM objects that go to each destination."""
        return (*(() if self.sr == "none" else ("sr",)), *(("capture",) if self.secondary_capture else ()))


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where reports go.

    Attributes:
        name: in logs and on the status page.
        kind: ``dicom`` for C-STORE, ``stow`` for STOW-RS.
        ae_title: of the receiver (C-STORE).
        calling_ae_title: ours, as the receiver knows us (C-STORE).
        address: host name or address (C-STORE).
        port: (C-STORE).
        url: of the service, to which ``/studies`` is added (STOW-RS).
        header_file: a file with one HTTP header a line, such as ``Authorization: Bearer ...`` (STOW-RS).
        tls: encrypts C-STORE; for an ``https`` URL, certificates other than the system's.
        retry_seconds: before the second attempt; each further one waits twice as long.
        longest_retry_seconds: the longest wait.
        timeout_seconds: for an answer.
    """

    name: str
    kind: Literal["dicom", "stow"] = "dicom"
    ae_title: str = ""
    calling_ae_title: str = "MOLRE-EDGE"
    address: str = ""
    port: int = 104
    url: str = ""
    header_file: Path | None = None
    tls: Tls | None = None
    retry_seconds: float = 5.0
    longest_retry_seconds: float = 600.0
    timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum() or not self.name.isascii():
            raise ConfigError("name: expected letters, digits, - and _")
        if self.kind == "dicom":
            _check_ae_title(self.ae_title)
            _check_ae_title(self.calling_ae_title)
            _check_range("port", self.port, 1, 65535)
            if not self.address or self.url or self.header_file:
                raise ConfigError("kind 'dicom' needs ae_title, address and port, and has no url or header_file")
        else:
            _check_url("kind 'stow' needs a url", self.url)
        _check_range("retry_seconds", self.retry_seconds, 0.1, 3600)
        _check_range("longest_retry_seconds", self.longest_retry_seconds, self.retry_seconds, 86400)
        _check_range("timeout_seconds", self.timeout_seconds, 1, 3600)


@dataclass(frozen=True, kw_only=True)
class Orthanc:
    """An Orthanc whose new CT images are taken, as a front door.

    Attributes:
        url: of its REST API, such as ``http://127.0.0.1:8042``.
        header_file: a file with one HTTP header a line, such as ``Authorization: Basic ...``.
        tls: for an ``https`` URL, certificates other than the system's.
        timeout_seconds: for an answer.
    """

    url: str
    header_file: Path | None = None
    tls: Tls | None = None
    timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Check the values."""
        _check_url("url", self.url)
        _check_range("timeout_seconds", self.timeout_seconds, 1, 3600)


@dataclass(frozen=True, kw_only=True)
class Disk:
    """When images are refused.

    Attributes:
        floor_mb: free space in 10^6 bytes below which no image is taken; the sender is told so and tries again.
    """

    floor_mb: int = 2000

    def __post_init__(self) -> None:
        """Check the value."""
        _check_range("floor_mb", self.floor_mb, 1, 10**9)


@dataclass(frozen=True, kw_only=True)
class Keep:
    """How long what is delivered is kept. What is not delivered is kept.

    Attributes:
        images_hours: of a study, after its last image.
        reports_days: reports, and what is known of the study, after its last image.
    """

    images_hours: float = 24.0
    reports_days: float = 30.0

    def __post_init__(self) -> None:
        """Check the values."""
        _check_range("images_hours", self.images_hours, 0, 24 * 3650)
        _check_range("reports_days", self.reports_days, self.images_hours / 24, 3650)


@dataclass(frozen=True, kw_only=True)
class Status:
    """The local HTTP port.

    Attributes:
        port: on 127.0.0.1; 0 for none.
    """

    port: int = 11180

    def __post_init__(self) -> None:
        """Check the value."""
        _check_range("port", self.port, 0, 65535)


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """All of it.

    Attributes:
        folder: where images, reports and the database lie; made for this user alone.
        senders: who may send; none only where an Orthanc is followed.
        orthanc: one to follow.
        bundle: folder of the bundle.
        engine: as in ``infer``.
        adapter: name of the bundle's adapter that answers; None for its default.
        expect_digest: refuse a bundle with another digest.
        limits: parity limits of your own for the check of the engine, TOML.
        threads: CPU threads of ONNX Runtime. Default: all cores.
        destinations: where reports go; none keep them in the folder.
    """

    folder: Path
    bundle: Path
    senders: tuple[Sender, ...] = ()
    orthanc: Orthanc | None = None
    engine: str = "fp16"
    adapter: str | None = None
    expect_digest: str | None = None
    limits: Path | None = None
    threads: int | None = None
    receive: Receive = dataclasses.field(default_factory=Receive)
    study: Study = dataclasses.field(default_factory=Study)
    results: Results = dataclasses.field(default_factory=Results)
    destinations: tuple[Destination, ...] = ()
    disk: Disk = dataclasses.field(default_factory=Disk)
    keep: Keep = dataclasses.field(default_factory=Keep)
    status: Status = dataclasses.field(default_factory=Status)

    def __post_init__(self) -> None:
        """Check what goes together."""
        if not self.senders and self.orthanc is None:
            raise ConfigError("senders: name at least one, by its AE title; others are refused")
        names = [each.name for each in self.destinations]
        if len(set(names)) < len(names):
            raise ConfigError("destinations: each needs a name of its own")
        if self.destinations and not self.results.objects:
            raise ConfigError("destinations: nothing is made for them: sr is 'none' and secondary_capture is false")
        if self.status.port == self.receive.port:
            raise ConfigError("status and receive have the same port")
        if self.threads is not None:
            _check_range("threads", self.threads, 1, 1024)


def read_config(path: StrPath, *, orthanc: str | None = None) -> NodeConfig:
    """Read a node's configuration. Relative paths in it are relative to its folder.

    Args:
        path: TOML.
        orthanc: takes the place of ``orthanc.url``.

    Raises:
        ConfigError: not readable, no TOML, an unknown key, or a value out of range; the message names the key.
    """
    file = Path(path).absolute()
    try:
        data = tomllib.loads(read_regular(file, largest=_LARGEST_FILE).decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: the configuration can't be read ({error.strerror or error})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML ({error})") from error
    if orthanc is not None:
        table = data.get("orthanc", {})
        data["orthanc"] = {**table, "url": orthanc} if isinstance(table, dict) else table
    return read_table(NodeConfig, data, file.name, file.parent)


def _check_range(key: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{key}: expected {least:g} to {most:g}, got {value:g}")


def _check_url(key: str, url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise ConfigError(f"{key}: http or https, without a user's name or a query; got {url!r}")


def _check_ae_title(title: str) -> None:
    """PS3.5 6.2, AE: 16 characters of ASCII without control characters and backslash, not all blanks."""
    allowed = title.isascii() and title.isprintable() and "\\" not in title
    if not allowed or not 1 <= len(title) <= 16 or title != title.strip():
        raise ConfigError(f"ae_title: expected 1 to 16 plain characters, got {title!r}")


def _address(key: str, text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(f"{key}: expected an IP address or network, got {text!r} ({error})") from error
