"""Plans of a corpus: append-only, whatever changes in the files."""

from __future__ import annotations

import os
from collections import defaultdict
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactStore
from storage.corpora.corpus import open_sources
from storage.errors.exceptions import ArtifactError, ConfigError, CorpusError
from tasks.indexing import embed_images, scan
from tasks.stage.contract import SilentProgress, plan_parts
from tasks.stage.layout import ENTRIES, REJECTS
from tests.support.files.bad_images import jpeg, tar_bytes, write
from tests.support.runs.builds import rows_of


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return tmp_path / "corpus"


def plan_of(
    spec: Path | str, store: ArtifactStore, part_images: int = 2, **settings: Any
) -> Artifact:
    [source] = open_sources([str(spec)], uri_column=settings.get("uri_column", ""))
    config = scan.Config(source=scan.source_name(source), part_images=part_images, **settings)
    return scan.run(config, scan.Inputs(), store, SilentProgress())


def write_files(folder: Path, *names: str) -> None:
    for name in names:
        # A fixed time, so that a file that is written twice is the same file to a scan.
        path = write(folder / name, name.encode() * 40)
        os.utime(path, ns=(10**18, 10**18))


def digests(plan: Artifact) -> list[str]:
    return [part["digest"] for part in plan_parts(plan)]


def names_by_part(plan: Artifact, present: bool = True) -> dict[int, list[str]]:
    parts = defaultdict(list)
    for row in rows_of(plan, ENTRIES):
        if row["present"] == present:
            parts[row["part"]].append(Path(row["uri"]).name)
    return dict(parts)


def all_names(plan: Artifact) -> list[str]:
    return list(chain.from_iterable(names_by_part(plan).values()))


def test_parts_have_the_requested_number_of_images(corpus: Path, store: ArtifactStore) -> None:
    write_files(corpus, "a.jpg", "b.jpg", "deep/c.jpg", "deep/d.png", "e.jpg")
    plan = plan_of(corpus, store, part_images=2)
    assert [part["items"] for part in plan_parts(plan)] == [2, 2, 1]
    assert all_names(plan) == ["a.jpg", "b.jpg", "c.jpg", "d.png", "e.jpg"]
    assert plan.counts["entries"] == 5


def test_an_unchanged_corpus_keeps_its_plan(corpus: Path, store: ArtifactStore) -> None:
    write_files(corpus, "a.jpg", "b.jpg", "c.jpg")
    plan = plan_of(corpus, store)
    assert plan_of(corpus, store).ref == plan.ref
    # The existing parts stay: another size of parts applies to new files.
    assert plan_of(corpus, store, part_images=3).ref == plan.ref


def test_new_files_make_new_parts_and_leave_the_old(corpus: Path, store: ArtifactStore) -> None:
    write_files(corpus, "b.jpg", "d.jpg", "f.jpg")
    before = plan_of(corpus, store)
    write_files(corpus, "a.jpg", "c.jpg", "e.jpg")
    after = plan_of(corpus, store)
    assert digests(after)[:2] == digests(before)
    assert names_by_part(after) == {
        0: ["b.jpg", "d.jpg"],
        1: ["f.jpg"],
        2: ["a.jpg", "c.jpg"],
        3: ["e.jpg"],
    }


def test_a_removed_file_is_marked_and_its_part_stays(corpus: Path, store: ArtifactStore) -> None:
    write_files(corpus, "a.jpg", "b.jpg", "c.jpg")
    before = plan_of(corpus, store)
    (corpus / "b.jpg").unlink()
    after = plan_of(corpus, store)
    assert digests(after) == digests(before)
    assert names_by_part(after) == {0: ["a.jpg"], 1: ["c.jpg"]}
    assert names_by_part(after, present=False) == {0: ["b.jpg"]}
    assert after.counts["removed"] == 1


