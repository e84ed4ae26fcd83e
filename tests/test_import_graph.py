"""The import graph is as the design draws it: one direction, no cycle, nothing heavy up front."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
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

# Modules of tasks that stages share or commands call; every other module there is a stage.
NOT_STAGES = {
    "layout", "logits", "stage", "models", "coverage", "index_rows", "text_rows", "source_images",
    "weights_check", "source_names", "score_background", "category_texts", "dense_segmenter",
    "class_matching", "elongated", "embedding_parts",
    "evaluation_doubts", "evaluation_images", "evaluation_report",
    "evaluation_scores", "label_regions", "overlays", "picture_ids", "predict", "sample_rendering",
    "score_table",
    "patch_features", "reading_ahead",
    "saliency_scores", "saliency_votes", "selfmask_batches", "selfmask_corpus",
    "selfmask_training", "clip_pictures", "clip_scores", "clip_stretches", "clip_training",
    "timed_schedule", "segmenter", "training_batches", "training_log", "training_loop",
    "training_pictures", "worker_processes", "shared_memory",
    "training_processes", "training_samples", "training_state", "training_step",
    "zutis_checkpoint",
}  # fmt: skip


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


def arrows(package: str) -> Iterator[tuple[str, str]]:
    """(importer, imported) for every import of ours in a package."""
    ours = {name for other in ALLOWED for name in (other, *modules(other))}
    for module, path in modules(package).items():
        for name in imports(path.read_text(encoding="utf-8"), module):
            if name in ours:
                yield module, name


def is_stage(module: str) -> bool:
    package, _, name = module.partition(".")
    return package == "tasks" and name not in NOT_STAGES | {"", "__init__"}


def test_all_packages_are_in_the_table():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"vocabularies", "benchmarks", "tests"} == ALLOWED.keys()


def test_imports_are_read_in_all_their_forms():
    source = "import a.b\nfrom c import d\nfrom . import e\ndef f():\n    from .g import h\n"
    found = set(imports(source, "tasks.scan"))
    assert {"a.b", "c", "c.d", "tasks.e", "tasks.g", "tasks.g.h"} <= found


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_what_the_design_allows(package):
    allowed = ALLOWED[package] | {package}
    wrong = {arrow for arrow in arrows(package) if arrow[1].partition(".")[0] not in allowed}
    assert not wrong
    assert list(arrows(package)), "no import was found at all: is the graph still read right?"


def test_no_module_of_tasks_imports_a_stage():
    stages = {module.removeprefix("tasks.") for module in modules("tasks") if is_stage(module)}
    assert {"scan", "embed_images", "make_masks", "pack_shards"} <= stages
    assert not {arrow for arrow in arrows("tasks") if is_stage(arrow[1])}


def test_modules_of_tasks_that_are_no_stages_exist():
    assert {f"tasks.{name}" for name in NOT_STAGES} <= modules("tasks").keys()


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


@pytest.mark.parametrize("module", ["flows.cli", "flows.pipeline", "flows.executors"])
def test_what_a_cached_build_needs_loads_nothing_heavy(module):
    check_loads_none(module, {"torch", "open_clip", "faiss", "prefect"})


def test_the_command_line_says_something_before_it_loads_the_stages():
    check_loads_none("flows.cli", {"flows.stages", "flows.evaluation_settings", "scipy"})


def test_the_launcher_itself_loads_nothing_that_takes_long():
    check_loads_none("flows.launcher", {"flows.cli", "typer", "rich", "numpy", "fsspec", "tasks"})
