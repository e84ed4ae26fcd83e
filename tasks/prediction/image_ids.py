"""Image ids in COCO files of predictions: those of an annotation file, against which to score.

COCO's tools match predictions with annotations by image id alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from storage.corpora.coco import image_ids, image_ids_by_uri
from storage.corpora.corpus import open_sources
from storage.corpora.listing import IMAGE, Listing
from storage.errors.exceptions import CorpusError
from storage.errors.sentences import listed
from storage.files.file_kinds import extension_of
from storage.files.filesystems import display, is_local, local_path

_NAMES_SHOWN = 3


@dataclass(eq=False)
class ImageIds:
    """Image ids of one or more COCO files; no two images get the same id.

    Attributes:
        label: the files, for people; files: their URIs.
        by_uri: ids of images with known URIs.
        by_name: ids by `file_name`; an image gets that of the longest one that ends its path.
    """

    label: str
    by_uri: Mapping[str, int] = field(default_factory=dict)
    by_name: Mapping[str, int] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    _owners: dict[int, str] = field(default_factory=dict)

    def check(self, listing: Listing) -> None:
        """Take the ids of all listed images; those of members of tars are taken while reading.

        Raises:
            CorpusError: as `take`, for all images together.
        """
        entries = listing.entries.select(["uri", "kind"]).to_pylist()
        uris = [entry["uri"] for entry in entries if entry["kind"] == IMAGE]
        unknown = [display(uri) for uri in uris if self._find(uri, "") is None]
        if unknown:
            raise CorpusError(
                f"{len(unknown):,} of {len(uris):,} images are not in {self.label}, such as "
                f"{listed(unknown, _NAMES_SHOWN)}: an image's path has to end with the `file_name` "
                "of one of its `images`."
            )
        for uri in uris:
            self.take(uri, "")

    def take(self, uri: str, member: str) -> int:
        """The image's id, which is then taken.

        Args:
            uri: of the file, or of the tar that contains it.
            member: its name in the tar; empty for a file.

        Raises:
            CorpusError: the image is not in the COCO files, or its id is taken by another image.
        """
        place = f"{uri}/{member}" if member else uri
        found = self._find(uri, member)
        if found is None:
            raise CorpusError(
                f"The image {display(place)} is not in {self.label}: its path has to end with the "
                "`file_name` of one of its `images`."
            )
        owner = self._owners.setdefault(found, place)
        if owner != place:
            raise CorpusError(
                f"The images {display(owner)} and {display(place)} are both image {found} of "
                f"{self.label}: leave one of them out."
            )
        return found

    def _find(self, uri: str, member: str) -> int | None:
        if not member and uri in self.by_uri:
            return self.by_uri[uri]
        path = member or (local_path(uri) if is_local(uri) else uri.partition("?")[0])
        if path in self.by_name:
            return self.by_name[path]
        parts = path.split("/")
        endings = ("/".join(parts[start:]) for start in range(1, len(parts)))
        return next((self.by_name[end] for end in endings if end in self.by_name), None)


def ids_of_file(uri: str) -> ImageIds:
    """The ids of a COCO file, for images of any location.

    Raises:
        CorpusError: it is no COCO file, or an image in it lacks a name or an id of its own.
        StorageError: it can't be read.
    """
    return ImageIds(display(uri), by_name=image_ids(uri), files=(uri,))


def ids_of_corpus(specs: Sequence[str]) -> ImageIds | None:
    """The ids of a corpus that consists of COCO files; None for any other.

    Raises:
        CorpusError: as `ids_of_file`, or two files use the same id for different images.
    """
    if not specs or any(extension_of(spec) != "json" for spec in specs):
        return None
    sources = open_sources(specs)
    if any(source.kind != "coco" for source in sources):
        return None
    files = [source.uris[0] for source in sources]
    label = " and ".join(map(display, files))
    ids: dict[str, int] = {}
    owners: dict[int, str] = {}
    for file in files:
        for uri, own_id in image_ids_by_uri(file).items():
            if owners.setdefault(own_id, uri) != uri or ids.setdefault(uri, own_id) != own_id:
                raise CorpusError(
                    f"{label} number their images differently, such as {display(uri)}."
                )
    return ImageIds(label, by_uri=ids, files=tuple(files))
