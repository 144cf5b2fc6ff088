"""A bundle's adapters: what the index names is there whole, at every moment, also after a kill."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made_adapters import made

from molre_edge.adapters.file import Adapter, read_adapter, write_adapter
from molre_edge.adapters.store import ADAPTERS, INDEX, AdapterStore
from molre_edge.errors import AdapterError, BundleError

EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "tempfile.mkstemp")


def add(store: AdapterStore, adapter: Adapter) -> str:
    path = store.folder.parent / "file.adapter"
    digest = write_adapter(adapter, path).digest
    store.put(read_adapter(path), path.read_bytes(), ("onnxruntime:fp32",))
    path.unlink()
    return digest


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    """Two adapters; of the first, the default, two versions."""
    store = AdapterStore(tmp_path)
    for name, seed in (("first", 0), ("first", 1), ("second", 2)):
        add(store, made(name, seed))
    return store


def names(store: AdapterStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


def test_the_first_adapter_is_the_default_and_a_new_version_takes_its_place(store: AdapterStore) -> None:
    index = store.index()
    assert (index.default, sorted(index.adapters)) == ("first", ["first", "second"])
    assert store.read().digest == index.adapters["first"].sha256 == store.read("first").digest
    assert index.adapters["first"].checked == ("onnxruntime:fp32",)
    assert store.read().golden.logits.tolist() == made("first", 1).golden.logits.tolist()
    assert names(store) == sorted([INDEX, *index.files()])
    assert len(index.files()) == 3


def test_back_and_forth_between_two_versions(store: AdapterStore) -> None:
    new = store.read("first").digest
    old = store.roll_back("first").adapters["first"].sha256
    assert store.read("first").digest == old != new
    assert store.roll_back("first").adapters["first"].sha256 == new
    with pytest.raises(AdapterError, match="adapter second: there is no version before"):
        store.roll_back("second")


def test_only_the_version_before_is_kept(store: AdapterStore) -> None:
    before = store.read("first").digest
    last = add(store, made("first", 3))
    stored = store.index().adapters["first"]
    assert stored.previous is not None
    assert (stored.sha256, stored.previous.sha256, stored.previous.previous) == (last, before, None)
    assert len(names(store)) == 4


def test_the_same_version_again_does_not_lose_the_one_before(store: AdapterStore) -> None:
    before = store.index().adapters["first"].previous
    add(store, made("first", 1))
    assert store.index().adapters["first"].previous == before


def test_the_default_changes_and_the_default_alone_can_not_be_removed(store: AdapterStore) -> None:
    with pytest.raises(AdapterError, match=r"first is the bundle's default, .* 'molre-edge adapter default NAME'"):
        store.remove("first")
    store.make_default("second")
    assert store.read().name == "second"
    store.remove("first")
    assert sorted(store.index().adapters) == ["second"]
    assert len(names(store)) == 2


@pytest.mark.parametrize("change", ["read", "remove", "make_default", "roll_back"])
def test_a_name_that_is_not_there_is_answered_with_those_that_are(change: str, store: AdapterStore) -> None:
    with pytest.raises(AdapterError, match="no adapter 'third'; it has first, second"):
        getattr(store, change)("third")


def test_a_store_without_adapters_says_how_to_add_one(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"no adapter yet\. 'molre-edge adapter add FILE'"):
        AdapterStore(tmp_path).read()


CHANGES: dict[str, Callable[[AdapterStore], object]] = {
    "add": lambda store: add(store, made("first", 3)),
    "add another": lambda store: add(store, made("third", 3)),
    "remove": lambda store: store.remove("second"),
    "default": lambda store: store.make_default("second"),
    "rollback": lambda store: store.roll_back("first"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_kill_at_any_moment_leaves_one_whole_adapter_to_answer(change: str, store: AdapterStore) -> None:
    seen, watching = set[str](), [True]
    before = store.read().digest

    def look(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in EVENTS:
            watching.clear()  # what follows is not the command's
            seen.add(store.read().digest)
            for name in store.index().adapters:
                store.read(name)
            watching.append(True)

    sys.addaudithook(look)
    try:
        CHANGES[change](store)
    finally:
        watching.clear()
    after = store.read().digest
    assert {before} <= seen <= {before, after}
    assert names(store) == sorted([INDEX, *store.index().files()])


def test_what_a_killed_command_left_is_removed_by_the_next(store: AdapterStore) -> None:
    whole = names(store)
    (store.folder / f"{'f' * 64}.adapter").write_bytes(b"added, and the index not yet written")
    (store.folder / f".{'f' * 64}.adapter.abcd1234.partial.adapter").write_bytes(b"half")
    (store.folder / ".index.json.abcd1234.partial.json").write_bytes(b"{")
    (store.folder / "notes.txt").write_bytes(b"somebody's own")
    store.make_default("second")
    assert names(store) == sorted([*whole, "notes.txt"])


def test_an_altered_swapped_or_lost_file_is_refused_by_name(store: AdapterStore) -> None:
    index = store.index()
    first, second = (store.folder / f"{index.adapters[name].sha256}.adapter" for name in ("first", "second"))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    with pytest.raises(BundleError, match=f"{first.name}: altered or damaged"):
        store.read()
    first.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=f"{first.name}: altered or damaged"):
        store.read()
    first.unlink()
    with pytest.raises(BundleError, match=f"{first.name}: is missing"):
        store.read()
    first.symlink_to(second)
    with pytest.raises(BundleError, match=f"{first.name}: can't be read .*a symbolic link"):
        store.read()


def test_an_adapter_under_another_name_is_refused(store: AdapterStore) -> None:
    data = json.loads((store.folder / INDEX).read_text())
    data["adapters"]["second"], data["adapters"]["first"] = data["adapters"]["first"], data["adapters"]["second"]
    (store.folder / INDEX).write_text(json.dumps(data))
    with pytest.raises(BundleError, match="is the adapter second, and the list says first"):
        store.read()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": "molre-edge-adapters", "version": 2}', '{"adapters": NaN', "[" * 100_000],
)
def test_a_damaged_index_is_refused(content: str, store: AdapterStore) -> None:
    (store.folder / INDEX).write_text(content)
    with pytest.raises(BundleError, match=r"index\.json: not a bundle's list of adapters"):
        store.index()


def test_an_index_whose_default_or_hash_is_impossible_is_refused(store: AdapterStore) -> None:
    data = json.loads((store.folder / INDEX).read_text())
    for wrong in ({"default": "third"}, {"adapters": {"../x": data["adapters"]["first"]}, "default": "../x"}):
        (store.folder / INDEX).write_text(json.dumps({**data, **wrong}))
        with pytest.raises(BundleError, match="not a bundle's list of adapters"):
            store.index()


def test_links_and_pipes_in_place_of_the_list_are_refused_at_once(store: AdapterStore, tmp_path: Path) -> None:
    index = store.folder / INDEX
    index.rename(tmp_path / "elsewhere.json")
    index.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BundleError, match="a symbolic link"):
        store.index()
    index.unlink()
    os.mkfifo(index)
    with pytest.raises(BundleError, match="a named pipe"):
        store.index()
    store.folder.rename(tmp_path / "moved")
    (tmp_path / ADAPTERS).symlink_to(tmp_path / "moved")
    with pytest.raises(BundleError, match="adapters: is a symbolic link"):
        store.index()
