"""Cost model of a million to a hundred million images: time, memory, storage, requests, money.

A model and a simulation, not a measurement. The costs of one image, one row or one part are read
from the results in this folder (`INPUTS`), the sizes of records come from writing some with the
real formats, and the requests of a part were counted on an S3 server (tested in
`tests/storage/artifacts/test_s3_store.py`). Machines, prices and latencies are options: their
defaults are assumptions, not facts. The parts are then given to workers that die at random, each
taking its part back to the queue.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import io
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
INPUTS = {
    "embed": ("embedding_overhead", "images embedded per second"),
    "selfmask": ("selfmask_forward", "ours"),
    "refine": ("mask_refinement", "ours"),
    "scan": ("million_records", "scan, time"),
    "rescan": ("million_records", "scan again, nothing new, time"),
    "index": ("million_records", "index, time"),
    "search": ("million_records", "search, time"),
    "retrieve": ("million_records", "retrieve, time"),
    "memory": ("million_records", "peak memory"),
    "imports": ("million_records", "import, peak so far"),
}
# Requests to S3, HEAD, GET, PUT and LIST together, that one part adds to a build and to a build
# that finds everything cached.
REQUESTS_A_PART = {"embed_images": 46, "make_masks": 24}
CACHED_REQUESTS_A_PART = {"embed_images": 4, "make_masks": 12}
# A whole object is read with one GET: once to embed it; if retrieved, to mask it and to
# pack it too.
REQUESTS_A_READ = 1
SMALLEST_PART = {"embed_images": 1_024, "make_masks": 128}
MOST_PARTS = 1_000
# Arrow's 32-bit offsets, over the 64 characters of an image_id.
MOST_INDEXED = (2**31 - 1) // 64


@dataclass(frozen=True)
class Assumptions:
    """Assumptions that are not measured here; every field is an option of the command.

    Attributes:
        categories, per_category: of the vocabulary; together they bound the masked images.
        image_bytes: of an image, on average.
        dimensions: of an embedding; 512 for ViT-B/32, 768 for ViT-L/14.
        cpu_workers: two-core workers, each as fast as the machine of the results.
        gpu_workers: GPUs; used with the two rates below.
        gpu_embed, gpu_mask: images a second of one GPU; 0: not measured.
        hours_between_failures: of one worker, on average.
        core_hour, gpu_hour, gb_month, thousand_requests: prices, in any one currency.
        request_seconds: of one request to the object store.
    """

    categories: int = 80
    per_category: int = 500
    image_bytes: int = 150_000
    dimensions: int = 512
    cpu_workers: int = 32
    gpu_workers: int = 8
    gpu_embed: float = 0.0
    gpu_mask: float = 0.0
    hours_between_failures: float = 100.0
    core_hour: float = 0.04
    gpu_hour: float = 2.50
    gb_month: float = 0.023
    thousand_requests: float = 0.0005
    request_seconds: float = 0.02


@dataclass(frozen=True)
class Measured:
    """Seconds of a two-core worker an image (`embed`, `mask`) or a record (`serial`), the memory
    of a record and of none (bytes), and the bytes of a record in the store."""

    embed: float
    mask: float
    serial: float
    rescan: float
    record_memory: float
    base_memory: float
    record_bytes: float


@dataclass(frozen=True)
class Cost:
    """Of one build; times in seconds, memory and storage in bytes."""

    images: int
    masked: int
    embed_parts: int
    mask_parts: int
    worker_seconds: float
    parallel_seconds: float
    serial_seconds: float
    lost_seconds: float
    memory: float
    storage: float
    requests: int
    cached_requests: int
    money: float


def measured() -> Measured:
    """The inputs, from the results."""
    value = {name: _figure(*source) for name, source in INPUTS.items()}
    million = 1e6
    return Measured(
        embed=1.0 / value["embed"],
        mask=value["selfmask"] + value["refine"] / 1_000,
        serial=sum(value[name] for name in ("scan", "index", "search", "retrieve")) / million,
        rescan=value["rescan"] / million,
        record_memory=(value["memory"] - value["imports"]) * 1e6 / million,
        base_memory=value["imports"] * 1e6,
        record_bytes=_record_bytes(),
    )


def _figure(benchmark: str, name: str) -> float:
    report = json.loads((RESULTS / f"{benchmark}.json").read_text())
    return float(report["figures"][name]["value"])


def _record_bytes(count: int = 20_000) -> float:
    """Bytes of an image in the tables of scan, embedding and index, without its embedding."""
    import pyarrow as pa

    from storage.images.records import RECORD_SCHEMA, write_parquet

    ids = [hashlib.sha256(f"{n}".encode()).hexdigest() for n in range(count)]
    uris = [f"s3://photographs/{n // 1000:06d}/{n:09d}.jpg" for n in range(count)]
    text, number = pa.string(), pa.int64()
    columns = {
        "image_id": ids, "uri": uris, "member": [""] * count, "offset": [-1] * count,
        "length": [150_000 + n % 1000 for n in range(count)], "height": [480] * count,
        "width": [640] * count, "format": ["JPEG"] * count, "conversion": [""] * count,
        "reject_reason": [""] * count,
    }  # fmt: skip
    entries = pa.table({"uri": uris, "size": columns["length"], "version": [i[:32] for i in ids]})
    index = pa.table({"image_id": pa.array(ids, text), "row": pa.array(range(count), number)})
    written = 0
    for table in (pa.table(columns, RECORD_SCHEMA), entries, index):
        file = io.BytesIO()
        write_parquet(table, file)
        written += file.tell()
    return written / count


def parts_of(stage: str, images: int) -> int:
    """The number of parts into which the stage cuts images by default."""
    size = max(SMALLEST_PART[stage], math.ceil(images / MOST_PARTS))
    return math.ceil(images / size)


def simulate(
    parts: int, seconds: float, workers: int, mean_seconds_between_failures: float, seed: int
) -> tuple[float, float]:
    """Simulate parts on workers that die now and then and are replaced at once.

    Args:
        parts: how many; seconds: what each takes.
        workers: that work at a time.
        mean_seconds_between_failures: of one worker; exponentially distributed.
        seed: of the failures.

    Returns:
        Seconds until the last part is done, and the seconds of work that were lost.
    """
    chance = random.Random(seed)
    free = [(0.0, number) for number in range(min(workers, parts))]
    dies = [chance.expovariate(1 / mean_seconds_between_failures) for _ in free]
    left, lost, end = parts, 0.0, 0.0
    while left:
        now, worker = heapq.heappop(free)
        done = now + seconds
        if dies[worker] < done:
            lost += dies[worker] - now
            done = dies[worker]
            dies[worker] = done + chance.expovariate(1 / mean_seconds_between_failures)
        else:
            left -= 1
            end = max(end, done)
        heapq.heappush(free, (done, worker))
    return end, lost


def cost(
    images: int, known: Measured, assumed: Assumptions, *, gpu: bool = False, seed: int = 0
) -> Cost:
    """The cost of a build of `images`; on GPUs, with the rates in `assumed`."""
    masked = min(images, assumed.categories * assumed.per_category)
    embed, mask = known.embed, known.mask
    if gpu:
        embed, mask = 1 / assumed.gpu_embed, 1 / assumed.gpu_mask
    workers = assumed.gpu_workers if gpu else assumed.cpu_workers
    parallel = lost = 0.0
    for stage, count, each in (("embed_images", images, embed), ("make_masks", masked, mask)):
        parts = parts_of(stage, count)
        took, wasted = simulate(
            parts, count * each / parts, workers, assumed.hours_between_failures * 3_600, seed
        )
        parallel, lost = parallel + took, lost + wasted
    embed_parts, mask_parts = parts_of("embed_images", images), parts_of("make_masks", masked)
    requests = (
        embed_parts * REQUESTS_A_PART["embed_images"]
        + mask_parts * REQUESTS_A_PART["make_masks"]
        + REQUESTS_A_READ * (images + 2 * masked)
    )
    cached = (
        embed_parts * CACHED_REQUESTS_A_PART["embed_images"]
        + mask_parts * CACHED_REQUESTS_A_PART["make_masks"]
    )
    busy = images * embed + masked * mask + lost
    serial = images * known.serial
    storage = images * (2 * assumed.dimensions + known.record_bytes) + masked * assumed.image_bytes
    hour = assumed.gpu_hour if gpu else 2 * assumed.core_hour
    money = (
        busy / 3_600 * hour
        + serial / 3_600 * 2 * assumed.core_hour
        + storage / 1e9 * assumed.gb_month
        + requests / 1_000 * assumed.thousand_requests
    )
    return Cost(
        images, masked, embed_parts, mask_parts, busy, parallel, serial, lost,
        known.base_memory + images * known.record_memory, storage, requests, cached, money,
    )  # fmt: skip


def table(costs: Sequence[Cost], assumed: Assumptions) -> str:
    """The costs as a Markdown table, a column each."""
    rows = [
        ("images", [f"{c.images:,}" for c in costs]),
        ("of them masked", [f"{c.masked:,}" for c in costs]),
        ("parts: embedding + masks", [f"{c.embed_parts:,} + {c.mask_parts:,}" for c in costs]),
        ("work, all workers", [_hours(c.worker_seconds) for c in costs]),
        ("clock, parts", [_hours(c.parallel_seconds) for c in costs]),
        ("clock, stages of one part", [_hours(c.serial_seconds) for c in costs]),
        ("work lost with dead workers", [_hours(c.lost_seconds) for c in costs]),
        ("memory, stages of one part", [f"{c.memory / 1e9:,.1f} GB" for c in costs]),
        ("storage", [f"{c.storage / 1e9:,.1f} GB" for c in costs]),
        ("requests", [f"{c.requests:,}" for c in costs]),
        ("requests, cached build", [f"{c.cached_requests:,}" for c in costs]),
        (
            "their time, one after another",
            [f"{c.cached_requests * assumed.request_seconds:,.0f} s" for c in costs],
        ),
        ("money", [f"{c.money:,.2f}" for c in costs]),
    ]
    head, *body = [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]
    return "\n".join([head, "|---" + "|---:" * len(costs) + "|", *body])


def _hours(seconds: float) -> str:
    return f"{seconds / 3_600:,.1f} h" if seconds >= 3_600 else f"{seconds:,.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[10**6, 10**7, 10**8])
    parser.add_argument("--seed", type=int, default=0, help="of the failures")
    for name, default in vars(Assumptions()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    options = vars(parser.parse_args())
    images, seed = options.pop("images"), options.pop("seed")
    assumed, known = Assumptions(**options), measured()
    print(known, assumed, sep="\n")
    print(f"\n{assumed.cpu_workers} workers of two cores\n")
    print(table([cost(n, known, assumed, seed=seed) for n in images], assumed))
    if assumed.gpu_embed and assumed.gpu_mask:
        print(f"\n{assumed.gpu_workers} GPUs\n")
        print(table([cost(n, known, assumed, gpu=True, seed=seed) for n in images], assumed))


if __name__ == "__main__":
    main()
