"""Builds that leave out near-duplicates and images of evaluation sets, and say so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.cli import exit_code_of, run_command_line
from flows.pipelines.build import Build
from flows.pipelines.duplicates import short_names
from flows.settings.build import BuildSettings
from flows.settings.options import changed
from flows.summaries.build import summarise
from storage.errors.exceptions import ConfigError, CorpusError, StorageError, ZutisError
from storage.shards.samples import ShardSamples
from tasks.packing.record_build import used_artifacts
from tasks.stage.layout import CARD, CHOSEN_LABELS, RECORDS, RETRIEVED_IMAGES
from tests.support.files.bad_images import HTML, write
from tests.support.files.made_copies import write_copies, write_originals
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import (
    artifacts_by_stage,
    build_cached,
    build_here,
    new_artifacts,
    rows_of,
    settings_of,
    write_vocabulary,
)

pytestmark = pytest.mark.slow

ORIGINALS = 6


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_originals(tmp_path / "corpus", ORIGINALS)
    return tmp_path / "corpus"


@pytest.fixture
def settings(
    corpus: Path, tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> BuildSettings:
    """Of a build of one category that all images show."""
    vocabulary = write_vocabulary(tmp_path / "v.txt", ["grey"])
    return settings_of(corpus, vocabulary, tmp_path / "store", per_category=50)


def names_of(built: Build) -> dict[str, str]:
    """File names of the corpus's images by image_id."""
    rows = [row for part in built.embedded for row in rows_of(part, RECORDS)]
    return {row["image_id"]: Path(row["uri"]).name for row in rows}


def reasons(built: Build) -> dict[str, str]:
    """Why each label of an image is left out, by file name; empty where it is kept."""
    assert built.chosen is not None
    names = names_of(built)
    return {names[row["image_id"]]: row["reason"] for row in rows_of(built.chosen, CHOSEN_LABELS)}


def left_out(built: Build) -> dict[str, str]:
    return {name: reason for name, reason in reasons(built).items() if reason}


def facts(built: Build) -> list[dict[str, Any]]:
    samples = ShardSamples.open(built.dataset)
    return [json.loads(samples.read(at).facts) for at in range(len(samples))]


def card_of(built: Build) -> str:
    return built.dataset.open(CARD).read().decode()


def shapes(value: Any) -> Any:
    """A JSON value's names and types."""
    if isinstance(value, dict):
        return {name: shapes(each) for name, each in value.items()}
    return [shapes(each) for each in value[:1]] if isinstance(value, list) else type(value)


def test_of_near_duplicates_the_best_rank_is_kept(settings: BuildSettings, corpus: Path) -> None:
    write_copies(corpus, 1, "jpeg_30", "mirrored")
    write_copies(corpus, 3, "brighter")
    plain = build_here(settings)
    built = build_here(changed(settings, duplicates="drop"))
    names, left = names_of(built), left_out(built)
    assert set(left.values()) == {"near_duplicate"}
    ranks = {names[each["image_id"]]: each["categories"][0]["rank"] for each in facts(plain)}
    for together in ({"1.png", "1-jpeg_30.jpg", "1-mirrored.jpg"}, {"3.png", "3-brighter.jpg"}):
        [kept] = together - left.keys()
        assert ranks[kept] == min(ranks[name] for name in together)
    assert len(left) == 3
    assert len(facts(built)) == len(reasons(built)) - 3 == len(facts(plain)) - 3
    assert built.retrieval.ref == plain.retrieval.ref
    assert summarise(built, []).facts["labels"].endswith("left out: 3 near_duplicate")
    assert "2 groups among the 9 images" in summarise(built, []).facts["near-duplicates"]
    assert "left out: 3 near_duplicate." in card_of(built)


def test_samples_have_the_form_of_a_default_build(settings: BuildSettings, corpus: Path) -> None:
    write_copies(corpus, 1, "mirrored")
    plain, built = build_here(settings), build_here(changed(settings, duplicates="drop"))
    own, others = facts(built), facts(plain)
    assert shapes(own[0]) == shapes(others[0])
    assert all(each in others for each in own)


def test_where_there_is_none_the_shards_stay_as_they_are(settings: BuildSettings) -> None:
    plain = build_here(settings)
    before = artifacts_by_stage(settings.store)
    built = build_here(changed(settings, duplicates="drop"))
    assert left_out(built) == {}
    assert "all are kept" in summarise(built, []).facts["labels"]
    assert summarise(built, []).facts["near-duplicates"].startswith("none among the 6 images")
    assert not {"labels", "near-duplicates", "kept out"} & summarise(plain, []).facts.keys()
    assert "Near-duplicates" not in card_of(plain)
    made = new_artifacts(before, artifacts_by_stage(settings.store))
    assert "pack_shards" not in made
    assert "make_masks" not in made


