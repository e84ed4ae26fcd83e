"""Tests of the benchmarks' arithmetic, and runs of every script at a tiny size."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    duplicates,
    embedding_overhead,
    exact_search,
    mask_refinement,
    measuring,
    million_records,
    photographs,
)
from benchmarks.measuring import Figure, Report, Stopwatch
from benchmarks.orchestration import Timeline

ROOT = Path(__file__).parents[2]
SCRIPTS = (
    "embedding_overhead", "exact_search", "million_records", "cached_rerun", "orchestration",
    "mask_refinement", "duplicates", "report", "review",
)  # fmt: skip


def run_script(name: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_explains_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)  # it is the program here
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    text = capsys.readouterr().out
    assert "--threads" in text
    assert "--out" in text


@pytest.mark.slow
def test_exact_search_at_a_tiny_size_writes_its_result(tmp_path: Path) -> None:
    out = tmp_path / "new" / "result.json"
    sizes = "--rows 3000 --dimensions 16 --queries 5 --k 7 --parts 3 --rounds 1 --searches 1"
    shown = run_script("exact_search", *sizes.split(), "--out", str(out))
    assert "ours / FAISS at its best" in shown
    result = json.loads(out.read_text())
    assert result["sizes"]["rows"] == 3000
    assert result["figures"]["queries with the exact set, FAISS"]["value"] == 5
    assert result["figures"]["ours / FAISS at its best"]["limit"] == 2.0
    assert result["machine"]["versions"]["numpy"] == np.__version__
    assert result["command"].startswith("python -m benchmarks.exact_search --rows 3000")


@pytest.mark.slow
def test_records_that_were_made_go_through_the_real_stages(tmp_path: Path) -> None:
    steps, counts = million_records.measure(tmp_path, records=1500, categories=3, k=4, seed=0)
    assert counts["index"]["images"] == 1500
    assert counts["retrieve"]["rows"] == 12
    assert {"scan, time", "index, time", "search, time", "retrieve, peak so far"} <= {
        figure.name for figure in steps.figures
    }


@pytest.mark.slow
def test_mask_refinement_of_a_few_photographs_writes_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, since each fresh one would import torch anew."""
    out = tmp_path / "result.json"
    sizes = "--most 3 --side 64 --rounds 2 --batched --batch-size 2"
    monkeypatch.setattr(sys, "argv", ["mask_refinement", *sizes.split(), "--out", str(out)])
    monkeypatch.setattr(mask_refinement, "use_cores", lambda count: None)
    monkeypatch.setattr(mask_refinement, "in_fresh_process", lambda call, *given: call(*given))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))  # to be as before: it is set in there
    mask_refinement.main()
    assert "at least 7" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["sizes"]["photographs"] == 3
    assert len(result["samples"]["ours"]) == len(result["samples"]["theirs"]) == 6
    figures = {name: figure["value"] for name, figure in result["figures"].items()}
    assert figures["most pixels that differ"] <= 5
    assert figures["largest soft difference"] < 1e-6
    assert figures["in PyTorch, largest soft difference from ours"] < 1e-6


def test_duplicates_are_scored_by_pairs() -> None:
    truth = {"a-crop": ("a", "crop"), "a-flip": ("a", "flip"), "b-crop": ("b", "crop")}
    groups = {"a": "1", "a-crop": "1", "c": "1", "a-flip": "2", "d": "2", "b-crop": "3", "b": "3"}
    assert duplicates.score(groups, truth) == {
        "recall": pytest.approx(100 * 2 / 3),
        "precision": pytest.approx(100 * 2 / 5),
        "crop": 100.0,
        "flip": 0.0,
    }


