"""The documents agree with the repository: paths exist, links resolve, commands are read."""

from __future__ import annotations

import ast
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

import zutis
from flows.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    DOCS / "architecture.md",
    DOCS / "README.md",
)
OTHERS = (ROOT / "benchmarks" / "README.md", ROOT / "vocabularies" / "README.md")
PAGES = sorted({*GUIDES, *DOCS.glob("*.md"), *OTHERS})

MOST_README_LINES = 200
NO_ROOMS = {"tests", "benchmarks"}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.M | re.S)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", flags=re.M)
_PATH = re.compile(r"\.?[A-Za-z0-9_*-]+(?:[./][A-Za-z0-9_*-]+)*/?")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path, *languages: str) -> list[str]:
    """The blocks of code that are marked with one of the languages."""
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [text for language, text in found if language in languages]


def is_ours(path: str) -> bool:
    """Whether a piece of code is meant as a path of the repository: it begins with one of its
    folders, or is a file beside the README."""
    first, slash, _ = path.partition("/")
    place = ROOT / first
    return place.is_dir() if slash else place.is_file()


def paths_in(text: str) -> set[str]:
    """The paths of the repository that a text names in backquotes; a test's name is left off."""
    pieces = (piece.partition("::")[0] for piece in _CODE.findall(text))
    return {piece for piece in pieces if _PATH.fullmatch(piece) and is_ours(piece)}


def exists(path: str) -> bool:
    """Whether there is such a path; `*`, and words such as NAME, stand for any."""
    pattern = re.sub(r"\b(NAME|ROOM)\b", "*", path.rstrip("/"))
    return any(ROOT.glob(pattern)) if "*" in pattern else (ROOT / path).exists()


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def links(page: Path) -> list[str]:
    """The links of a page that lead into the repository."""
    return [link for link in _LINK.findall(prose(page)) if not re.match(r"[a-z]+:", link)]


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for link in links(page):
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


def commands(page: Path) -> list[str]:
    """The `zutis …` commands of a page's blocks that are written out in full."""
    text = re.sub(r"\s*\\\n\s*", " ", "\n".join(blocks(page, "sh", "console")))
    lines = (line.removeprefix("$ ").removeprefix("uv run ") for line in text.splitlines())
    return [line for line in lines if line.startswith("zutis ") and "…" not in line]


def test_the_checks_find_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A *first* `page`\n\n## Of: two\n\n## Of: two\n\n[a](#of-two-1) [b](#of-two-2)\n"
        "[c](none.md) [d](page.md#a-first-page) [e](https://example.org/x)\n"
        "`storage/none.py` `storage/web/` `tests/*.none` `uv.lock` `STORE/train` `./storage/x`\n"
        "`tasks/ROOM/NAME.py` `tasks/ROOM/NAME.none`\n"
        "```sh\nuv run zutis train \\\n    --crop 3   # small\nzutis build …\n```\n"
    )
    assert broken(page) == ["#of-two-2", "none.md"]
    named = paths_in(prose(page))
    missing = {"storage/none.py", "tests/*.none", "tasks/ROOM/NAME.none"}
    assert named == missing | {"storage/web/", "uv.lock", "tasks/ROOM/NAME.py"}
    assert {path for path in named if not exists(path)} == missing
    assert commands(page) == ["zutis train --crop 3   # small"]


def test_the_guides_are_there() -> None:
    assert [name_of(page) for page in GUIDES if not page.exists()] == []


def test_the_readme_is_short() -> None:
    assert len(GUIDES[0].read_text(encoding="utf-8").splitlines()) <= MOST_README_LINES


def test_the_index_leads_to_every_page() -> None:
    index = DOCS / "README.md"
    linked = {link.partition("#")[0] for link in links(index)}
    assert {page.name for page in DOCS.glob("*.md")} - linked == {index.name}


@each_page
def test_every_path_that_is_named_exists(page: Path) -> None:
    assert sorted(path for path in paths_in(prose(page)) if not exists(path)) == []


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_the_architecture_names_what_a_change_touches() -> None:
    """A guide that names nothing would pass for one that names nothing wrong."""
    assert len(paths_in(prose(DOCS / "architecture.md"))) > 50


def test_the_architecture_names_every_room() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    folders = {path.parent for name in packages for path in ROOT.glob(f"{name}/*/__init__.py")}
    rooms = {f"{name_of(folder)}/" for folder in folders if folder.parent.name not in NO_ROOMS}
    assert rooms - paths_in(prose(DOCS / "architecture.md")) == set()


def test_pages_that_the_code_names_exist() -> None:
    missing = {
        f"{path.relative_to(ROOT)}: {named}"
        for package in ("flows", "storage", "tasks", "zutis", "zutis_model", "made_world")
        for path in (ROOT / package).rglob("*.py")
        for named in re.findall(r"\bdocs/[\w.-]+\.md\b", path.read_text(encoding="utf-8"))
        if not (ROOT / named).exists()
    }
    assert not missing


def parse(words: list[str]) -> None:
    """Ends with a usage error at what the command line does not know; runs nothing."""
    app.parse_args(words, exit_on_error=False, print_error=False)


@each_page
def test_every_command_can_be_typed(page: Path) -> None:
    for line in commands(page):
        _, *words = shlex.split(line, comments=True)
        parse(words)


def defined_in(module: str) -> set[str] | None:
    """The names that a module of ours has, without importing torch for it; None for others."""
    place = ROOT.joinpath(*module.split("."))
    files = (place.with_suffix(".py"), place / "__init__.py")
    path = next((file for file in files if file.exists()), None)
    if path is None:
        return None
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


@each_page
def test_python_takes_what_is_there(page: Path) -> None:
    ours = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    for text in blocks(page, "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in ours:
                known = defined_in(str(node.module))
                assert known is not None, node.module
                assert {alias.name for alias in node.names} <= known
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "zutis":
                assert node.attr in zutis.__all__
