"""COCO 2017 val (Lin et al. 2014), and own data in the format of COCO's instance annotations.

COCO 2017 val, as the downloads unpack:

    coco2017/
      annotations/instances_val2017.json
      val2017/000000000139.jpg …

Images without annotations are background and count, as in the reference (`datasets/coco2017.py`,
`remove_images_without_mask=False`). `coco_annotations` describes how label maps are painted from
objects.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from storage.annotations.benchmark import Benchmark, RequiredPath
from storage.annotations.category_names import shipped_categories
from storage.annotations.coco_annotations import (
    LEFT_OUT,
    Annotation,
    CocoGroundTruth,
    fault_in,
    parse_annotations,
)
from storage.annotations.evaluation_set import EvaluationImage, EvaluationSet
from storage.errors.exceptions import CorpusError
from storage.errors.sentences import listed
from storage.files.file_kinds import file_name
from storage.files.filesystems import display, exists, is_local, join_uri, local_uri, parent_uri
from storage.files.json_files import is_text
from storage.vocabularies.vocabulary import BACKGROUND

# Images tried to find the folder: some may have been deleted.
_NAMES_TRIED: Final = 20
_FAULTS_NAMED: Final = 5
# The limit of `storage.images.decoding.decode`.
_MAX_SIDE: Final = 16_384


def open_coco2017_val(folder: Path) -> EvaluationSet:
    """COCO 2017 val: 5,000 images, 80 categories; `folder` as in the module's docstring."""
    return open_coco_layout(
        "coco2017-val", folder / "annotations/instances_val2017.json", folder / "val2017"
    )


def open_coco_layout(
    name: str, annotations: Path, images: Path, wanted: Collection[int] | None = None
) -> EvaluationSet:
    """A set with all of COCO's own 80 categories, whether they occur or not.

    Args:
        name: of the set.
        annotations: the JSON file.
        images: the folder of the images.
        wanted: ids of the images to take; None for all.

    Raises:
        CorpusError: as `open_coco_json`; or a wanted image is not in the file, or a category of
            the file is not COCO's.
    """
    names = {int(each.external_id or 0): each.name for each in shipped_categories("coco")}
    file = _InstanceFile(local_uri(str(annotations)), wanted)
    return file.evaluation_set(name, local_uri(str(images)), names)


def open_coco_json(uri: str, images: str | None = None, *, skip_bad: bool = False) -> EvaluationSet:
    """Own data: a JSON file in COCO's format for instances, with the categories that it lists.

    Categories are in the order of their ids, images too. The set has the file's name. A
    category called background is label 0, painted where it is annotated, and no object.

    Args:
        uri: of the JSON file, local or remote.
        images: URI of the folder to which `images[].file_name` is relative. Without it, the folder
            of the JSON file, the one above, their `images/`, or the one named like the end of the
            file's name, such as `val2017` for `instances_val2017.json`.
        skip_bad: leave faulty annotations out and list them, rather than refuse the file.

    Raises:
        CorpusError: no valid JSON of this format; images that are missing or have the same id;
            annotations of unknown images or categories, or with masks that can't be right.
        StorageError: a file system can't be reached.
    """
    file = _InstanceFile(uri, None, skip_bad=skip_bad)
    folder = images if images is not None else file.image_folder()
    return file.evaluation_set(file_name(uri).rpartition(".")[0], folder, None)


