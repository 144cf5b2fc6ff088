"""Small files that unpack to much, or whose headers go on and on, cost little: measured in a process of their own."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MIB = 1 << 20
CT_CLASS, DEFLATED = b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.1.2.1.99"

MEASURE = """
import json, resource, sys
from pathlib import Path

import nibabel.nifti1, nibabel.nifti2, pydicom.pixels.utils, pydicom.filereader, SimpleITK

from molre_edge.errors import ScanError
from molre_edge.scans import ScanSource, find_scans, read_scan

now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (2 << 30), now + (2 << 30)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = find_scans(Path(sys.argv[1]))
codes = [entry.code for entry in (*found.rejected, *found.ignored)]
after_find = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for scan in found.scans or [ScanSource(Path(p), (Path(p),), "dicom") for p in sys.argv[2:]]:
    try:
        codes.append(str(read_scan(scan).hu.shape))
    except ScanError as error:
        codes.append(error.code)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([codes, (after_find - before) // 1024, (after - before) // 1024]))
"""


def measure(path: Path, *read: Path) -> tuple[list[str], int, int]:
    """Codes, and the MiB more that finding, and finding and reading, took at their peak."""
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path), *map(str, read)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    codes, finding, both = json.loads(done.stdout)
    return codes, finding, both


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    head = struct.pack("<HH", group, number) + vr
    if vr in (b"OB", b"OW", b"UN", b"SQ", b"UT"):
        return head + b"\0\0" + struct.pack("<I", len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def meta(syntax: bytes = DEFLATED, extra: bytes = b"", length: int | None = None) -> bytes:
    body = element(2, 2, b"UI", CT_CLASS) + element(2, 3, b"UI", b"1.2.3") + element(2, 0x10, b"UI", syntax) + extra
    return element(2, 0, b"UL", struct.pack("<I", len(body) if length is None else length)) + body


START = element(8, 0x16, b"UI", CT_CLASS) + element(8, 0x60, b"CS", b"CT")


def squeezed(parts: Any, window: int) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, window)
    return b"".join([packer.compress(part) for part in parts] + [packer.flush()])


def data_set(mib: int) -> list[bytes]:
    pixels = struct.pack("<HH", 0x7FE0, 0x10) + b"OW\0\0" + struct.pack("<I", mib * MIB)
    return [START + pixels, *[bytes(MIB)] * mib]


def lying() -> bytes:
    """The meta information claims to end before a private element that is a small deflated stream by itself."""
    decoy = squeezed([b"hello"], -zlib.MAX_WBITS)
    decoy += b"\0" * (len(decoy) % 2)
    private = element(2, 0x100, b"UI", b"1.2.3") + element(2, 0x102, b"OB", decoy)
    return bytes(128) + b"DICM" + meta(extra=private, length=len(meta(extra=private)) - 12 - len(decoy))


PREAMBLE = bytes(128) + b"DICM"


@pytest.mark.parametrize(
    "head", [lambda: PREAMBLE + meta(), meta, lying], ids=["preamble", "no preamble", "lying group length"]
)
def test_a_deflated_data_set_beyond_the_limit_is_refused_by_its_header(
    tmp_path: Path, head: Callable[[], bytes]
) -> None:
    path = tmp_path / "bomb.dcm"
    path.write_bytes(head() + squeezed(data_set(600), -zlib.MAX_WBITS))
    codes, finding, both = measure(path, path)
    assert codes == ["too_large", "too_large"]  # as its header says
    assert max(finding, both) < 30


def test_a_header_in_front_of_a_bomb_costs_no_more_than_a_header(tmp_path: Path) -> None:
    """600 MiB in front of the pixels, in elements that must be passed."""
    path = tmp_path / "bomb.dcm"
    private = struct.pack("<HH", 9, 0x1001) + b"OB\0\0" + struct.pack("<I", 600 * MIB)
    path.write_bytes(PREAMBLE + meta() + squeezed([START + private, *[bytes(MIB)] * 600], -zlib.MAX_WBITS))
    codes, finding, _ = measure(path)
    assert codes == ["too_large"]
    assert finding < 700


@pytest.mark.parametrize("kind", ["gz", "zip", "zip with another size"])
def test_packed_bombs_are_unpacked_no_further_than_the_limit(tmp_path: Path, kind: str) -> None:
    content = [
        PREAMBLE + meta(b"1.2.840.10008.1.2.1") + START,
        b"\x09\x00\x01\x10UN\0\0" + struct.pack("<I", 3000 * MIB),
    ]
    content += [bytes(MIB)] * 600
    path = tmp_path / ("bomb.dcm.gz" if kind == "gz" else "bomb.zip")
    if kind == "gz":
        path.write_bytes(squeezed(content, 31))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb.dcm", "w") as file:
            for part in content:
                file.write(part)
        if kind != "zip":
            data = bytearray(path.read_bytes())
            at = data.rfind(b"PK\x01\x02")
            data[at + 24 : at + 28] = struct.pack("<I", 5000)  # claims to unpack to little
            path.write_bytes(data)
    codes, finding, _ = measure(path)
    assert codes == ["too_large" if kind != "zip with another size" else "corrupt_header"]
    assert finding < 700


def test_archives_that_claim_too_much_are_refused_by_their_directory(tmp_path: Path) -> None:
    from molre_edge.scans import find_scans

    block = bytes(1000)
    path = tmp_path / "overlap.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.dcm", block)
    data = path.read_bytes()
    at = data.find(b"PK\x01\x02")
    end = data.find(b"PK\x05\x06")
    entry = data[at:end]
    many = b"".join(entry.replace(b"a.dcm", f"{n:05}".encode()) for n in range(2000))  # all on the same bytes
    tail = bytearray(data[end:])
    tail[8:12] = struct.pack("<HH", 2000, 2000)
    tail[12:16] = struct.pack("<I", len(many))
    path.write_bytes(data[:at] + many + tail)
    [refused] = find_scans(path).rejected
    assert refused.code == "too_large" and "overlap" in refused.reason
    path = tmp_path / "long.zip"
    tail[12:16] = struct.pack("<I", 40 * MIB)
    path.write_bytes(data[:at] + bytes(40 * MIB) + tail)  # a directory larger than any
    codes, finding, _ = measure(path)
    assert codes == ["too_large"] and finding < 60


def test_headers_that_go_on_and_on_are_refused_while_they_are_read(tmp_path: Path) -> None:
    start = PREAMBLE + meta(b"1.2.840.10008.1.2.1") + START
    items = b"\xfe\xff\x00\xe0\0\0\0\0" * 1_500_000
    (tmp_path / "items.dcm").write_bytes(start + element(0x5200, 0x9230, b"SQ", items))
    undefined = struct.pack("<HH", 0x5200, 0x9230) + b"SQ\0\0\xff\xff\xff\xff" + items
    (tmp_path / "undefined.dcm").write_bytes(start + undefined)
    (tmp_path / "long.dcm").write_bytes(start + element(0x18, 0x10, b"UT", b"x" * (40 * MIB)) + undefined)
    (tmp_path / "elements.dcm").write_bytes(start + b"\x09\x00\x01\x10LO\x00\x00" * 1_050_000)
    (tmp_path / "meta.dcm").write_bytes(
        PREAMBLE + meta(b"1.2.840.10008.1.2.1", extra=element(2, 0x102, b"OB", bytes(40 * MIB))) + START
    )
    codes, finding, _ = measure(tmp_path)
    assert codes == ["too_large"] * 5
    assert finding < 700


@pytest.mark.parametrize("packed", [False, True])
def test_a_nifti_of_doubles_takes_four_bytes_a_voxel(tmp_path: Path, packed: bool) -> None:
    import nibabel

    voxels = (384, 384, 240)
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4)), np.diag([-0.6, -0.6, 0.8, 1.0]))
    image.header.set_xyzt_units("mm")
    head = image.to_bytes()[:352]
    head = head[:40] + np.array([3, *voxels, 1, 1, 1, 1], "<i2").tobytes() + head[56:352]
    path = tmp_path / ("doubles.nii.gz" if packed else "doubles.nii")
    plane = np.zeros(voxels[:2]).tobytes()
    with gzip.open(path, "wb", compresslevel=1) if packed else path.open("wb") as file:
        file.write(head)
        for _ in range(voxels[2]):
            file.write(plane)
    codes, finding, both = measure(path)
    assert codes[0] in ("no_brain_tissue", "not_hounsfield", "no_tissue", "skull_stripped")
    assert finding < 20
    assert both < 2 * 4 * np.prod(voxels) / MIB  # the volume and its small copy, not 8 bytes a voxel and the volume
