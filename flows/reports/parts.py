"""What a page on a build consists of: plain data, ready to be rendered.

Text is as it was found; the page escapes it. Images are JPEG or PNG files.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A small image with its mask drawn on it.

    Attributes:
        image: a PNG or JPEG file; empty where the image can't be read any more.
        caption: short words below it.
        name: the name of the image's file; empty if unknown.
        right: False for an image that is known not to show the category; the page marks it.
    """

    image: bytes
    caption: str
    name: str = ""
    right: bool = True


@dataclass(frozen=True, kw_only=True)
class CategoryGallery:
    """A category's images, the best first.

    Attributes:
        note: words beside the name.
    """

    name: str
    note: str
    thumbnails: tuple[Thumbnail, ...]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Images under a heading, with a sentence on them.

    Attributes:
        code: the word that records have for it, such as a reject reason; empty if there is none.
        names: of images without a thumbnail.
    """

    title: str
    note: str
    thumbnails: tuple[Thumbnail, ...]
    code: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of the funnel from the corpus to the shards.

    Attributes:
        title: what is counted.
        count: how many there are.
        left_out: how many of the step before are not among them, by reason.
    """

    title: str
    count: int
    left_out: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class CategoryRow:
    """A category in numbers.

    Attributes:
        labels: objects with this label in the shards.
        quality: mean of the labels' quality, 0..1; None where it was not estimated.
        notes: what is to be known of it, such as that few images show it.
        precision: the share of labels that people found right in a random sample, in words; empty
            where there was none.
    """

    category_id: int
    name: str
    retrieved: int
    kept: int
    labels: int
    quality: float | None
    notes: tuple[str, ...] = ()
    precision: str = ""


@dataclass(frozen=True, kw_only=True)
class Note:
    """A sentence on a category, with its name first."""

    name: str
    words: str


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """A table whose first column is text and whose others are numbers, aligned right.

    Attributes:
        command: the command line that reproduces it; empty if none is known.

    Raises:
        ValueError: the number of a row's cells differs from the number of columns.
    """

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    command: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"A row of {self.title!r} has {len(row)} cells "
                    f"for {len(self.columns)} columns: {row}."
                )
