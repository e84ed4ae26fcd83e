"""Memory that `zutis predict` needs for one large photograph, and the bytes of what it writes.

A photograph is enlarged to each size and saved as a JPEG, and each is predicted in a process of its
own. The network is ZUTIS with random weights, which sees the image at 1,024 pixels as always and
costs what a trained one costs. An untrained network's output is unlike a trained one's, so it is
replaced by synthetic scenes: 100 proposals around a few objects, none of them empty, and tokens of
80 categories. `hard` is the default suppression, after which some are left; `none` keeps all of
them, which is the maximum.

Peaks are of the whole process: libraries and network are a part of it, which is shown by itself.
The digests are of all files of a prediction; two versions that give the same predict the same.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks import photographs
from benchmarks.instance_prediction import Scene, Size, make_scene
from benchmarks.measuring import (
    Figure,
    Report,
    argument_parser,
    in_fresh_process,
    load_average,
    memory_mb,
    peak_memory_mb,
    publish,
    use_cores,
)

if TYPE_CHECKING:
    from torch import Tensor

    from zutis_model.zutis.network import Zutis, ZutisOutput

_LIMIT_MB = 2500.0
_LIMIT_FOR = 100  # megapixels, with the default suppression
_OBJECTS = 8


class _WithScene:
    """A network whose output is replaced by that of a scene."""

    def __init__(self, network: Zutis, scene: Scene) -> None:
        self._network = network
        self._scene = scene
        self.encoder, self.device = network.encoder, network.device

    def __call__(self, images: Tensor) -> ZutisOutput:
        import torch

        from zutis_model.zutis.network import ZutisOutput

        output = self._network(images)
        shape = output.mask_logits.shape[-2:]
        assert shape == self._scene.mask_proposals.shape[-2:], shape
        return ZutisOutput(
            mask_logits=torch.logit(self._scene.mask_proposals, eps=1e-6)[:, None],
            patch_tokens=self._scene.patch_tokens,
        )


def enlarge(photograph: Path, megapixels: float, out: Path) -> None:
    """A JPEG of the photograph with that many pixels."""
    from PIL import Image

    with Image.open(photograph) as image:
        share = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
        size = int(image.width * share), int(image.height * share)
        image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(out, quality=90)


def measure(
    path: Path, architecture: str, categories: int, suppression: Literal["hard", "none"]
) -> dict[str, Any]:
    """Peak memory of a prediction in MB, the memory before it, its seconds, and its digest."""
    from PIL import Image

    from tasks.prediction.checkpoint import load_network, open_checkpoint
    from tasks.prediction.dense_segmenter import IMAGE_SIZE, network_size
    from tasks.prediction.predict import find_images, predict, prepare_folder
    from tasks.prediction.segmenter import InstanceSettings, ZutisSegmenter

    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path) as image:
        seen = network_size(image.height, image.width, IMAGE_SIZE)
    checkpoint = open_checkpoint(f"{architecture}:random:0")
    network = load_network(checkpoint, device="cpu", precision="float32")
    queries = len(network.query_embed)
    # Whole tokens, of which the network makes two by two of each.
    size = Size(
        16 * (seen[0] // 16), 16 * (seen[1] // 16), queries, queries, _OBJECTS, categories + 1
    )
    scene = make_scene(size, seed=0)
    segmenter = ZutisSegmenter(
        _WithScene(network, scene),  # type: ignore[arg-type]
        scene.text_embeddings,
        tuple(f"name {number}" for number in range(categories)),
        settings=InstanceSettings(suppression=suppression),
    )
    before = memory_mb()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        prepare_folder(out, overwrite=False)
        started = time.perf_counter()
        summary = predict(find_images([str(path)]), segmenter, out)
        seconds = time.perf_counter() - started
        sha256 = hashlib.sha256()
        for path in sorted(path for path in out.rglob("*") if path.is_file()):
            sha256.update(path.name.encode())
            sha256.update(path.read_bytes())
    return {
        "peak": peak_memory_mb(),
        "before": before,
        "seconds": seconds,
        "instances": summary.instances,
        "digest": sha256.hexdigest(),
    }


def main() -> None:
    parser = argument_parser(__doc__)
    photographs.add_option(parser)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[3, 12, 48, 100])
    parser.add_argument("--architecture", default="ViT-B-16")
    parser.add_argument("--names", type=int, default=80)
    parser.add_argument("--suppressions", nargs="+", default=["hard", "none"])
    options = parser.parse_args()
    use_cores(options.threads)
    load = load_average()

    (photograph,) = in_fresh_process(photographs.find, options.photographs, 1)
    figures, samples = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in options.megapixels:
            path = Path(folder, f"{megapixels:g}.jpg")
            in_fresh_process(enlarge, photograph, megapixels, path)
            for suppression in options.suppressions:
                found = in_fresh_process(
                    measure, path, options.architecture, options.names, suppression
                )
                name = f"{megapixels:g} megapixels, {suppression}"
                limit = _LIMIT_MB if (megapixels, suppression) == (_LIMIT_FOR, "hard") else None
                figures += [
                    Figure(f"{name}: peak memory", found["peak"], "MB", limit),
                    Figure(f"{name}: of it before", found["before"], "MB"),
                    Figure(f"{name}: clock", found["seconds"], "s"),
                    Figure(f"{name}: instances", found["instances"], ""),
                ]
                samples[name] = found
                print(f"{name}: {found}", flush=True)
    report = Report(
        benchmark="prediction_memory",
        sizes={
            "photograph": photograph.name,
            "architecture": options.architecture,
            "names": options.names,
            "threads": options.threads,
        },
        figures=figures,
        samples=samples,
        load=load,
    )
    publish(report, options.out)


if __name__ == "__main__":
    main()
