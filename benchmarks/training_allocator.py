"""What a training on a CPU gains where the process keeps the memory that a step frees.

The same steps of ZUTIS, at the demonstration's sizes with random weights, are trained with the
settings of `tasks.training.allocator` and without, in turns, each in a process of its own, since
the settings can't be taken back. Only the steps after the first are measured: seconds of the clock,
processor time of the program and of the kernel apart, page faults; and the peak memory of the whole
process. Weights that don't have the same bytes in all processes end the benchmark with an error.

Ratios of processor time hold on a machine that does other things as well, if less well; those of
the clock don't.
"""

from __future__ import annotations

import hashlib
import os
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

from benchmarks.measuring import (
    Figure,
    Report,
    argument_parser,
    in_fresh_process,
    load_average,
    peak_memory_mb,
    publish,
    use_cores,
)

if TYPE_CHECKING:
    from tasks.training.step import Trainer

Kind = Literal["with", "without"]

_ARCHITECTURE = "made-ViT-8"
_MOST_PROCESSOR_TIME = 1.0
_MOST_MEMORY = 1.1


@dataclass(frozen=True, kw_only=True)
class Size:
    """steps: measured ones; side: rows and columns of a crop; objects: of a crop."""

    steps: int
    batch: int
    side: int
    queries: int
    objects: int
    precision: Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One training.

    Attributes:
        wall, user, system: seconds of the measured steps: of the clock, and of the processor in
            the program and in the kernel.
        faults: pages that the kernel gave the process meanwhile.
        peak: memory of the process, MB.
        weights: sha256 of the weights after the last step.
    """

    wall: float
    user: float
    system: float
    faults: int
    peak: float
    weights: str

    @property
    def processor(self) -> float:
        return self.user + self.system


def train(kind: Kind, size: Size) -> Turn:
    """Train in this process, for good with the settings or without."""
    from tasks.training.allocator import keep_freed_memory

    if kind == "with" and not keep_freed_memory("cpu"):
        raise SystemExit(
            "The settings can't be made here: they need glibc and no MALLOC_ variable."
        )
    step, trainer = _prepared(size)
    step(0)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for number in range(size.steps):
        step(number)
    after, ended = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    return Turn(
        wall=ended - started,
        user=after.ru_utime - before.ru_utime,
        system=after.ru_stime - before.ru_stime,
        faults=after.ru_minflt - before.ru_minflt,
        peak=peak_memory_mb(),
        weights=_digest(trainer),
    )


def _prepared(size: Size) -> tuple[Callable[[int], None], Trainer]:
    """What trains on one of a few batches, by its number, and the trainer."""
    import torch
    import torch.nn.functional as F  # noqa: N812 - the field's name for it

    from benchmarks import training_criterion
    from tasks.training.samples import TrainingBatch
    from tasks.training.step import Optimisation, Trainer
    from zutis_model.clip.towers import load_clip
    from zutis_model.zutis.initialisation import initialise_zutis

    clip = load_clip(_ARCHITECTURE, seed=0)
    network = initialise_zutis(
        clip, _ARCHITECTURE, num_queries=size.queries, num_decoder_layers=6, num_heads=8,
        precision=size.precision,
    )  # fmt: skip
    random = torch.Generator().manual_seed(0)
    drawn = training_criterion.Size(
        size.batch, size.side, layers=1, queries=1, instances=size.objects, categories=17
    )
    texts = F.normalize(torch.randn(17, clip.embedding_dim, generator=random), dim=-1)
    recipe = Optimisation(
        iterations=size.steps + 1, batch_size=size.batch, learning_rate=1e-4, muon_factor=4.0
    )
    trainer = Trainer(network, texts, recipe, ignore_index=255)
    batches = []
    for seed in range(min(size.steps, 4)):
        made = training_criterion.make_batch(drawn, seed)
        images = torch.randn(size.batch, 3, size.side, size.side, generator=random)
        batches.append(
            TrainingBatch(images, made.semantic_masks.long(), list(made.instance_masks), [], 255)
        )

    def step(number: int) -> None:
        assert trainer.step(batches[number % len(batches)]).is_finite

    return step, trainer


def _digest(trainer: Trainer) -> str:
    from safetensors.torch import save

    return hashlib.sha256(save(trainer.trained_weights())).hexdigest()


def measure_in_turns(size: Size, rounds: int) -> dict[Kind, list[Turn]]:
    """`rounds` trainings of each kind; the kind that begins changes from round to round."""
    turns: dict[Kind, list[Turn]] = {"with": [], "without": []}
    for number in range(rounds):
        order: list[Kind] = ["without", "with"] if number % 2 == 0 else ["with", "without"]
        for kind in order:
            turns[kind].append(in_fresh_process(train, kind, size))
    if len({turn.weights for several in turns.values() for turn in several}) > 1:
        raise SystemExit("The trainings have given different weights.")
    return turns


def figures(turns: dict[Kind, list[Turn]]) -> list[Figure]:
    """Medians of both kinds, and their ratios."""

    def middle(kind: Kind, value: Callable[[Turn], float]) -> float:
        return median(value(turn) for turn in turns[kind])

    def ratio(value: Callable[[Turn], float]) -> float:
        return middle("with", value) / middle("without", value)

    kinds: Sequence[Kind] = ("without", "with")
    return [
        *(
            Figure(f"{what}, {kind}", middle(kind, value), unit)
            for what, unit, value in (
                ("processor, program", "s", lambda turn: turn.user),
                ("processor, kernel", "s", lambda turn: turn.system),
                ("clock", "s", lambda turn: turn.wall),
                ("page faults", "", lambda turn: turn.faults),
                ("peak memory", "MB", lambda turn: turn.peak),
            )
            for kind in kinds
        ),
        Figure(
            "processor: with / without",
            ratio(lambda turn: turn.processor),
            "",
            limit=_MOST_PROCESSOR_TIME,
        ),
        Figure("clock: with / without", ratio(lambda turn: turn.wall), ""),
        Figure(
            "peak memory: with / without", ratio(lambda turn: turn.peak), "", limit=_MOST_MEMORY
        ),
    ]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.set_defaults(threads=1)
    parser.add_argument("--steps", type=int, default=20, help="of a training (20)")
    parser.add_argument("--batch", type=int, default=4, help="crops of a step (4)")
    parser.add_argument("--side", type=int, default=128, help="rows and columns of a crop (128)")
    parser.add_argument("--queries", type=int, default=20, help="of the decoder (20)")
    parser.add_argument("--objects", type=int, default=4, help="of a crop (4)")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="(float32)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each kind (3)")
    options = parser.parse_args()
    use_cores(options.threads)
    load = load_average()
    size = Size(
        steps=options.steps, batch=options.batch, side=options.side, queries=options.queries,
        objects=options.objects, precision=options.precision,
    )  # fmt: skip
    turns = measure_in_turns(size, options.rounds)
    report = Report(
        benchmark="training_allocator",
        sizes=asdict(size) | {"threads": options.threads, "rounds": options.rounds},
        figures=figures(turns),
        samples={kind: [asdict(turn) for turn in several] for kind, several in turns.items()}
        | {"load_after": load_average(), "processes": os.cpu_count()},
        load=load,
    )
    publish(report, options.out)


if __name__ == "__main__":
    main()