def test_a_file_that_comes_back_needs_no_new_part(corpus: Path, store: ArtifactStore) -> None:
    write_files(corpus, "a.jpg", "b.jpg", "c.jpg")
    before = plan_of(corpus, store)
    (corpus / "b.jpg").unlink()
    plan_of(corpus, store)
    write_files(corpus, "b.jpg")
    after = plan_of(corpus, store)
    assert digests(after) == digests(before)
    assert names_by_part(after) == names_by_part(before)


def test_a_changed_file_is_new_and_its_old_entry_is_gone(
    corpus: Path, store: ArtifactStore
) -> None:
    write_files(corpus, "a.jpg", "b.jpg", "c.jpg")
    before = plan_of(corpus, store)
    os.utime(corpus / "b.jpg", ns=(10**18, 10**18 + 1))
    after = plan_of(corpus, store)
    assert digests(after)[:-1] == digests(before)
    assert names_by_part(after) == {0: ["a.jpg"], 1: ["c.jpg"], 2: ["b.jpg"]}
    assert names_by_part(after, present=False) == {0: ["b.jpg"]}


@pytest.mark.parametrize("spelling", ["corpus", "corpus/", "./x/../corpus", "{}/corpus//", "file"])
def test_another_spelling_follows_the_same_plan(
    spelling: str, corpus: Path, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(corpus, "a.jpg", "b.jpg")
    plan = plan_of(corpus, store)
    monkeypatch.chdir(corpus.parent)
    spec = f"file://{corpus}" if spelling == "file" else spelling.format(corpus.parent)
    assert plan_of(spec, store).ref == plan.ref


@pytest.mark.parametrize("spelling", ["*.tar", "file://{}/*.tar", "~/*.tar"])
def test_spellings_of_tars_follow_the_same_plan(
    spelling: str, corpus: Path, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(corpus / "0.tar", tar_bytes([("a.jpg", jpeg())]))
    plan = plan_of(f"{corpus}/*.tar", store)
    monkeypatch.chdir(corpus)
    monkeypatch.setenv("HOME", str(corpus))
    assert plan_of(spelling.format(corpus), store).ref == plan.ref
    write(corpus / "1.tar", tar_bytes([("b.jpg", jpeg(1))]))
    assert digests(plan_of(spelling.format(corpus), store))[0] == digests(plan)[0]


def test_wildcards_that_match_tars_and_a_folder_are_two_sources(
    corpus: Path, store: ArtifactStore
) -> None:
    write(corpus / "x-0.tar", tar_bytes([("a.jpg", jpeg())]))
    write_files(corpus / "x-1", "b.jpg")
    plans = [
        scan.run(scan.Config(source=scan.source_name(s)), scan.Inputs(), store, SilentProgress())
        for s in open_sources([f"{corpus}/x-*"])
    ]
    assert [[row["kind"] for row in rows_of(plan, ENTRIES)] for plan in plans] == [
        ["image"],
        ["tar"],
    ]


def test_a_large_tar_is_a_part_of_its_own(corpus: Path, store: ArtifactStore) -> None:
    # Guessed at 100,000 bytes an image: some 20, so more than a part is to hold.
    write(corpus / "m.tar", bytes(2_000_000))
    write_files(corpus, "a.jpg", "z.jpg")
    assert names_by_part(plan_of(corpus, store, part_images=5)) == {
        0: ["a.jpg"],
        1: ["m.tar"],
        2: ["z.jpg"],
    }


def test_a_source_without_images_is_one_sentence_with_its_contents(
    corpus: Path, store: ArtifactStore
) -> None:
    write_files(corpus, "notes.txt", "more.txt")
    with pytest.raises(CorpusError, match=r"holds no image and no tar.*2 txt.*--corpus"):
        plan_of(corpus, store)
    assert store.stages() == []


def test_a_corpus_of_which_nothing_can_be_listed_says_why(
    tmp_path: Path, store: ArtifactStore
) -> None:
    table = write(tmp_path / "list.csv", b"uri\nmissing-1.jpg\nmissing-2.jpg\n")
    with pytest.raises(CorpusError, match="2 missing"):
        plan_of(table, store)


def test_files_that_cannot_be_listed_are_recorded_as_rejects(
    tmp_path: Path, store: ArtifactStore
) -> None:
    write_files(tmp_path, "here.jpg")
    table = write(tmp_path / "list.csv", b"uri\nhere.jpg\nmissing.jpg\n")
    plan = plan_of(table, store)
    assert plan.counts["rejects"] == {"missing": 1}
    [reject] = rows_of(plan, REJECTS)
    assert reject == {"uri": str(tmp_path / "missing.jpg"), "reason": "missing"}


def test_part_images_must_not_be_negative() -> None:
    with pytest.raises(ConfigError, match="part_images is -1"):
        scan.Config(source="", part_images=-1)


def test_a_part_has_the_same_key_in_another_store(
    corpus: Path, store: ArtifactStore, tmp_path: Path
) -> None:
    """Also when the second store scans the corpus later, without an earlier plan."""
    write_files(corpus, "a.jpg", "b.jpg")
    plan_of(corpus, store)
    write_files(corpus, "c.jpg")
    grown = plan_of(corpus, store)
    fresh = plan_of(corpus, ArtifactStore(str(tmp_path / "other")))
    assert digests(grown) == digests(fresh)


def raced_plans(corpus: Path, store: ArtifactStore) -> tuple[Artifact, Artifact]:
    """Two plans that continue the same one, as two scans make that run at once: one has seen
    c.jpg, and the other c.jpg and d.jpg."""
    write_files(corpus, "a.jpg", "b.jpg")
    first = plan_of(corpus, store)
    write_files(corpus, "c.jpg")
    smaller = plan_of(corpus, store)
    aside = store.location(smaller.ref)
    Path(aside).rename(corpus.parent / "aside")  # not published yet when the other scan looks
    write_files(corpus, "d.jpg")
    larger = plan_of(corpus, store)
    (corpus.parent / "aside").rename(aside)
    assert {smaller.manifest["inputs"]["previous"], larger.manifest["inputs"]["previous"]} == {
        first.key
    }
    return smaller, larger


def test_of_two_plans_that_continue_one_the_larger_goes_on(
    corpus: Path, store: ArtifactStore
) -> None:
    _, larger = raced_plans(corpus, store)
    assert plan_of(corpus, store).ref == larger.ref
    write_files(corpus, "e.jpg")
    after = plan_of(corpus, store)
    assert after.manifest["inputs"]["previous"] == larger.key
    assert all_names(after) == [f"{c}.jpg" for c in "abcde"]


def test_a_plan_that_lost_a_race_is_not_taken_up_when_files_go(
    corpus: Path, store: ArtifactStore
) -> None:
    raced_plans(corpus, store)
    for name in ("b.jpg", "c.jpg", "d.jpg"):
        (corpus / name).unlink()
    shrunk = plan_of(corpus, store)
    write_files(corpus, "e.jpg")
    after = plan_of(corpus, store)
    assert after.manifest["inputs"]["previous"] == shrunk.key
    assert digests(after)[:-1] == digests(shrunk)


def test_a_damaged_plan_is_not_continued(corpus: Path, store: ArtifactStore) -> None:
    write_files(corpus, "a.jpg")
    plan = plan_of(corpus, store)
    path = Path(plan.uri(ENTRIES))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"entries\.parquet.*--repair"):
        plan_of(corpus, store)


def test_a_part_is_identified_by_its_content(corpus: Path, store: ArtifactStore, fake_clip) -> None:
    """The embedding of an old part is there for the grown plan: same key."""
    from tasks.stage.contract import PartOfPlan
    from tests.support.runs.builds import clip

    config = embed_images.Config(clip=clip())
    write_files(corpus, "a.jpg", "b.jpg")
    before = plan_of(corpus, store)
    write_files(corpus, "c.jpg")
    after = plan_of(corpus, store)
    refs = [embed_images.locate(config, PartOfPlan(plan.ref, 0), store) for plan in (before, after)]
    assert refs[0] == refs[1]


def test_a_corpus_without_patterns_keeps_its_key(corpus: Path, store: ArtifactStore) -> None:
    """Keys in stores of earlier versions."""
    recipe = Recipe(stage="scan", version=1, config={"source": "/c"})
    assert scan.Config(source="/c").recipe == recipe
    prefixes = {
        scan.Config(source="/c", **given).recipe.prefix
        for given in ({}, {"include": ("a",)}, {"exclude": ("a",)}, {"uri_column": "a"})
    }
    assert len(prefixes) == 4


def test_patterns_that_leave_nothing_are_one_sentence(corpus: Path, store: ArtifactStore) -> None:
    write_files(corpus, "a.jpg", "b.jpg", "n.txt")
    with pytest.raises(CorpusError, match=r"leave no image of .*\(2 excluded, 1 txt\)") as caught:
        plan_of(corpus, store, include=("*.png",))
    assert "\n" not in str(caught.value)
    assert plan_of(corpus, store, include=("a*",)).counts["ignored"] == {"excluded": 1, "txt": 1}


def test_patterns_keep_the_parts_that_a_plan_without_them_has(
    corpus: Path, store: ArtifactStore
) -> None:
    """They keep their embeddings; new files are cut into parts of their own."""
    write_files(corpus, "a.jpg", "b.jpg", "c.jpg", "thumbs/d.jpg", "thumbs/e.jpg", "thumbs/f.jpg",
                "x.jpg", "thumbs/g.jpg")  # fmt: skip
    whole = plan_of(corpus, store)
    assert names_by_part(whole) == {
        0: ["a.jpg", "b.jpg"], 1: ["c.jpg", "d.jpg"], 2: ["e.jpg", "f.jpg"], 3: ["g.jpg", "x.jpg"],
    }  # fmt: skip
    some = plan_of(corpus, store, exclude=("thumbs",))
    assert digests(some) == [digests(whole)[0], digests(whole)[1], digests(whole)[3]]
    assert names_by_part(some) == {0: ["a.jpg", "b.jpg"], 1: ["c.jpg"], 2: ["x.jpg"]}
    few = plan_of(corpus, store, include=("a.jpg", "e.jpg", "thumbs/d.jpg"), exclude=("a.jpg",))
    assert names_by_part(few) == {0: ["d.jpg"]}
    write_files(corpus, "y.jpg")
    grown = plan_of(corpus, store, exclude=("thumbs",))
    assert digests(grown)[:3] == digests(some)
    assert names_by_part(grown)[3] == ["y.jpg"]
    assert digests(plan_of(corpus, store))[:4] == digests(whole)


def test_patterns_affect_the_digests_of_parts_with_tars_only(
    corpus: Path, store: ArtifactStore
) -> None:
    write_files(corpus, "a.jpg", "b.jpg")
    write(corpus / "t.tar", tar_bytes([("c.jpg", jpeg())]))
    whole = plan_of(corpus, store)
    some = plan_of(corpus, store, exclude=("c.jpg",))
    assert digests(some)[0] == digests(whole)[0]
    assert digests(some)[1] != digests(whole)[1]


def test_images_that_a_pattern_matches_are_one_plan_that_grows(
    corpus: Path, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(corpus, "a.jpg", "x/b.jpg")
    plan = plan_of(f"{corpus}/**/*.jpg", store)
    write_files(corpus, "x/c.jpg")
    monkeypatch.chdir(corpus)
    grown = plan_of("**/*.jpg", store)
    assert digests(grown)[0] == digests(plan)[0]
    assert all_names(grown) == ["a.jpg", "b.jpg", "c.jpg"]
