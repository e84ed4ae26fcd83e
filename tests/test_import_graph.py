"""The import graph is as the design draws it: one direction, no cycle, nothing heavy up front."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ALLOWED = {
    "zutis_model": set(),
    "storage": set(),
    "tasks": {"zutis_model", "storage"},
    "flows": {"tasks", "storage", "made_world"},
    "made_world": set(),
    "zutis": {"flows", "tasks", "storage"},
}

# Rooms and modules at a package's door, a level a line: each imports only what stands on lines
# above its own. In all of them, what flows goes down and never comes back.
ROOMS = {
    "storage": """
        errors
        access
        web
        files
        artifacts  images  vocabularies
        containers
        annotations  corpora  decisions  embeddings  shards  weights
        corrections  evaluation_sets  given_embeddings
        given_masks
    """,
    "zutis_model": """
        layers  scores
        clip  encoders  refinement  saliency
        baselines  regions  training  zutis
        checkpoints
    """,
    "tasks": """
        categories  stage  workers  mask_forms
        indexing  prediction
        retrieval  duplicates  masking  packing  training  evaluation
        quality  relabelling  merging  clip_training  saliency_training
        naming  deciding  exporting
        formats
    """,
    "made_world": """
        drawing
        things
        scenes
        corpus
    """,
    "flows": """
        processes  settings  terminal
        prefect_server
        execution
        upkeep
        pipelines
        summaries
        builds
        reports
        train_zutis  evaluate_zutis
        build_pseudolabels
        service
        commands
        looking  repeating
        deciding  exporting
        demo
        demo_training
        cli
        launcher
        __main__
    """,
}

MOST_MODULES = 14
"""Of a room; where there are more, two nouns hide in it."""


@cache
def modules(package: str) -> dict[str, Path]:
    """The package's modules by their dotted names."""
    paths = (ROOT / package).rglob("*.py")
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}


def imports(source: str, module: str) -> Iterator[str]:
    """Dotted names that a module imports anywhere; `from a import b` gives `a` and `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


@cache
def arrows(package: str) -> Sequence[tuple[str, str]]:
    """(importer, imported) for every import of ours in a package."""
    ours = {name for other in ALLOWED for name in (other, *modules(other))}
    return [
        (module, name)
        for module, path in modules(package).items()
        for name in imports(path.read_text(encoding="utf-8"), module)
        if name in ours
    ]


def levels(package: str) -> dict[str, int]:
    """The level of each of a package's rooms, as the table has them."""
    lines = ROOMS[package].split("\n")
    return {room: level for level, line in enumerate(lines) for room in line.split()}


def room_of(module: str) -> str:
    """The room that a module lies in; itself, where it lies at its package's door."""
    return module.split(".")[1]


def stages() -> set[str]:
    """The modules of all stages: those that have a name, a configuration and `run`."""
    found = set()
    for module, path in modules("tasks").items():
        nodes = ast.parse(path.read_text(encoding="utf-8")).body
        names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        names |= {
            target.id
            for node in nodes
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        if {"NAME", "Config", "run"} <= names:
            found.add(module)
    return found


def test_all_packages_are_in_the_table():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"vocabularies", "benchmarks", "tests"} == ALLOWED.keys()


def test_imports_are_read_in_all_their_forms():
    source = "import a.b\nfrom c import d\nfrom . import e\ndef f():\n    from .g import h\n"
    found = set(imports(source, "tasks.indexing.scan"))
    assert {"a.b", "c", "c.d", "tasks.indexing.e", "tasks.indexing.g.h"} <= found


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_what_the_design_allows(package):
    allowed = ALLOWED[package] | {package}
    wrong = {arrow for arrow in arrows(package) if arrow[1].partition(".")[0] not in allowed}
    assert not wrong
    assert arrows(package), "no import was found at all: is the graph still read right?"


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_only_rooms_above_them_in_the_table(package):
    level = levels(package)
    inside = {
        (importer, imported)
        for importer, imported in arrows(package)
        if imported.startswith(f"{package}.") and room_of(importer) != room_of(imported)
    }
    assert inside
    wrong = {arrow for arrow in inside if level[room_of(arrow[1])] >= level[room_of(arrow[0])]}
    assert not wrong


@pytest.mark.parametrize("package", ROOMS)
def test_all_rooms_are_in_the_table_and_say_what_they_are(package):
    inside = {room_of(module) for module in modules(package) if module != f"{package}.__init__"}
    assert inside == levels(package).keys()
    for room in inside:
        folder = ROOT / package / room
        if folder.is_dir():
            assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
            assert 2 <= len(list(folder.glob("*.py"))) - 1 <= MOST_MODULES


def test_no_module_of_tasks_imports_a_stage():
    found = stages()
    assert {"tasks.indexing.scan", "tasks.masking.make_masks", "tasks.training.train"} <= found
    assert not {arrow for arrow in arrows("tasks") if arrow[1] in found}


@pytest.mark.parametrize("package", ALLOWED)
def test_no_package_has_a_cycle(package):
    graph: dict[str, set[str]] = {}
    for importer, imported in arrows(package):
        if imported in modules(package):
            graph.setdefault(importer, set()).add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1]))


def check_loads_none(module: str, slow: set[str]) -> None:
    """Importing the module, in a process of its own, imports none of these."""
    code = (
        f"import sys, {module}\nloaded = {slow!r} & set(sys.modules)\nassert not loaded, loaded\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "module", ["flows.cli", "flows.pipelines.build", "flows.execution.executors"]
)
def test_what_a_cached_build_needs_loads_nothing_heavy(module):
    check_loads_none(module, {"torch", "open_clip", "faiss", "prefect"})


def test_the_command_line_loads_no_command_before_it_is_called():
    slow = {"torch", "prefect", "pandas", "pydantic", "numpy", "scipy", "fsspec", "typer"}
    check_loads_none(
        "flows.cli", slow | {"flows.commands", "flows.looking", "flows.deciding", "flows.settings"}
    )


def test_the_launcher_itself_loads_nothing_that_takes_long():
    check_loads_none(
        "flows.launcher", {"flows.cli", "typer", "rich", "numpy", "fsspec", "tasks.stage.contract"}
    )
