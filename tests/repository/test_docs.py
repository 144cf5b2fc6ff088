"""The pages' links lead somewhere, and nothing in the repository names a path of one machine."""

from __future__ import annotations

import re
import runpy
import string
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
NOT_OURS = {".git", ".venv", "build", "dist", "node_modules"}
NAMED_PAGE = re.compile(r"(?<![\w/.-])docs/[\w/.-]+\.md\b")
MACHINE_PATH = re.compile(r"(?<![\w.~$}-])/(?:work|tmp|root|home|Users|opt/pypi|opt/wheels)/\w")


def files(*patterns: str) -> list[Path]:
    found = {path for pattern in patterns for path in ROOT.rglob(pattern) if path.is_file()}
    return sorted(path for path in found if not NOT_OURS & set(path.relative_to(ROOT).parts[:-1]))


PAGES = files("*.md")


def links_of(text: str) -> Iterator[str]:
    for block in MarkdownIt("commonmark").enable("table").parse(text):
        for token in block.children or ():
            target = token.attrs.get("href") or token.attrs.get("src")
            if target:
                yield str(target)


def anchors_of(text: str) -> set[str]:
    """The anchors that GitHub gives to headings: lower case, no punctuation, spaces as hyphens."""
    tokens = MarkdownIt("commonmark").parse(text)
    titles = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    unwanted = str.maketrans("", "", string.punctuation.replace("-", "").replace("_", ""))
    return {title.lower().translate(unwanted).replace(" ", "-") for title in titles}


def leads_somewhere(link: str, page: Path, root: Path) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True  # outside: not ours to check, and a test needs no network
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_relative_to(root) or not target.exists():
        return False
    return not parts.fragment or parts.fragment in anchors_of(target.read_text(encoding="utf-8"))


def broken_links(page: Path, root: Path = ROOT) -> list[str]:
    return [link for link in links_of(page.read_text(encoding="utf-8")) if not leads_somewhere(link, page, root)]


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_every_relative_link_leads_to_a_file_and_a_heading() -> None:
    broken = {page_name(page): links for page in PAGES if (links := broken_links(page))}
    assert len(PAGES) > 20
    assert broken == {}


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title\n\n[gone](gone.md) [here](#a-title) [there](#another) [far](https://example.org/x)\n")
    assert broken_links(page, tmp_path) == ["gone.md", "#another"]


def test_every_page_of_docs_is_in_an_index() -> None:
    """docs/index.md leads to every guide, concept and page of reference; results and decisions have their own."""
    for index in files("index.md"):
        linked = {
            (index.parent / urlsplit(link).path).resolve() for link in links_of(index.read_text(encoding="utf-8"))
        }
        folders = [index.parent / name for name in ("guides", "concepts", "reference")]
        pages = [page for page in PAGES if page.parent in (folders if index.parent == DOCS else [index.parent])]
        assert pages
        assert [page_name(page) for page in pages if page not in {index, *linked}] == [], f"{page_name(index)}: no link"


def test_every_page_that_a_file_names_is_there() -> None:
    paths = files("*.md", "*.py", "*.toml", "*.html", "Makefile", "run", "nightly", "lowest")
    named = {(page_name(path), name) for path in paths for name in NAMED_PAGE.findall(path.read_text(encoding="utf-8"))}
    assert len({name for _, name in named}) > 15
    assert sorted((path, name) for path, name in named if not (ROOT / name).is_file()) == []


def test_lines_of_pages_end_before_column_120() -> None:
    """Rows of tables, and words that can't be broken, aside."""
    long_lines = runpy.run_path(str(ROOT / ".ci" / "wrap_pages.py"))["long_lines"]
    found = {page_name(page): lines for page in PAGES if (lines := long_lines(page.read_text(encoding="utf-8")))}
    assert found == {}, "python .ci/wrap_pages.py PAGE wraps paragraphs; shorten code and headings by hand"


def test_no_file_names_a_path_of_one_machine() -> None:
    paths = files("*.md", "*.py", "*.toml", "*.txt", "*.html", "*.json", "Makefile", "run", "nightly", "lowest")
    lines = {page_name(path): path.read_text(encoding="utf-8").splitlines() for path in paths}
    named = [f"{name}: {line}" for name, text in lines.items() for line in text if MACHINE_PATH.search(line)]
    assert len(paths) > 300
    assert named == []


def test_no_entry_of_the_changelog_is_there_twice() -> None:
    """Merges join what both sides added, and may double it."""
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    unreleased = lines[lines.index("## Unreleased") :]
    firsts = [line for line in unreleased if line.startswith("- ")]
    assert sorted(line for line in set(firsts) if firsts.count(line) > 1) == []
