"""What of a build is exported: labels that are good enough, with their splits and ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.builds.found import FoundBuild
from flows.builds.labels import Labels, load_labels
from flows.exporting.settings import ExportOptions, shares_of
from storage.errors.exceptions import ConfigError
from storage.images.records import read_parquet
from tasks.duplicates import find_duplicates, import_duplicates
from tasks.exporting.contents import Contents, LabelFacts, PlannedImage
from tasks.exporting.numbering import categories_of, coco_numbers, counted
from tasks.exporting.splitting import split_images
from tasks.stage.layout import CARD, DUPLICATES, SAMPLES


@dataclass(frozen=True)
class Gathered:
    """What is exported.

    Attributes:
        contents: for the writers.
        labels_left_out, images_left_out: how many are not, for their quality.
    """

    contents: Contents
    labels_left_out: int
    images_left_out: int


def gather(build: FoundBuild, options: ExportOptions) -> Gathered:
    """The contents of an export.

    Images of which no label is left are left out, too: they would say that none of the categories
    is in them. Labels that are left out beside others are to be ignored in label maps.

    Raises:
        ArtifactError: a file of the build is missing or damaged.
        ConfigError: a label has no quality, none has enough, images or categories have no ids of
            COCO's, or a split would have no image.
        StorageError: the store can't be read.
    """
    labels = load_labels(build)
    samples = labels.samples
    kept = _kept(labels, options.min_quality)
    chosen = np.unique(samples.objects.samples[kept]).tolist()
    image_ids = [samples.key(sample) for sample in chosen]
    sources = _sources(build) if (options.images, options.ids) != ("copy", "build") else {}
    own_ids = options.ids == "coco"
    if own_ids:
        corpus = [str(each) for each in build.record.notes.get("corpus", ())]
        numbers = coco_numbers({each: sources[each] for each in image_ids}, corpus)
    else:
        numbers = counted(image_ids)
    shown = {
        image_id: [
            int(samples.objects.labels[label])
            for label in samples.objects.range_of(sample)
            if kept[label]
        ]
        for image_id, sample in zip(image_ids, chosen, strict=True)
    }
    shares = shares_of(options.split)
    splits = split_images(shown, _groups(build), shares, options.seed)
    images = [
        PlannedImage(
            sample=sample,
            number=numbers[image_id],
            stem=f"{numbers[image_id]:012d}" if own_ids else image_id,
            split=splits[image_id],
            source=sources.get(image_id, ("", ""))[0],
            member=sources.get(image_id, ("", ""))[1],
            left_out=frozenset(
                int(samples.objects.places[label])
                for label in samples.objects.range_of(sample)
                if not kept[label]
            ),
        )
        for image_id, sample in zip(image_ids, chosen, strict=True)
    ]
    with build.dataset.open(CARD) as file:
        card = file.read().decode("utf-8")
    contents = Contents(
        name=build.name,
        key=build.dataset.key,
        card=card,
        categories=tuple(categories_of(samples.vocabulary, own_ids=own_ids)),
        splits=tuple(shares),
        samples=samples,
        facts=LabelFacts(labels.rank, labels.score, labels.quality),
        images=images,
    )
    return Gathered(contents, int((~kept).sum()), len(samples) - len(images))


def _kept(labels: Labels, min_quality: float) -> npt.NDArray[np.bool_]:
    """Whether each label is good enough, bool [n]."""
    if not min_quality:
        return np.ones(len(labels), dtype=np.bool_)
    if not labels.judged:
        raise ConfigError(
            "The build's labels have no quality: build with --quality, or leave --min-quality out."
        )
    kept: npt.NDArray[np.bool_] = np.nan_to_num(labels.quality, nan=-1.0) >= min_quality
    if not kept.any():
        raise ConfigError(
            f"No label has a quality of {min_quality:g}; the best has "
            f"{np.nanmax(labels.quality):.2f}: lower --min-quality."
        )
    return kept


def _groups(build: FoundBuild) -> dict[str, str]:
    """The group of near-duplicates of each image that has one, by image_id."""
    found = build.one(find_duplicates.NAME) or build.one(import_duplicates.NAME)
    if found is None:
        return {}
    with found.open(DUPLICATES) as file:
        rows = read_parquet(file, columns=["image_id", "group"]).to_pylist()
    return {row["image_id"]: row["group"] for row in rows}


def _sources(build: FoundBuild) -> dict[str, tuple[str, str]]:
    """URI and member of each sample's image, by image_id."""
    with build.plan.open(SAMPLES) as file:
        rows = read_parquet(file, columns=["image_id", "uri", "member"]).to_pylist()
    return {row["image_id"]: (row["uri"], row["member"]) for row in rows}
