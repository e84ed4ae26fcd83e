"""The summary of a training, for the terminal and the UI."""

from __future__ import annotations

from storage.artifacts.store import Artifact, ArtifactRef
from tasks.packing.assemble_dataset import NAME as DATASET
from tasks.packing.second_look_sentence import second_look_sentence
from tasks.training.quality_weights import quality_words
from tasks.training.train import MODEL_CARD


def training_facts(trained: Artifact) -> dict[str, str]:
    """The main facts on a training, by label."""
    notes, card = trained.notes, trained.read_json(MODEL_CARD)
    last = notes["last"]
    facts = {
        "network": f"{card['architecture']}, {card['num_queries']} queries, "
        f"{card['num_decoder_layers']} decoder layers",
        "started from": card["clip"],
        "categories": f"{len(card['categories']):,}"
        + (f", {len(card['config']['leave_out'])} left out" if card["config"]["leave_out"] else ""),
        "trained": f"{trained.counts['iterations']:,} iterations, "
        f"{trained.counts['samples']:,} samples, "
        f"{notes['samples_per_second']:.1f} samples/s, "
        f"{100 * notes['waiting']:.1f} % of the time waiting for them",
        "loss": f"{last['loss']:.4f} at the end",
    }
    if "mean_iou" in last:
        facts["mean IoU"] = f"{100 * last['mean_iou']:.1f} % on training crops"
    if "quality" in notes:
        weighted = card["config"].get("weight_by") == "quality"
        facts["labels"] = quality_words(notes["quality"], weighted=weighted)
    if said := _second_look(trained):
        facts["second look"] = said
    facts["key"] = trained.key
    facts["model"] = f"{trained.location}/"
    return facts


def _second_look(trained: Artifact) -> str:
    """What an earlier round has changed in the labels; empty for those of a build."""
    dataset = trained.store.find(ArtifactRef(DATASET, trained.manifest["inputs"]["dataset"]))
    looked = dataset.counts.get("second_look") if dataset else None
    return second_look_sentence(looked) if looked else ""
