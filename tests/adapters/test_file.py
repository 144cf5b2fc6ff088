"""An adapter's file: what is written is read again, and anything else is refused by name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_adapters import facts, made

from molre_edge.adapters.file import Adapter, adapter_name, read_adapter, write_adapter
from molre_edge.errors import AdapterError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_adapter(made(), tmp_path / "hospital.adapter")
    return tmp_path / "hospital.adapter"


def told(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and values of a file."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    return json.loads(raw[8:start]), raw[start:]


def tell(path: Path, header: dict[str, Any], values: bytes) -> None:
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + values)


def same(one: Adapter, other: Adapter) -> bool:
    equal = one.tensors.keys() == other.tensors.keys()
    equal &= all(np.array_equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    equal &= one.golden.arrays.keys() == other.golden.arrays.keys()
    equal &= all(np.array_equal(value, other.golden.arrays[name]) for name, value in one.golden.arrays.items())
    rest = ("name", "findings", "fit", "golden_volumes", "checkpoint_sha256", "training")
    return equal and all(getattr(one, name) == getattr(other, name) for name in rest)


def test_what_is_written_is_read_again_and_its_digest_is_that_of_the_file(file: Path) -> None:
    read = read_adapter(file)
    assert same(read, made())
    assert read.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert read.thresholds.tolist() == [0.25] * 3


def test_a_file_of_a_version_that_kept_no_attention_is_read(tmp_path: Path) -> None:
    before = made(golden=replace(made().golden, attention=None))
    write_adapter(before, tmp_path / "before.adapter")
    assert same(read_adapter(tmp_path / "before.adapter"), before)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"golden": replace(made().golden, attention=np.zeros((2, 5)))}, "their shapes fit neither each other"),
        ({"fit": facts(pooling=None), "golden": made().golden}, "expected embedding, gates, logits, got attention, "),
    ],
)
def test_attention_over_other_slices_or_of_a_model_that_pools_none_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    write_adapter(made(**changes), tmp_path / "odd.adapter")
    with pytest.raises(AdapterError, match=said):
        read_adapter(tmp_path / "odd.adapter")


def test_the_same_adapter_gives_the_same_bytes(file: Path, tmp_path: Path) -> None:
    again = write_adapter(made(), tmp_path / "again.adapter")
    assert (tmp_path / "again.adapter").read_bytes() == file.read_bytes()
    assert again.digest == read_adapter(file).digest


def test_it_is_a_safetensors_file_for_the_library_too(file: Path) -> None:
    from safetensors.numpy import load_file

    loaded = load_file(file)
    assert np.array_equal(loaded["adapter.head.weight"], made().tensors["adapter.head.weight"])


def test_experts_as_float16_take_half_the_bytes_and_routers_stay_exact(file: Path, tmp_path: Path) -> None:
    write_adapter(made(), tmp_path / "half.adapter", half_experts=True)
    read = read_adapter(tmp_path / "half.adapter")
    for name, value in made().tensors.items():
        expert = name.endswith((".A", ".B"))
        rounded = value.astype(np.float16).astype(np.float32) if expert else value
        assert np.array_equal(read.tensors[name], rounded)
    experts = sum(value.nbytes for name, value in made().tensors.items() if name.endswith((".A", ".B")))
    assert len(told(file)[1]) - len(told(tmp_path / "half.adapter")[1]) == experts // 2


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_what_is_no_number_or_too_large_for_float16_is_not_written(value: float, tmp_path: Path) -> None:
    adapter = made()
    adapter.tensors["adapter.backbone.layer.0.o_proj.B"][0, 0] = value
    with pytest.raises(AdapterError, match=r"layer\.0\.o_proj\.B has values that can't be stored as float16"):
        write_adapter(adapter, tmp_path / "bad.adapter", half_experts=True)
    assert not list(tmp_path.iterdir())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def pickled(path: Path) -> None:
    path.write_bytes(b"\x80\x04\x95" + b"." * 100)


def endless_header(path: Path) -> None:
    path.write_bytes((1 << 40).to_bytes(8, "little") + path.read_bytes()[8:])


def with_header(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        header, values = told(path)
        change(header)
        tell(path, header, values)

    return damage


def with_words(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(header: dict[str, Any]) -> None:
        words = json.loads(header["__metadata__"]["molre_edge_adapter"])
        change(words)
        header["__metadata__"]["molre_edge_adapter"] = json.dumps(words)

    return with_header(damage)


def not_a_number(path: Path) -> None:
    header, values = told(path)
    begin = header["adapter.head.bias"]["data_offsets"][0]
    tell(path, header, values[:begin] + np.float32(np.nan).tobytes() + values[begin + 4 :])


HEAD = "adapter.head.weight"
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut short": (cut, "not where its header says; the file is cut or altered"),
    "longer": (lengthen, "longer than its header says"),
    "a pickle": (pickled, "header is longer than the file"),
    "an endless header": (endless_header, "header is longer than the file"),
    "not a number": (not_a_number, "'adapter.head.bias' holds NaN or infinity"),
    "no JSON": (with_header(lambda header: header.pop("__metadata__")), "no JSON under 'molre_edge_adapter'"),
    "tensors on the same bytes": (
        with_header(lambda header: header[HEAD].update(data_offsets=[0, 60])),
        "not where its header says",
    ),
    "an unknown dtype": (with_header(lambda header: header[HEAD].update(dtype="I64")), "unexpected tensor .* of 'I64'"),
    "a foreign tensor": (with_header(lambda h: h.update(weights=h.pop(HEAD))), "unexpected tensor 'weights'"),
    "another format": (with_words(lambda words: words.update(format="zip")), "expected 'format' to be"),
    "another version": (with_words(lambda words: words.update(version=2)), "format version 2; this molre-edge reads 1"),
    "a path for a name": (with_words(lambda words: words.update(name="../index")), "expected a name of up to 64"),
    "a finding twice": (with_words(lambda words: words.update(findings=["a", "a", "b"])), "expected each name once"),
    "a threshold of 2": (with_words(lambda words: words.update(thresholds=[2, 0, 0])), "expected probabilities"),
    "fewer findings": (
        with_words(lambda words: words.update(findings=["a"], thresholds=[0.5])),
        "1 findings, and fit.findings says 3",
    ),
    "no fit": (with_words(lambda words: words.pop("fit")), "lacks .*fit"),
    "a fit of 65 experts": (with_words(lambda words: words["fit"].update(experts=65)), r"fit\.experts: unexpected 65"),
    "no hash of the volumes": (with_words(lambda w: w["golden"].update(volumes_sha256="1")), "expected SHA-256"),
    "other golden answers": (with_words(lambda words: words["fit"].update(width=7)), "golden answers: their shapes"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_file_is_refused_with_the_reason(damage: str, file: Path) -> None:
    change, reason = DAMAGES[damage]
    change(file)
    with pytest.raises(AdapterError, match=f"hospital.adapter: not a whole adapter .*{reason}"):
        read_adapter(file)


def test_a_missing_file_a_folder_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.adapter")
    for name, reason in (("none.adapter", "No such file"), ("", "a folder"), ("pipe.adapter", "a named pipe")):
        with pytest.raises(AdapterError, match=f"can't be read .*{reason}"):
            read_adapter(tmp_path / name)


def test_a_file_of_more_than_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.adapter"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(AdapterError, match="1073741825 bytes long, and 1073741824 is the limit"):
        read_adapter(path)


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "é", "a" * 65, "a.b"])
def test_a_name_is_a_short_word(name: str) -> None:
    with pytest.raises(AdapterError, match="expected a name of up to 64"):
        adapter_name(name)


def test_a_frozen_backbone_has_golden_answers_without_gates(tmp_path: Path) -> None:
    write_adapter(made(fit=facts(experts=0, places=(), groups=())), tmp_path / "frozen.adapter")
    assert read_adapter(tmp_path / "frozen.adapter").golden.gates is None
