"""Reading a corrected file of any of the formats, which its content tells apart."""

from __future__ import annotations

from itertools import chain

from storage.annotations.coco_annotations import parse_annotations
from storage.corrections.coco import is_coco, read_coco
from storage.corrections.corrected import CorrectedFile
from storage.corrections.cvat import read_cvat
from storage.corrections.label_studio import is_label_studio, read_label_studio
from storage.errors.exceptions import CorpusError
from storage.files.filesystems import display
from storage.files.user_files import ANNOTATIONS, iter_chunks


def read_corrected(place: str) -> CorrectedFile:
    """The images and objects of a file.

    Args:
        place: path or URI of COCO's JSON, CVAT's XML for images 1.1, or Label Studio's JSON.

    Raises:
        CorpusError: it is none of these.
        StorageError: it can't be read.
    """
    chunks = iter_chunks(place, ANNOTATIONS)
    first = next(chunks, b"")
    if first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        try:
            return read_cvat(chain([first], chunks))
        except ValueError as error:
            raise CorpusError(
                f"{display(place)} can't be used ({error}): export it anew as CVAT for images 1.1."
            ) from error
    document = parse_annotations(place, None)
    if is_coco(document):
        return read_coco(document)
    if is_label_studio(document):
        return read_label_studio(document)
    raise CorpusError(
        f"{display(place)} is neither COCO's JSON, nor Label Studio's, nor CVAT's XML for images: "
        "export it as one of these."
    )