def test_images_of_an_evaluation_set_are_left_out_and_all_tell(
    settings: BuildSettings, tmp_path: Path
) -> None:
    write_originals(tmp_path / "sets" / "val", 1, first=2)
    write_originals(tmp_path / "sets" / "val", 2, first=40)
    write_copies(tmp_path / "sets" / "val", 4, "crop")
    write(tmp_path / "sets" / "val" / "bad.jpg", HTML)
    wanted = changed(settings, keep_out=(str(tmp_path / "sets" / "val"),))
    built = build_here(wanted)
    assert left_out(built) == {"2.png": "leak", "4.png": "leak"}
    assert built.chosen is not None
    rows = rows_of(built.chosen, CHOSEN_LABELS)
    assert {row["keep_out"] for row in rows if not row["kept"]} == {"val"}
    names = names_of(built)
    assert not {"2.png", "4.png"} & {names[each["image_id"]] for each in facts(built)}
    told = summarise(built, []).facts
    assert told["labels"] == "6 labels; 4 are kept, left out: 2 leak"
    has = (
        "val: 2 of the images that were retrieved are, or nearly are, among its 4 images (1 more "
        "can't be read)"
    )
    assert told["kept out"] == has
    assert f"- {has}\n" in card_of(built)
    assert str(tmp_path) not in card_of(built)
    used = used_artifacts(built.record)
    assert {"find_leaks", "choose_labels"} <= {ref.stage for ref in used}
    assert len([ref for ref in used if ref.stage == "build_index"]) == 2
    before = artifacts_by_stage(settings.store)
    assert build_cached(wanted).record.ref == built.record.ref
    assert artifacts_by_stage(settings.store) == before


def test_several_sets_of_any_kind_are_kept_out(settings: BuildSettings, tmp_path: Path) -> None:
    write_copies(tmp_path / "a" / "val", 0, "quarter")
    write_originals(tmp_path / "b", 1, first=3)
    (tmp_path / "b" / "val.json").write_text(
        json.dumps({"images": [{"id": 1, "file_name": "3.png"}]})
    )
    sets = (str(tmp_path / "b" / "val.json"), str(tmp_path / "a" / "val"))
    built = build_here(changed(settings, keep_out=sets))
    assert left_out(built) == {"0.png": "leak", "3.png": "leak"}
    assert built.chosen is not None
    before = artifacts_by_stage(settings.store)
    build_here(changed(settings, keep_out=(*sets[::-1], sets[0])))
    assert new_artifacts(before, artifacts_by_stage(settings.store)) == {}


def test_an_image_that_the_corpus_would_refuse_is_kept_out_all_the_same(
    settings: BuildSettings, tmp_path: Path
) -> None:
    from PIL import Image

    write_originals(tmp_path / "val", 1, first=2)
    with Image.open(tmp_path / "val" / "2.png") as image:
        image.convert("CMYK").save(tmp_path / "val" / "2.jpg")
    (tmp_path / "val" / "2.png").unlink()
    wanted = changed(settings, unusual_images="reject", keep_out=(str(tmp_path / "val"),))
    assert left_out(build_here(wanted)) == {"2.png": "leak"}


def test_a_list_of_groups_takes_the_place_of_looking_for_them(
    settings: BuildSettings, corpus: Path, tmp_path: Path
) -> None:
    write_copies(corpus, 1, "mirrored")
    file = tmp_path / "groups.csv"
    file.write_text("path,group\ncorpus/0.png,a\ncorpus/5.png,a\ncorpus/gone.png,a\n")
    built = build_here(changed(settings, duplicate_groups=str(file)))
    assert len(left_out(built)) == 1
    assert left_out(built).keys() <= {"0.png", "5.png"}
    assert (
        "1 of the 3 images that the list names are not in the corpus"
        in (summarise(built, []).facts["near-duplicates"])
    )
    assert "import_duplicates" in {ref.stage for ref in used_artifacts(built.record)}
    assert "find_duplicates" not in artifacts_by_stage(settings.store)


def test_of_a_group_that_a_set_has_in_part_another_image_is_kept(
    settings: BuildSettings, tmp_path: Path
) -> None:
    write_originals(tmp_path / "val", 1)
    file = tmp_path / "groups.csv"
    file.write_text("path,group\ncorpus/0.png,a\ncorpus/5.png,a\n")
    built = build_here(
        changed(settings, duplicate_groups=str(file), keep_out=(str(tmp_path / "val"),))
    )
    assert left_out(built) == {"0.png": "leak"}


