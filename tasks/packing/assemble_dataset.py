"""The stage `assemble_dataset`: shards with contiguous names in one folder, an index and a card.

Shards are linked, not copied, so that a growing vocabulary takes disk space only for new shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.sentences import listed
from storage.images.records import read_parquet, write_parquet
from storage.shards.card import METADATA, cell
from storage.shards.writing import EIGHT_BIT_IGNORE_LABEL, ignore_label
from tasks.categories.evidence_notes import thin_note
from tasks.packing.choice_sentences import (
    duplicates_sentence,
    keep_out_sentences,
    labels_sentence,
)
from tasks.packing.decision_sentences import decided_sentence, precision_lines
from tasks.packing.quality_sentences import objects_sentence, quality_sentences
from tasks.packing.second_look_sentence import SHARPENED, second_look_sentence
from tasks.stage.contract import Progress
from tasks.stage.layout import CARD, CHANGES, EVIDENCE, SHARD, SHARD_INDEX, VOCABULARY
from tasks.stage.models import GIVEN_MASKS

NAME = "assemble_dataset"
VERSION = 2
_NAMED = 10  # categories in a sentence


_OF_OBJECTS = "all `objects`, each with its mask and scores; "
_READING_OBJECT = """\
            labels = coco_mask.decode(facts["mask"]).astype(np.uint16) * facts["label"]"""
_READING_OBJECTS = """\
            labels = np.zeros(facts["mask"]["size"], dtype=np.uint16)
            for each in reversed(facts["objects"]):  # the first hide the later ones
                label = each["category_id"] or facts["ignore_label"]
                labels[coco_mask.decode(each["mask"]) > 0] = label"""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the assembly.

    Attributes:
        name: prefix of the shards' file names.
        clip: identity of the CLIP weights; selfmask: of the SelfMask weights.
        untrained: whether any of them is `random:SEED`, which the card states.
    """

    name: str
    clip: str
    selfmask: str
    untrained: bool


@dataclass(frozen=True)
class Inputs:
    """The plan of the shards, and the shards in the plan's order.

    Attributes:
        evidence: of the categories, for the card, where a setting of the build goes by it.
        labelled_by: the training whose network has looked at the shards' labels again.
    """

    plan: ArtifactRef
    shards: tuple[ArtifactRef, ...]
    evidence: ArtifactRef | None = None
    labelled_by: ArtifactRef | None = None


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    return Recipe(
        stage=NAME,
        version=VERSION,
        config={"name": config.name, "clip": config.clip, "selfmask": config.selfmask},
        inputs={
            "plan": inputs.plan.key,
            "shards": [ref.key for ref in inputs.shards],
            **({"evidence": inputs.evidence.key} if inputs.evidence else {}),
            **({"labelled_by": inputs.labelled_by.key} if inputs.labelled_by else {}),
        },
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config, inputs).key())


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish the shards `NAME-000000.tar`, …, `index.parquet` (shard, key, label, size, byte
    offsets), `vocabulary.json` and the data set card `README.md`."""
    plan = store.get(inputs.plan)
    tables = []
    with store.attempt(locate(config, inputs, store)) as attempt:
        for number, ref in enumerate(inputs.shards):
            shard, name = store.get(ref), f"{config.name}-{number:06d}.tar"
            attempt.adopt(name, shard, SHARD)
            with shard.open(SHARD_INDEX) as file:
                table = read_parquet(file)
            names = pa.array(np.full(table.num_rows, name, dtype=object), pa.string())
            tables.append(table.add_column(0, "shard", names))
            progress.advance(1)
        with attempt.create(SHARD_INDEX) as file:
            write_parquet(pa.concat_tables(tables), file)
        categories = plan.read_json(VOCABULARY)
        alike = decode_alike({row["category_id"]: row["name"] for row in categories})
        if alike:
            progress.warn(
                f"The label maps have 16 bits: readers that expect 8 give the same value to "
                f"{listed(alike, _NAMED)}. The data set's card shows how to read them."
            )
        attempt.create_json(VOCABULARY, categories)
        with attempt.create(CARD) as file:
            thin = _thin_categories(inputs.evidence, store)
            looked = _second_look(inputs, store)
            file.write(_card(config, plan, len(inputs.shards), thin, looked).encode())
        return store.publish(
            attempt, _recipe(config, inputs),
            counts={
                "shards": len(inputs.shards),
                "samples": plan.counts["samples"],
                **({"second_look": looked} if looked else {}),
            },
            notes={"untrained": config.untrained, "decode_alike": len(alike)},
        )  # fmt: skip


def _second_look(inputs: Inputs, store: ArtifactStore) -> dict[str, Any]:
    """What became of the labels that a network has looked at again, all shards together: labels by
    outcome, and the mean IoU of changed masks with the first ones. Empty where none has."""
    if inputs.labelled_by is None:
        return {}
    tables = []
    for ref in inputs.shards:
        with store.get(ref).open(CHANGES) as file:
            tables.append(read_parquet(file, columns=["outcome", "iou_with_first"]))
    changes = pa.concat_tables(tables).to_pandas()
    changed = changes["iou_with_first"][changes["outcome"] == SHARPENED]
    return {
        "labels": len(changes),
        "outcomes": dict(sorted(changes["outcome"].value_counts().to_dict().items())),
        "iou_of_changed": round(float(changed.mean()), 4) if len(changed) else None,
    }


def _card(config: Config, plan: Artifact, shards: int, thin: str, looked: Mapping[str, Any]) -> str:
    categories: Sequence[dict[str, Any]] = plan.counts["categories"]
    largest = max(category["category_id"] for category in categories)
    last = f"{shards - 1:06d}"
    several = plan.counts.get("objects")
    alike = decode_alike({row["category_id"]: row["name"] for row in categories})
    rows = "\n".join(
        f"| {row['category_id']} | {cell(row['name'])} | {row['masked']} | {row['kept']} "
        f"| {row['dropped']} |"
        for row in categories
    )
    return f"""{METADATA}