@pytest.mark.slow
def test_duplicates_of_a_few_images_are_found(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    sizes = "--most 2 --made 3 --hard 30 --rows 300 --largest 600 --dimensions 16 --rounds 1"
    run_script("duplicates", *sizes.split(), "--out", str(out))
    figures = json.loads(out.read_text())["figures"]
    for what in ("photographs", "made world", "hard world"):
        assert figures[f"{what}: precision"]["at_least"] == 99
        assert figures[f"{what}: recall"]["value"] > 80
    assert figures["pairs / search"]["limit"] == 2


def test_exact_neighbours_order_equal_products_by_position(tmp_path: Path) -> None:
    rows = np.zeros((200, 4), dtype=np.float16)
    rows[[150, 3, 90], 0] = (1.0, 0.5, 0.5)
    np.save(tmp_path / "part-000.npy", rows[:100])
    np.save(tmp_path / "part-001.npy", rows[100:])
    np.save(tmp_path / "queries.npy", np.eye(1, 4, dtype=np.float32))
    assert exact_search.exact_neighbours(tmp_path, 3).tolist() == [[150, 3, 90]]


def test_overhead_is_the_time_beyond_decoding_and_forward(
    tmp_path: Path, fake_clip: object
) -> None:
    from flows.settings.build import clip_model
    from tasks.indexing.embed_images import Config
    from tests.support.files.coloured_images import write_corpus

    sources = write_corpus(tmp_path / "sources", ["red", "blue"], each=2)
    corpus = photographs.write_copies(sources, tmp_path / "corpus", 7)
    config = Config(clip=clip_model("ViT-B-32:random:0", "cpu", "float32"), batch_size=3)
    samples = embedding_overhead.measure(corpus, len(sources), config, threads=2, repeats=2)
    assert len(samples) == 2
    names = [figure.name for figure in embedding_overhead.figures(samples, len(corpus))]
    assert names[-3:] == [
        "overhead, clock", "overhead less preprocessing, clock", "overhead, processor",
    ]  # fmt: skip


def test_share_left_is_the_time_beyond_the_pieces() -> None:
    sample = embedding_overhead.Sample(
        stage=Stopwatch(10.0, 20.0), decode=Stopwatch(1.0, 2.0),
        preprocess=Stopwatch(0.5, 1.0), forward=Stopwatch(8.0, 16.0),
    )  # fmt: skip
    assert sample.share_left("wall", "decode", "forward") == pytest.approx(10.0)
    assert sample.share_left("cpu", "decode", "preprocess", "forward") == pytest.approx(5.0)


def test_stages_that_overlap_are_not_counted_twice() -> None:
    timeline = Timeline(stages=[("b", 12.0, 15.0), ("a", 10.0, 13.0), ("a", 11.0, 12.0)])
    timeline.stages.append(("c", 20.0, 21.0))
    assert timeline.working == pytest.approx(6.0)
    assert timeline.seconds_of("a") == [3.0, 1.0]


def test_copies_differ_in_bytes_and_not_in_pixels(tmp_path: Path) -> None:
    from storage.images.decoding import decode
    from tests.support.files.coloured_images import write_corpus

    sources = write_corpus(tmp_path / "sources", ["red"], each=2)
    data = [path.read_bytes() for path in photographs.write_copies(sources, tmp_path / "new", 5)]
    assert len(set(data)) == 5
    first, third = (np.asarray(decode(data[number]).image) for number in (0, 2))
    np.testing.assert_array_equal(first, third)


def test_a_fresh_process_has_its_own_memory() -> None:
    assert measuring.in_fresh_process(os.getpid) != os.getpid()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_peak_memory_includes_freed_memory() -> None:
    before = measuring.memory_mb()
    np.ones(25_000_000)  # 200 MB, given back at once
    assert measuring.peak_memory_mb() >= before + 190


def test_a_missed_limit_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    Report(
        benchmark="trial", sizes={"rows": 1_000},
        figures=[Figure("slow", 3.0, "s", 2.0), Figure("quick", 1.0, "s", 2.0)],
        samples={}, load=0.0,
    ).show()  # fmt: skip
    shown = capsys.readouterr().out
    assert "rows 1,000" in shown
    assert "at most 2: NOT MET" in shown
    assert "at most 2: met" in shown


def test_a_limit_can_be_from_below(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = Report(
        benchmark="trial", sizes={},
        figures=[
            Figure("rate", 3.0, "images/s", at_least=4.0),
            Figure("ratio", 8.0, "times", at_least=7.0),
            Figure("share", 0.5, "%", 0.4, at_least=0.1),
            Figure("loss", 0.000012, "", 0.0005),
            Figure("news", 2.0, "s"),
        ],
        samples={}, load=0.0,
    )  # fmt: skip
    report.show()
    shown = capsys.readouterr().out
    assert "at least 4: NOT MET" in shown
    assert "at least 7: met" in shown
    assert "at most 0.4, at least 0.1: NOT MET" in shown
    assert "1.20e-05" in shown
    report.write(tmp_path / "result.json")
    figures = json.loads((tmp_path / "result.json").read_text())["figures"]
    assert figures["rate"] == {"value": 3.0, "unit": "images/s", "at_least": 4.0, "met": False}
    assert figures["loss"] == {"value": 0.000012, "unit": "", "limit": 0.0005, "met": True}
    assert figures["news"] == {"value": 2.0, "unit": "s"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["report", "review"])
def test_the_pages_at_a_tiny_size(name: str) -> None:
    shown = run_script(name, *["--labels", "60", "--categories", "3"])
    assert "peak memory" in shown
    assert "NOT MET" not in shown