@pytest.fixture
def places(corpus: Path, tmp_path: Path) -> dict[str, Path]:
    """Names that options can't take."""
    (tmp_path / "empty").mkdir()
    write(tmp_path / "broken" / "a.jpg", HTML)
    (tmp_path / "words.csv").write_text("path,colour\na.jpg,red\n")
    (tmp_path / "others.csv").write_text("path,group\na.jpg,1\nb.jpg,1\n")
    shutil.copytree(corpus, tmp_path / "again")
    return {path.name: path for path in tmp_path.iterdir()} | {"gone": tmp_path / "gone.csv"}


BAD = {
    "the corpus itself": ("keep_out", "corpus", ConfigError, "is the corpus itself, so that"),
    "a set that is not there": ("keep_out", "gone", CorpusError, "can't be used: the corpus .* "
                                "does not exist"),
    "a set without images": ("keep_out", "empty", CorpusError, "can't be used: .*holds no image.*"
                             ": give --keep-out a folder"),
    "a list that is not there": ("duplicate_groups", "gone", StorageError, "gone.csv"),
    "a list of something else": ("duplicate_groups", "words.csv", CorpusError, "no column `group`"),
    "a list that is none": ("duplicate_groups", "v.txt", CorpusError, "is none of these"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_can_not_be_is_refused_before_any_work(
    what: str,
    settings: BuildSettings,
    places: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    option, name, error, words = BAD[what]
    wanted = changed(settings, **{option: str(places[name])})
    with pytest.raises(error, match=words) as caught:
        build_here(wanted)
    assert is_one_sentence(str(caught.value))
    assert artifacts_by_stage(settings.store).keys() <= {"scan"}
    command = ["build", "--corpus", *settings.corpus, "--vocabulary", settings.vocabulary]
    command += ["--clip", settings.clip, "--selfmask", settings.selfmask, "--device", "cpu"]
    command += ["--store", settings.store, f"--{option.replace('_', '-')}", str(places[name])]
    assert exit_code_of(lambda: run_command_line(command)) == 2
    assert "Traceback" not in capsys.readouterr().err


LATER = {
    "the corpus under another name": (
        "keep_out", "again", ConfigError, "--keep-out again has all 6 images"),
    "a set that can't be read": (
        "keep_out", "broken", CorpusError, r"No image of --keep-out broken can be used \(1 "),
    "a list of other images": (
        "duplicate_groups", "others.csv", CorpusError, "None of the 2 images that .*others.csv"),
}  # fmt: skip


@pytest.mark.parametrize("what", LATER)
def test_what_only_the_images_tell_is_refused_before_any_mask(
    what: str, settings: BuildSettings, places: dict[str, Path]
) -> None:
    option, name, error, words = LATER[what]
    with pytest.raises(error, match=words) as caught:
        build_here(changed(settings, **{option: str(places[name])}))
    assert is_one_sentence(str(caught.value))
    assert "make_masks" not in artifacts_by_stage(settings.store)


def is_one_sentence(text: str) -> bool:
    return text.endswith(".") and ". " not in text and "\n" not in text


def test_an_address_with_a_secret_is_refused(settings: BuildSettings) -> None:
    for option in ("keep_out", "duplicate_groups"):
        with pytest.raises(ZutisError, match="carries a password"):
            changed(settings, **{option: "https://ada:pw@example.org/val.csv"})


def test_local_sets_are_called_by_as_little_as_tells_them_apart() -> None:
    assert short_names(["/data/coco/val", "s3://b/val", "/data/voc/"]) == [
        "val", "s3://b/val", "voc",
    ]  # fmt: skip
    assert short_names(["/data/coco/val", "/data/voc/val"]) == ["coco/val", "voc/val"]
    assert short_names(["/data/val/*.tar", "/data/train/**/*.jpg"]) == [
        "val/*.tar", "train/**/*.jpg",
    ]  # fmt: skip
    assert short_names([]) == []


def test_the_retrieval_is_left_alone(settings: BuildSettings, tmp_path: Path) -> None:
    """Masks are made of what is left out, too: another choice finds them."""
    write_originals(tmp_path / "val", 2)
    built = build_here(changed(settings, keep_out=(str(tmp_path / "val"),)))
    assert len(rows_of(built.retrieval, RETRIEVED_IMAGES)) == ORIGINALS
