"""The data set: shards under contiguous names in one folder, their index, and a card.

Shards are linked, not copied, so that a vocabulary that grows costs the disk only what is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from storage.artifacts import Artifact, ArtifactRef, ArtifactStore
from storage.fingerprints import Recipe
from storage.records import read_parquet, write_parquet
from storage.shards import ignore_label
from tasks.layout import CARD, SHARD, SHARD_INDEX, VOCABULARY
from tasks.stage import Progress

NAME = "assemble_dataset"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the assembly.

    Attributes:
        name: what the shards' names begin with.
        clip: identity of the CLIP weights; selfmask: of the SelfMask weights.
        untrained: whether any of them is `random:SEED`, which the card must say.
    """

    name: str
    clip: str
    selfmask: str
    untrained: bool


@dataclass(frozen=True)
class Inputs:
    """The plan of the shards, and the shards in its order."""

    plan: ArtifactRef
    shards: tuple[ArtifactRef, ...]


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    return Recipe(
        stage=NAME,
        version=VERSION,
        config={"name": config.name, "clip": config.clip, "selfmask": config.selfmask},
        inputs={"plan": inputs.plan.key, "shards": [ref.key for ref in inputs.shards]},
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config, inputs).key())


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `NAME-000000.tar` and on, `index.parquet` (shard, key, label, size, byte offsets),
    `vocabulary.json` and the data set card `README.md`."""
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
        attempt.create_json(VOCABULARY, categories)
        with attempt.create(CARD) as file:
            file.write(_card(config, plan, len(inputs.shards)).encode())
        return store.publish(
            attempt, _recipe(config, inputs),
            counts={"shards": len(inputs.shards), "samples": plan.counts["samples"]},
            notes={"untrained": config.untrained},
        )  # fmt: skip


def _card(config: Config, plan: Artifact, shards: int) -> str:
    categories: Sequence[dict[str, Any]] = plan.counts["categories"]
    largest = max(category["category_id"] for category in categories)
    last = f"{shards - 1:06d}"
    rows = "\n".join(
        f"| {row['category_id']} | {_cell(row['name'])} | {row['masked']} | {row['kept']} "
        f"| {row['dropped']} |"
        for row in categories
    )
    return f"""---
configs:
- config_name: default
  data_files: "*.tar"
license: unknown
task_categories:
- image-segmentation
tags:
- webdataset
- pseudo-labels
---

# {config.name}

{_warning(config)}{plan.counts["samples"]:,} pictures with pseudo-labels for {len(categories)} \
categories, in {shards} WebDataset {"shard" if shards == 1 else "shards"}. No human drew or \
checked a label: pictures were
retrieved with CLIP (`{config.clip}`) by the categories' names, and masked with SelfMask
(`{config.selfmask}`).

## A sample

| file | content |
|---|---|
| `<image_id>.jpg` | the picture, upright; `image_id` is the sha256 of its source's bytes |
| `<image_id>.mask.png` | label map: 0 background, category_id on the object, \
{ignore_label(largest)} ignore |
| `<image_id>.json` | categories with names, ranks and CLIP scores; mask as COCO RLE; the mask's \
scores; where the picture came from; keys of the artifacts that made it |

`index.parquet` has the byte offsets of every file of every sample, for random access.
`vocabulary.json` has the categories. The labels are those of `{plan.ref}`, made from
`retrieve/{plan.manifest["inputs"]["retrieval"]}`. Shards are sorted by category: shuffle when
you train.

```python
import io, numpy as np, webdataset as wds
from PIL import Image

label_map = wds.handle_extension("mask.png", lambda data: np.array(Image.open(io.BytesIO(data))))
shards = wds.WebDataset("{config.name}-{{000000..{last}}}.tar", shardshuffle=False)
for sample in shards.decode(label_map, "pil"):
    sample["jpg"], sample["mask.png"], sample["json"]["categories"]
```

```python
from datasets import load_dataset
samples = load_dataset("webdataset", data_files="{config.name}-*.tar", split="train")
```

## Licences

The pictures belong to their authors. Each sample's JSON names the file that it came from; check the
licences there before you pass pictures on or train on them.

## Categories

| id | name | samples | kept | given to other categories |
|---|---|---|---|---|
{rows}
"""


def _cell(text: str) -> str:
    """A text that stays within its cell of a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _warning(config: Config) -> str:
    if not config.untrained:
        return ""
    return (
        "> **Made with untrained weights (`random:SEED`): a trial of the machinery. The labels "
        "mean nothing.**\n\n"
    )