class _InstanceFile:
    """A JSON file as parsed, and the checks that its parts fit together."""

    def __init__(self, uri: str, wanted: Collection[int] | None, *, skip_bad: bool = False) -> None:
        self._uri = uri
        self._skip_bad = skip_bad
        document = parse_annotations(uri, None if wanted is None else frozenset(wanted))
        self._categories = self._checked_categories(self._list(document, "categories"))
        self._images = self._checked_images(self._list(document, "images"), wanted)
        values = self._list(document, "annotations")
        self._values = [value for value in values if value is not LEFT_OUT]
        self._annotations: list[Annotation] = []
        self._skipped: tuple[str, ...] = ()

    def evaluation_set(self, name: str, folder: str, known: dict[int, str] | None) -> EvaluationSet:
        """The set; `known` are its expected categories, else it has the file's own."""
        background = {} if known else self._background()
        categories = self._agreed_categories(known, background)
        labels_by_id = {category_id: label for label, category_id in enumerate(categories, 1)}
        labels_by_id |= dict.fromkeys(background, 0)
        self._annotations = self._sound_annotations(labels_by_id)
        self._check_files(folder)
        of_image: dict[int, list[Annotation]] = {image_id: [] for image_id in self._images}
        for annotation in self._annotations:
            of_image[annotation.image_id].append(annotation)
        images = [
            EvaluationImage(
                image_id=image_id,
                name=image["file_name"],
                uri=join_uri(folder, image["file_name"]),
                ground_truth=CocoGroundTruth(
                    (image["height"], image["width"]), tuple(of_image[image_id]), labels_by_id
                ),
            )
            for image_id, image in sorted(self._images.items())
        ]
        return EvaluationSet(
            name=name,
            categories=tuple(categories.values()),
            images=tuple(images),
            # Left out where they equal the labels: the digest of such a set stays as it was.
            category_ids=() if _are_labels(categories) else tuple(categories),
            skipped=self._skipped,
            notes=self._notes(background),
        )

    def image_folder(self) -> str:
        """The URI of the folder to which the file names are relative."""
        folder = parent_uri(self._uri)
        parent = parent_uri(folder)
        split = file_name(self._uri).rpartition(".")[0].rpartition("_")[2]
        places = [folder, join_uri(folder, "images"), parent, join_uri(parent, "images"),
                  join_uri(parent, split), join_uri(parent, f"images/{split}")]  # fmt: skip
        names = [image["file_name"] for image in islice(self._images.values(), _NAMES_TRIED)]
        for place in places:
            if any(exists(join_uri(place, name)) for name in names):
                return place
        raise CorpusError(
            f"The images of {display(self._uri)} (the first is {display(names[0])}) are in none of"
            f" {', '.join(map(display, places))}; say where they are: coco:FILE.json@FOLDER."
        )

    def _list(self, document: Any, key: str) -> list[Any]:
        values = document.get(key) if isinstance(document, dict) else None
        if not isinstance(values, list):
            raise CorpusError(
                f"The file {display(self._uri)} has no list `{key}`; evaluation needs COCO's format"
                f" for instances, with `images`, `categories` and `annotations`."
            )
        return values

    def _checked_categories(self, categories: list[Any]) -> dict[int, str]:
        """Names by id, in the order of the ids."""
        bad = [each for each in categories if not _is_category(each)]
        self._refuse(bad, categories, "categories lack a number `id` or a `name`")
        by_id = {
            each["id"]: each["name"] for each in sorted(categories, key=lambda each: each["id"])
        }
        if len(by_id) < len(categories) or len(set(by_id.values())) < len(by_id):
            raise CorpusError(
                f"The file {display(self._uri)} has {len(categories):,} categories of which some"
                f" have the same `id` or `name`; number and name them apart."
            )
        return by_id

    def _checked_images(
        self, images: list[Any], wanted: Collection[int] | None
    ) -> dict[int, dict[str, Any]]:
        bad = [image for image in images if not _is_image(image)]
        self._refuse(
            bad,
            images,
            "images lack an `id`, a `file_name`, or a `height` and a `width` of 1 to 16,384",
        )
        if wanted is not None:
            images = [image for image in images if image["id"] in wanted]
        by_id = {image["id"]: image for image in images}
        repeated = [image["id"] for image in images if by_id[image["id"]] is not image]
        self._refuse(repeated, images, "images have the `id` of another one")
        absent = sorted(set(wanted or ()) - by_id.keys())
        self._refuse(absent, list(wanted or ()), "listed images are not in it")
        if not by_id:
            raise CorpusError(f"The file {display(self._uri)} lists no image to evaluate on.")
        return by_id

    def _sound_annotations(self, labels_by_id: Mapping[int, int]) -> list[Annotation]:
        """Those that can be used; the others are refused, or listed as skipped."""
        sound, faults = [], []
        for value in self._values:
            fault = self._fault(value, labels_by_id)
            if fault:
                faults.append(f"{_named(value)}: {fault}")
            else:
                sound.append(value)
        if faults and not self._skip_bad:
            raise CorpusError(
                f"The file {display(self._uri)} has annotations that can't be used, "
                f"{len(faults):,} of {len(self._values):,} ({_listed(faults)}); mend them, get all "
                "parts from one release of the data, or leave those of own data out with "
                "--skip-bad (skip_bad=true)."
            )
        self._skipped = tuple(faults)
        return sound

    def _fault(self, value: Any, labels_by_id: Mapping[int, int]) -> str:
        """Why an annotation can't be used; empty if it can."""
        if not isinstance(value, Annotation):
            return "it lacks a number `image_id` or `category_id`"
        if value.image_id not in self._images:
            return "it is of an image that the file does not list"
        if value.category_id not in labels_by_id:
            return f"its `category_id`, {value.category_id}, is no category's"
        image = self._images[value.image_id]
        return fault_in(value, (image["height"], image["width"]))

    def _notes(self, background: dict[int, str]) -> tuple[str, ...]:
        file = display(file_name(self._uri))
        notes = list(self._background_notes(background))
        if count := len(self._skipped):
            what = f"annotation of {file} is" if count == 1 else f"annotations of {file} are"
            notes.append(f"{count:,} faulty {what} skipped: {_listed(self._skipped)}.")
        if short := sum(each.short_parts for each in self._annotations):
            notes.append(
                f"{short:,} outlines in {file} have fewer than three corners and are left out "
                "beside whole ones of the same objects."
            )
        return tuple(notes)

    def _background(self) -> dict[int, str]:
        """The categories named background."""
        return {
            number: name
            for number, name in self._categories.items()
            if name.strip().casefold() == BACKGROUND
        }

    def _background_notes(self, background: dict[int, str]) -> tuple[str, ...]:
        file = display(file_name(self._uri))
        count = sum(each.category_id in background for each in self._annotations)
        return tuple(
            f"The category {name!r} of {file} is the background, label 0: its annotations "
            f"({count:,}) are no objects."
            for name in background.values()
        )

    def _agreed_categories(
        self, known: dict[int, str] | None, background: Collection[int]
    ) -> dict[int, str]:
        if known is None:
            listed = {
                number: name
                for number, name in self._categories.items()
                if number not in background
            }
            if not listed:
                raise CorpusError(
                    f"The file {display(self._uri)} lists no category but the background; list "
                    "those of its objects."
                )
            return listed
        given = list(self._categories.items())
        others = [(number, name) for number, name in given if known.get(number) != name]
        self._refuse(others, given, "categories are none of COCO's 80")
        return known

    def _check_files(self, folder: str) -> None:
        # A remote store would need a request per image; there, reading a missing one fails.
        if not is_local(folder):
            return
        names = [image["file_name"] for image in self._images.values()]
        absent = [name for name in names if not exists(join_uri(folder, name))]
        self._refuse(absent, names, f"images are not in {display(folder)}")

    def _refuse(self, bad: list[Any], of: list[Any], what: str) -> None:
        """Raises if there are any `bad` ones."""
        if bad:
            raise CorpusError(
                f"The file {display(self._uri)} does not match its images or itself: {len(bad):,}"
                f" of {len(of):,} {what} (first: {display(str(bad[0]))[:100]}); get all parts from"
                f" one release of the data."
            )


