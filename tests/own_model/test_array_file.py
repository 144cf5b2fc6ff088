"""Archives from outside: numbers and texts are read as they are; objects, bombs and lies are refused by name."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest

from molre_edge.own_model.array_file import read_arrays


def archive(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def test_numbers_and_texts_come_back_in_any_order_and_byte_order() -> None:
    columns = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    content = archive(a=columns, b=np.array([1.5], ">f4"), c=np.array(["one", "two"]), d=np.array("grid"))
    found = read_arrays(content, "abcd")
    assert (found["a"] == columns).all() and found["b"].dtype == np.dtype("=f4") and found["b"][0] == 1.5
    assert found["c"].tolist() == ["one", "two"] and found["d"].shape == () and str(found["d"]) == "grid"


def test_python_objects_are_never_unpacked() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("code of the file was run",))

    with pytest.raises(ValueError, match=r"a: expected numbers or texts, got dtype object; Python objects are never"):
        read_arrays(archive(a=np.array([Bomb()], dtype=object)), "a")


def test_what_unpacks_to_too_much_is_refused_before_it_is_unpacked() -> None:
    content = archive(a=np.zeros(10_000_000))
    assert len(content) < 200_000
    with pytest.raises(ValueError, match=r"80000128 bytes when unpacked; at most 1000000"):
        read_arrays(content, "a", most_bytes=1_000_000)


def test_texts_of_no_length_which_take_no_byte_are_refused() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<U0", "fortran_order": False, "shape": (10**9,)})
        file.writestr("scans.npy", header.getvalue())
    with pytest.raises(ValueError, match="texts of no length"):
        read_arrays(content.getvalue(), ("scans",), most_bytes=1000)


def test_a_header_that_promises_more_than_there_is_is_refused() -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.npy", header.getvalue())
    with pytest.raises(ValueError, match="a: shorter than its header says"):
        read_arrays(buffer.getvalue(), "a")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"nothing", "not a NumPy archive"),
        (archive(a=np.zeros(3))[:-40], "not a NumPy archive"),
        (archive(other=np.zeros(3)), r"unknown array 'other'; expected some of a, b"),
        (archive(a=np.zeros(3, dtype="<M8[s]")), "a: expected numbers or texts, got dtype datetime64"),
    ],
)
def test_other_files_are_refused_with_the_reason(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_arrays(content, "ab")
