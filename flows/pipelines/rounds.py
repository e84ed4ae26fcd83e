"""The wiring of a training in rounds: train, look at the labels again, train on the new ones."""

from __future__ import annotations

from dataclasses import dataclass

from flows.execution.executors import Executor
from flows.pipelines.training import train_model
from storage.artifacts.store import Artifact, ArtifactRef
from storage.errors.exceptions import ConfigError
from tasks.merging.merge_datasets import MERGED
from tasks.packing import assemble_dataset
from tasks.relabelling import relabel_shard
from tasks.training import train


@dataclass(frozen=True)
class Round:
    """One round: the labels, and the network that was trained on them."""

    dataset: Artifact
    training: Artifact


def train_rounds(
    config: train.Config, rounds: int, dataset: Artifact, executor: Executor
) -> list[Round]:
    """Train in rounds, or find them. Every round's training begins from CLIP, and has the same
    settings.

    Args:
        config: of every training.
        rounds: their number, 1 or more; of one, no label is looked at again.
        dataset: of the first round.

    Raises:
        ConfigError: several rounds of a merged data set.
    """
    if rounds > 1 and MERGED in dataset.manifest["inputs"]:
        raise ConfigError(
            f"The data set {dataset.key[:12]} is merged from several builds, and its labels can't "
            "be looked at again: train it with rounds=1, or the builds by themselves."
        )
    done = [Round(dataset, train_model(config, dataset, executor))]
    while len(done) < rounds:
        labels = relabelled(config, done[-1], executor)
        done.append(Round(labels, train_model(config, labels, executor)))
    return done


def relabelled(config: train.Config, last: Round, executor: Executor) -> Artifact:
    """The data set of a round after its network has looked at the labels."""
    dataset, training = last.dataset, last.training
    sizes = relabel_shard.shard_sizes(dataset)
    shards = executor.many(
        relabel_shard.NAME,
        relabel_shard.Config(device=config.clip.device, precision=config.clip.precision),
        [relabel_shard.Inputs(training.ref, dataset.ref, number) for number in range(len(sizes))],
        sizes,
    )
    recipe = dataset.manifest["config"]
    return executor.one(
        assemble_dataset.NAME,
        assemble_dataset.Config(
            name=recipe["name"],
            clip=recipe["clip"],
            selfmask=recipe["selfmask"],
            untrained=dataset.notes["untrained"] or training.notes["untrained"],
        ),
        assemble_dataset.Inputs(
            ArtifactRef("plan_shards", dataset.manifest["inputs"]["plan"]),
            tuple(shard.ref for shard in shards),
            labelled_by=training.ref,
        ),
    )