# {config.name}

{_warning(config)}{plan.counts["samples"]:,} pictures with pseudo-labels for {len(categories)} \
categories, in {shards} WebDataset {"shard" if shards == 1 else "shards"}. {_by_whom(plan)} \
pictures were
retrieved with CLIP (`{config.clip}`) by the categories' names, and {_masked_by(config.selfmask)}.

## A sample

| file | content |
|---|---|
| `<image_id>.jpg` | the picture, upright; `image_id` is the sha256 of its source's bytes |
| `<image_id>.mask.png` | label map: 0 background, category_id on the object, \
{ignore_label(largest)} ignore |
| `<image_id>.json` | categories with names, ranks and CLIP scores; mask as COCO RLE; the mask's \
scores; {_OF_OBJECTS if several else ""}where the picture came from; keys of the artifacts that \
made it |

`index.parquet` has the byte offsets of every file of every sample, for random access.
`vocabulary.json` has the categories. The labels are those of `{plan.ref}`, made from
`retrieve/{plan.manifest["inputs"]["retrieval"]}`. Shards are sorted by category: shuffle when
you train.

{_objects(several)}{_quality(plan.counts.get("judged"))}{_left_out(plan.counts.get("chosen"))}\
{_decisions(plan.counts.get("decided"), categories)}{_second_round(looked)}\
{_without_pixels(categories)}{thin}{_reading(config.name, last, several=bool(several))}
{_depth_warning(ignore_label(largest), alike)}## Licences

The pictures belong to their authors. Each sample's JSON names the file that it came from; check the
licences there before you pass pictures on or train on them.

## Categories

| id | name | samples | kept | given to other categories |
|---|---|---|---|---|
{rows}
"""


def _masked_by(selfmask: str) -> str:
    """What made the masks: SelfMask, or the user, whose masks the build was given."""
    if selfmask.startswith(GIVEN_MASKS):
        return f"have masks that\nthe build was given (`{selfmask}`)"
    return f"masked with SelfMask\n(`{selfmask}`)"


def _objects(several: Mapping[str, int] | None) -> str:
    """The card's section on several objects an image; empty where each has one."""
    if several is None:
        return ""
    return f"""## Objects

Each picture has all objects that SelfMask finds, named by CLIP over the categories:
{objects_sentence(several)}. The list `objects` of the JSON has those with a label first, from the
surest name on, which is also who hides whom in the label map. `mask` is the object of `label`.

"""


def _quality(judged: Mapping[str, Any] | None) -> str:
    """The card's section on the quality of labels; empty where they were not judged."""
    if judged is None:
        return ""
    return f"""## Quality

Each sample's JSON has the `quality` of its labels, 0 to 1: an estimate of the IoU of the mask with
the object that the category means, the product of `category_probability` and `estimated_iou`.

{chr(10).join(f"- {sentence}." for sentence in quality_sentences(judged))}

"""


def _left_out(chosen: Mapping[str, Any] | None) -> str:
    """The card's section on leaks and near-duplicates; empty where images were not compared."""
    if chosen is None:
        return ""
    told = [f"{labels_sentence(chosen)}."]
    if "keep_out" in chosen:
        told.append(
            "Pictures that are, or nearly are, in these sets were looked for and left out (`leak`):"
            "\n\n" + "\n".join(f"- {cell(said)}" for said in keep_out_sentences(chosen))
        )
    if said := duplicates_sentence(chosen):
        told.append(f"Near-duplicates (`near_duplicate`): {said}.")
    return "## Leaks and near-duplicates\n\n" + "\n\n".join(told) + "\n\n"


