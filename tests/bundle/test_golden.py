"""A golden set is read as it was written, and an archive of a stranger's can neither run code nor fill the memory."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import molre_edge.bundle.golden
from molre_edge.bundle.golden import GoldenSet, read_golden, write_golden
from molre_edge.errors import BundleError
from molre_edge.parity import Outputs

SHAPES = {
    "volumes": (None, 2, 16, 16),
    "logits": (None, 5),
    "embedding": (None, 4),
    "gates": (None, 2, 1, 3),
    "attention": (None, 2),
}


def arrays(count: int = 3) -> dict[str, npt.NDArray[np.floating]]:
    rng = np.random.default_rng(0)
    made = {name: rng.normal(size=(count, *shape[1:])).astype(np.float32) for name, shape in SHAPES.items()}
    return {**made, "volumes": made["volumes"].astype(np.float16)}


def archive(values: dict[str, npt.NDArray[np.generic]], *, pickled: bool = False) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=pickled, **values)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize("lacking", [None, "gates", "attention"])
def test_what_was_written_is_read(lacking: str | None, tmp_path: Path) -> None:
    shapes = {name: shape for name, shape in SHAPES.items() if name != lacking}
    values = {name: array for name, array in arrays().items() if name in shapes}
    written = GoldenSet(values["volumes"], Outputs.of(values))
    write_golden(tmp_path / "golden" / "golden.npz", written)
    read = read_golden((tmp_path / "golden" / "golden.npz").read_bytes(), shapes)
    assert np.array_equal(read.volumes, written.volumes)
    assert read.volumes.dtype == np.float16
    assert read.outputs.arrays.keys() == written.outputs.arrays.keys() == shapes.keys() - {"volumes"}
    for name, array in written.outputs.arrays.items():
        assert np.array_equal(read.outputs.arrays[name], array)
    assert [path.name for path in (tmp_path / "golden").iterdir()] == ["golden.npz"]


def test_the_same_set_gives_the_same_bytes_in_any_memory_order(tmp_path: Path) -> None:
    values = arrays()
    outputs = Outputs.of(values)
    write_golden(tmp_path / "a.npz", GoldenSet(values["volumes"], outputs))
    write_golden(tmp_path / "b.npz", GoldenSet(np.asfortranarray(values["volumes"]), outputs))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_more_than_the_limit_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(molre_edge.bundle.golden, "MAX_GOLDEN_BYTES", 1000)
    values = arrays()
    with pytest.raises(BundleError, match=r"take 0\.0 GB; expected at most .*Choose fewer with --golden-volumes"):
        write_golden(tmp_path / "a.npz", GoldenSet(values["volumes"], Outputs(values["logits"], values["embedding"])))
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "sprung",)

    values: dict[str, npt.NDArray[np.generic]] = {**arrays()}
    values["logits"] = np.array([Trap()], dtype=object)
    with pytest.raises(ValueError, match=r"logits: expected float32 \[n, 5\], got object"):
        read_golden(archive(values, pickled=True), SHAPES)
    assert not (tmp_path / "sprung").exists()


def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused_by_its_directory() -> None:
    file = io.BytesIO(archive(arrays(1)))
    with zipfile.ZipFile(file, "a") as bomb:
        entry = next(entry for entry in bomb.infolist() if entry.filename == "volumes.npy")
        entry.file_size = 3 << 30
        bomb.writestr("more.npy", b"")  # so that the directory is written anew
    with zipfile.ZipFile(file, "a") as bomb:
        names = [entry.filename for entry in bomb.infolist()]
    assert "more.npy" in names
    shapes = {**SHAPES, "more": (None,)}
    with pytest.raises(ValueError, match="larger than 2147483648 bytes when unpacked"):
        read_golden(file.getvalue(), shapes)


def test_a_header_that_promises_more_than_there_is_costs_no_memory() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        for name, values in arrays().items():
            member = io.BytesIO()
            if name == "volumes":
                header = {"descr": "<f2", "fortran_order": False, "shape": (10**12, 2, 16, 16)}
                np.lib.format.write_array_header_1_0(member, header)
            else:
                np.save(member, values)
            target.writestr(f"{name}.npy", member.getvalue())
    with pytest.raises(ValueError, match="volumes: shorter than its header says"):
        read_golden(file.getvalue(), SHAPES)


def changed(**values: npt.NDArray[np.generic] | None) -> bytes:
    merged = {**arrays(), **values}
    return archive({name: value for name, value in merged.items() if value is not None})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a NumPy archive"),
        (b"PK\x03\x04 and no more", "not a NumPy archive"),
        (changed()[:-300], "not a NumPy archive"),
        (changed(gates=None), "expected the arrays attention, embedding, gates, logits, volumes"),
        (changed(extra=np.zeros(3)), "expected the arrays"),
        (changed(volumes=arrays()["volumes"].astype(np.float32)), r"volumes: expected float16 \[n, 2, 16, 16\]"),
        (changed(volumes=np.zeros((3, 2, 16, 8), np.float16)), r"got float16 \[3, 2, 16, 8\]"),
        (changed(logits=np.zeros((3, 6), np.float32)), r"logits: expected float32 \[n, 5\], got float32 \[3, 6\]"),
        (changed(logits=np.zeros((2, 5), np.float32)), "its arrays hold 2, 3 volumes"),
        (changed(embedding=np.full((3, 4), np.nan, np.float32)), "embedding: expected finite numbers"),
        (changed(volumes=np.full((3, 2, 16, 16), np.inf, np.float16)), "volumes: expected finite numbers"),
        (changed(**arrays(0)), "its arrays hold 0 volumes"),
    ],
)  # fmt: skip
def test_an_archive_that_is_no_golden_set_is_refused_with_the_reason(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_golden(content, SHAPES)
