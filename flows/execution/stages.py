"""The registry of all stages."""

from __future__ import annotations

from types import ModuleType

from tasks.deciding import import_decisions
from tasks.duplicates import find_duplicates, find_leaks, import_duplicates
from tasks.evaluation import evaluate
from tasks.indexing import (
    ask_again,
    build_index,
    embed_crops,
    embed_images,
    import_embeddings,
    scan,
)
from tasks.masking import import_masks, make_masks, plan_masks
from tasks.merging import merge_datasets
from tasks.naming import name_objects
from tasks.packing import assemble_dataset, pack_shards, plan_shards, record_build
from tasks.quality import (
    choose_labels,
    damage_labels,
    embed_regions,
    plan_regions,
    score_labels,
)
from tasks.relabelling import relabel_shard
from tasks.retrieval import embed_examples, embed_text, estimate_evidence, retrieve, search_index
from tasks.training import train

# In order: each stage reads only the output of stages before it.
STAGES: dict[str, ModuleType] = {
    module.NAME: module
    for module in (
        scan,
        import_embeddings,
        embed_images,
        ask_again,
        embed_crops,
        build_index,
        embed_text,
        embed_examples,
        search_index,
        estimate_evidence,
        retrieve,
        find_duplicates,
        import_duplicates,
        find_leaks,
        plan_masks,
        make_masks,
        import_masks,
        plan_regions,
        embed_regions,
        name_objects,
        damage_labels,
        score_labels,
        import_decisions,
        choose_labels,
        plan_shards,
        pack_shards,
        assemble_dataset,
        record_build,
        merge_datasets,
        train,
        relabel_shard,
        evaluate,
    )
}

# The unit of each stage's progress.
UNITS = {
    "scan": "files",
    "import_embeddings": "embeddings",
    "embed_images": "images",
    "ask_again": "images",
    "embed_crops": "images",
    "build_index": "images",
    "embed_text": "categories",
    "embed_examples": "categories",
    "search_index": "categories",
    "estimate_evidence": "categories",
    "retrieve": "categories",
    "find_duplicates": "images",
    "import_duplicates": "images",
    "find_leaks": "images",
    "plan_masks": "images",
    "make_masks": "images",
    "import_masks": "images",
    "plan_regions": "images",
    "embed_regions": "images",
    "name_objects": "images",
    "damage_labels": "images",
    "score_labels": "labels",
    "import_decisions": "decisions",
    "choose_labels": "labels",
    "plan_shards": "samples",
    "pack_shards": "samples",
    "assemble_dataset": "shards",
    "record_build": "builds",
    "merge_datasets": "samples",
    "train": "iterations",
    "relabel_shard": "labels",
    "evaluate": "images",
}