def _by_whom(plan: Artifact) -> str:
    if "decided" in plan.counts:
        return "People looked at some labels, see below;"
    return "No human drew or checked a label:"


def _decisions(decided: Mapping[str, Any] | None, categories: Sequence[Mapping[str, Any]]) -> str:
    """The card's section on what people decided; empty where nobody did."""
    if decided is None:
        return ""
    told = [f"{decided_sentence(decided)}."]
    if lines := precision_lines(decided, categories):
        told.append(
            "Share of labels that are right in category and mask, before what was decided, of "
            "random samples (in brackets Wilson's interval of 95 %):\n\n"
            + "\n".join(f"- {cell(line)}" for line in lines)
        )
    return "## Decisions\n\n" + "\n\n".join(told) + "\n\n"


def _second_round(looked: Mapping[str, Any]) -> str:
    """The card's section on the second look at labels; empty where there was none."""
    if not looked:
        return ""
    return f"""## Second round

A network that was trained on the first labels has looked at them again: \
{second_look_sentence(looked)}. Each sample's JSON says so under `second_look`.

"""


def _without_pixels(categories: Sequence[Mapping[str, Any]]) -> str:
    absent = [row["name"] for row in categories if not row["masked"]]
    if not absent:
        return ""
    return f"**Categories with no pixel in any label map: {cell(', '.join(absent))}.**\n\n"


def _thin_categories(evidence: ArtifactRef | None, store: ArtifactStore) -> str:
    """The card's list of categories with too little evidence."""
    if evidence is None:
        return ""
    with store.get(evidence).open(EVIDENCE) as file:
        notes = [thin_note(row) for row in read_parquet(file).to_pylist() if row["thin"]]
    if not notes:
        return ""
    rows = "\n".join(f"- {note}" for note in notes)
    return f"**Categories that too few pictures are estimated to show:**\n\n{rows}\n\n"


def decode_alike(names: Mapping[int, str]) -> list[str]:
    """The categories, in the order of their ids, that an 8-bit reader decodes as 255: those with
    ids from 255 on, which only label maps of 16 bits have."""
    return [name for number, name in sorted(names.items()) if number >= EIGHT_BIT_IGNORE_LABEL]


def _reading(name: str, last: str, *, several: bool) -> str:
    """The card's code for reading the shards, with explanations."""
    return f"""## Reading

With webdataset, in a program of any number of workers:

```python
import io

import numpy as np
import webdataset as wds
from PIL import Image


def label_map(data):
    return np.array(Image.open(io.BytesIO(data)), dtype=np.int64)  # as stored: no convert()


if __name__ == "__main__":
    samples = wds.WebDataset(
        "{name}-{{000000..{last}}}.tar", shardshuffle=False,
        nodesplitter=wds.split_by_node, workersplitter=wds.split_by_worker, empty_check=False,
    ).decode(wds.handle_extension("mask.png", label_map), "pil")
    for sample in wds.WebLoader(samples, batch_size=None, num_workers=2):
        sample["jpg"], sample["mask.png"], sample["json"]["categories"]
```

Workers share the shards out; one that gets none has nothing to do, which webdataset takes for an
error unless `empty_check` is off.

With Hugging Face `datasets`:

```python
from datasets import load_dataset

samples = load_dataset("webdataset", data_files="{name}-*.tar", split="train")
```

From the JSON alone, with no image decoder in between (COCO RLE; exactly the same pixels):

```python
import json
import tarfile

import numpy as np
from pycocotools import mask as coco_mask

with tarfile.open("{name}-000000.tar") as shard:
    for member in shard:
        if member.name.endswith(".json"):
            facts = json.load(shard.extractfile(member))
{_READING_OBJECTS if several else _READING_OBJECT}
```
"""


def _depth_warning(ignored: int, alike: Sequence[str]) -> str:
    """The card's warning: how 8-bit readers damage 16-bit label maps, and which categories."""
    if ignored == EIGHT_BIT_IGNORE_LABEL:
        return ""
    named = cell(listed(alike, _NAMED))
    return f"""
**These label maps have 16 bits (ignore is {ignored:,}).** Readers that expect 8 damage them without
a word: `.convert("RGB")`, `.convert("L")` and `wds.decode("pil")` alone make 255 of every id from
255 on, here of {named} and of ignore. OpenCV's default flags keep an id's upper
byte, so that ids 1 to 255 become background. Read them as above, or with
`cv2.imread(path, cv2.IMREAD_UNCHANGED)`.

"""


def _warning(config: Config) -> str:
    if not config.untrained:
        return ""
    return (
        "> **Made with untrained weights (`random:SEED`): a trial of the machinery. The labels "
        "mean nothing.**\n\n"
    )
