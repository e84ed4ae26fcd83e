"""`zutis search`: the images of an index that are nearest to a text."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.commands.options import command_of
from flows.settings.build import clip_model
from flows.settings.devices import require_device
from flows.settings.prediction import SearchOptions
from flows.terminal.waiting import waiting_for
from flows.upkeep.find_artifacts import latest
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.files.filesystems import display
from storage.vocabularies.prompt_templates import TEMPLATES
from storage.vocabularies.vocabulary import Category, category_prompts
from tasks.indexing.index_rows import embedded_parts, load_index_rows, records_at
from tasks.packing import record_build
from tasks.retrieval.search_index import search
from tasks.stage.models import ModelConfig, load_clip_model


@command_of(SearchOptions, positional="text")
def search_command(options: SearchOptions) -> None:
    """Search a build's index with words."""
    run(
        options.text,
        top=options.top,
        index=options.index_key,
        clip=options.clip,
        device=options.device,
        store=options.store,
    )


def run(text: str, *, top: int, index: str, clip: str, device: str, store: str) -> None:
    """Print the `top` nearest images.

    Raises:
        ConfigError: there is no index, it is of another model, the text is empty, or `top` exceeds
            the number of images.
    """
    if not text.strip():
        raise ConfigError("The text to search for is empty.")
    require_device(device)
    artifacts = ArtifactStore(store)
    record = latest(artifacts, record_build.NAME) if not (index and clip) else None
    chosen = artifacts.get(ArtifactRef("build_index", index)) if index else _index_of(record, store)
    model = model_of_index(chosen, clip, record, device, artifacts)
    rows, _ = load_index_rows(chosen, artifacts)
    if not 1 <= top <= rows.images:
        raise ConfigError(f"top is {top}: the index has {rows.images} images; ask for 1 to that.")
    console = Console()
    with waiting_for(console, f"Loading {model.weights.label}", patience=0):
        network = load_clip_model(model)
    prompts = category_prompts(Category(name=text), TEMPLATES)
    query = network.ensemble(network.embed_prompts(prompts)).cpu().numpy()[None]
    scores, positions, _ = search(chosen, rows, query, top, model.device)
    table = Table(title=escape(f"“{text}”, {model.weights.label}"), title_justify="left")
    for column in ("rank", "score", "image"):
        table.add_column(column, overflow="fold", justify="left" if column == "image" else "right")
    places = _places(chosen, rows.image_of(positions[0]), artifacts)
    for rank, (score, place) in enumerate(zip(scores[0], places, strict=True), start=1):
        table.add_row(str(rank), f"{score:.4f}", escape(place))
    console.print(table)
    if model.weights.untrained:
        console.print("[bold yellow]Untrained weights: the order means nothing.[/]")


def _index_of(record: Artifact | None, store: str) -> Artifact:
    if record is None:
        raise ConfigError(
            f"There is no build in {store}: run `zutis build` first, or name its --store."
        )
    return record.store.get(ArtifactRef("build_index", record.manifest["inputs"]["index"]))


def model_of_index(
    index: Artifact, clip: str, record: Artifact | None, device: str, store: ArtifactStore
) -> ModelConfig:
    """The model that made the index; an error that names both if `clip` is another one."""
    made_with = embedded_parts(index, store)[0].manifest
    spec = clip or (record.notes["clip"] if record else "")
    if not spec:
        raise ConfigError("Name the model that made this index with --clip ARCHITECTURE:WEIGHTS.")
    model = clip_model(spec, device, made_with["config"]["precision"])
    if (
        model.architecture != made_with["config"]["architecture"]
        or model.weights.digest != made_with["weights"]["clip"]
    ):
        raise ConfigError(
            f"The index {index.key} was made with {made_with['notes']['clip']}, not with "
            f"{model.weights.label}: give that one as --clip, or build an index with yours."
        )
    return model


def _places(index: Artifact, positions: np.ndarray, store: ArtifactStore) -> list[str]:
    """Where the images at index positions are, for people to read."""
    records = records_at(index, positions, ["uri", "member"], store).to_pylist()
    return [
        display(f"{row['uri']} : {row['member']}" if row["member"] else row["uri"])
        for row in records
    ]
