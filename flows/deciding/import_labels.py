"""`zutis import-labels`: corrected files of other programs become decisions."""

from __future__ import annotations

from collections import Counter
from typing import Final

from rich.console import Console

from flows.commands.options import command_of
from flows.deciding.settings import ImportOptions
from flows.terminal.waiting import waiting_for
from storage.artifacts.store import ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.files.filesystems import display, is_local, local_path, local_uri
from storage.files.user_files import user_path

_SAID: Final = {
    "redrawn": "with another mask",
    "renamed": "of another category",
    "renamed_and_redrawn": "of another category and with another mask",
    "rejected": "rejected, without an object in the file",
    "accepted": "accepted, as nothing was changed",
    "unchanged": "unchanged",
    "as_decided": "as decided before",
    "missing": "kept, without an object in the file (--missing reject rejects them)",
}
_UNUSED: Final = {
    "new_objects": "objects of no label: decisions are about labels that there are",
    "wrong_size": "objects with masks of another size than their image",
    "other_images": "images that the build does not have, whose masks are kept for builds that do",
    "unnamed_images": "images that no name tells: neither a sha256 nor a file's name that one "
    "image alone has",
}


@command_of(ImportOptions, positional=("file", "build"))
def import_command(options: ImportOptions) -> None:
    """Turn labels that were corrected in COCO, CVAT or Label Studio files into decisions."""
    console = Console()
    with waiting_for(console, "Comparing the labels"):
        from flows.builds.found import find_build
        from flows.deciding.corrections import corrections
        from flows.deciding.decision_log import DecisionLog
        from flows.deciding.reviewed import labels_to_review
        from storage.corrections.corrected import UNUSABLE
        from storage.corrections.reading import read_corrected
        from storage.decisions.decision_file import read_decisions
        from storage.decisions.outcomes import outcomes_of

        place = options.file
        if is_local(place):
            place = local_uri(str(user_path(local_path(place))))
        read = read_corrected(place)
        if not read.images:
            raise ConfigError(f"{display(options.file)} has no image: export it with images.")
        reviewed = labels_to_review(find_build(ArtifactStore(options.store), options.build))
        path = user_path(str(options.decisions)).resolve()
        before = read_decisions(str(path)) if path.exists() else []
        found = corrections(
            read.images, reviewed, outcomes_of(before),
            who=options.who, missing=options.missing, unchanged=options.unchanged,
        )  # fmt: skip
        if found.decisions:
            DecisionLog(path).append(found.decisions)
    counts = Counter(found.counts)
    lines = [f"{len(read.images):,} images in the file"]
    lines += [f"{counts[kind]:,} labels {said}" for kind, said in _SAID.items() if counts[kind]]
    lines += [f"{counts[kind]:,} {said}" for kind, said in _UNUSED.items() if counts[kind]]
    lines += [f"{read.left_out[why]:,} objects {said}" for why, said in UNUSABLE.items()
              if read.left_out[why]]  # fmt: skip
    lines.append(f"{len(found.decisions):,} decisions were added to {display(str(path))}.")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