def _named(value: Any) -> str:
    """An annotation's name in messages."""
    if isinstance(value, Annotation):
        return f"annotation {display(str(value.annotation_id))[:50]} of image {value.image_id}"
    number = value.get("id") if isinstance(value, dict) else value
    return f"annotation {display(str(number))[:50]}"


def _listed(faults: Sequence[str]) -> str:
    return listed(faults, _FAULTS_NAMED, "; ")


def _are_labels(category_ids: Collection[int]) -> bool:
    return list(category_ids) == list(range(1, len(category_ids) + 1))


def _is_category(value: Any) -> bool:
    match value:
        case {"id": int(), "name": str(name)}:
            return is_text(name)
        case _:
            return False


def _is_image(value: Any) -> bool:
    match value:
        case {"id": int(), "file_name": str(name), "height": int(height), "width": int(width)}:
            return is_text(name) and 0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE
        case _:
            return False


COCO2017_VAL: Final = Benchmark(
    name="coco2017-val",
    what="COCO 2017 val: 80 categories, semantic and instances",
    folders=("coco2017", "coco"),
    requires=(
        RequiredPath("annotations/instances_val2017.json"),
        RequiredPath("val2017", files=5_000),
    ),
    images=5_000,
    sources=(
        "http://images.cocodataset.org/zips/val2017.zip",
        "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
    ),
    reader=open_coco2017_val,
)
