"""Splits of images: near-duplicates stay together, and each category has its share in each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from hashlib import sha256

from storage.errors.exceptions import ConfigError


def split_images(
    labels: Mapping[str, Collection[int]],
    groups: Mapping[str, str],
    shares: Mapping[str, float],
    seed: int,
) -> dict[str, str]:
    """The split of each image.

    Category by category, the rarest first, images are dealt out in an order that the seed decides,
    always to the split that lacks most of its share; what a category leaves open is made up for by
    the next ones. So the splits of a category, and those of all images, are off by about one image,
    or one group.

    Args:
        labels: the labels of each image, by image_id.
        groups: the group of images that show the same, by image_id; others are groups of their own.
        shares: of each split, above 0, 1 together.
        seed: decides which images come into which split.

    Raises:
        ConfigError: a split would have no image.
    """
    members: dict[str, list[str]] = {}
    for image_id in sorted(labels):
        members.setdefault(groups.get(image_id, image_id), []).append(image_id)
    images_of = Counter(label for found in labels.values() for label in set(found))
    of_label: dict[int, list[str]] = {}
    for group, image_ids in members.items():
        shown = {label for image_id in image_ids for label in labels[image_id]}
        rarest = min(shown, key=lambda label: (images_of[label], label), default=0)
        of_label.setdefault(rarest, []).append(group)
    splits: dict[str, str] = {}
    lacking = dict.fromkeys(shares, 0.0)
    for label in sorted(of_label, key=lambda label: (images_of[label], label)):
        dealt = sorted(of_label[label], key=lambda group: _shuffled(group, seed))
        total = sum(len(members[group]) for group in dealt)
        for name, share in shares.items():
            lacking[name] += share * total
        for group in dealt:
            chosen = max(shares, key=lambda name: lacking[name])
            lacking[chosen] -= len(members[group])
            splits.update(dict.fromkeys(members[group], chosen))
    _require_all(shares, splits.values(), len(members))
    return splits


def _shuffled(group: str, seed: int) -> str:
    return sha256(f"{seed} {group}".encode()).hexdigest()


def _require_all(wanted: Collection[str], given: Collection[str], groups: int) -> None:
    if missing := [name for name in wanted if name not in set(given)]:
        raise ConfigError(
            f"The split {missing[0]} would have no image: {groups:,} images, near-duplicates "
            "counted once, are too few for it; give it a larger share, or leave it out."
        )
