"""The sizes and settings of the demonstration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from flows.settings.build import BuildSettings
from flows.settings.evaluation import EvaluationSettings
from flows.settings.options import Group
from flows.settings.shared import DeviceOption
from flows.settings.training import TrainingSettings
from flows.settings.value_types import Precision

CLIP: Final = "made-ViT-8:demo"
SELFMASK: Final = "demo"

MASK_SIZE: Final = 168
"""Shorter side of SelfMask's input, pixels."""

LEFT_OUT: Final = ("arrow", "tree", "gear", "mushroom")
"""Kinds left out of the second training; chosen before anything was measured."""

VOCABULARY_FILE: Final = "vocabulary.txt"
"""File in the demonstration's folder with the kinds' names, one a line."""

LONGER_VOCABULARY_FILE: Final = "one-more.txt"
"""File with the same names and one more."""

_IMAGE_SIZE: Final = 128
"""Longer side of the input of ZUTIS and MaskCLIP in evaluations, pixels: the CLIP's own."""

_CORPUS_SEED, _SCENE_SEED = 7, 500
"""No model has seen either: see `flows.demo_training.clip`."""


class DemoOptions(DeviceOption):
    """What `zutis demo` takes."""

    subject: ClassVar[str] = "demonstration"

    quick: Annotated[bool, Group.MAIN] = False
    """Make a smaller world, in a minute; for tests."""
    vocabulary: Annotated[str, Group.MAIN] = ""
    """Build for this vocabulary, such as one-more.txt of the folder, and train nothing: shows the
    cost of one more category."""
    ceiling: Annotated[bool, Group.MAIN] = False
    """Train on the world's true labels, too, to show how far better pseudo-labels could bring
    ZUTIS; as long again as the first training."""
    folder: Annotated[Path | None, Group.MAIN] = None
    """Folder for everything; none: zutis-demo."""
    open: Annotated[bool, Group.MAIN] = False
    """Open the page in a browser."""


@dataclass(frozen=True, kw_only=True)
class Goals:
    """Goals of the figures: least shares 0..1 (None: no goal), least ratios to the baseline, and
    the longest wall time in minutes."""

    precision: float
    mask_iou: float
    mean_iou: float
    mean_iou_ratio: float
    ap50: float | None
    ap50_ratio: float
    unseen_ratio: float
    minutes: float


@dataclass(frozen=True, kw_only=True)
class DemoSize:
    """How much is made and trained.

    Attributes:
        name: for people and folders.
        images: files of the corpus.
        scenes: images to evaluate on.
        per_category: images retrieved for a kind.
        training: settings of both trainings that differ from the pipeline's defaults.
        partly: settings of the training on a part of the kinds that differ from `training`.
        goals: of the figures.
        device: auto, cpu, cuda or cuda:N, of everything that is computed.
    """

    name: str
    images: int
    scenes: int
    per_category: int
    goals: Goals
    training: dict[str, Any] = field(default_factory=dict)
    partly: dict[str, Any] = field(default_factory=dict)
    corpus_seed: int = _CORPUS_SEED
    scene_seed: int = _SCENE_SEED
    device: str = "auto"

    def build_settings(self, folder: Path, vocabulary: str) -> BuildSettings:
        return BuildSettings(
            corpus=(str(folder / "corpus" / "pictures"),),
            vocabulary=vocabulary,
            per_category=self.per_category,
            clip=CLIP,
            selfmask=SELFMASK,
            mask_size=MASK_SIZE,
            device=self.device,
            store=str(folder / "store"),
        )

    def training_settings(self, leave_out: tuple[str, ...] = ()) -> TrainingSettings:
        chosen = {**_TRAINING, **self.training, **(self.partly if leave_out else {})}
        return TrainingSettings(
            clip=CLIP,
            leave_out=leave_out,
            device=self.device,
            precision=_fast_precision(),
            **chosen,
        )

    def evaluation_settings(self, folder: Path) -> EvaluationSettings:
        scenes = folder / "scenes"
        return EvaluationSettings(
            on=f"coco:{scenes / 'annotations.json'}@{scenes / 'images'}",
            image_size=_IMAGE_SIZE,
            device=self.device,
        )


def _fast_precision() -> Precision:
    """bfloat16 where the processor computes with it, which makes a step nearly twice as fast."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return "float32"
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"


# The paper's recipe, adapted to small images and a small network. Crops hold fewer objects than a
# photograph, so 20 masks are enough. A training of minutes needs high rates and many small steps,
# no colour jitter (which helps only longer trainings), and the logit scale of the small CLIP.
_TRAINING: dict[str, Any] = {
    "batch_size": 4,
    "learning_rate": 1e-3,
    "muon_factor": 4.0,
    "encoder_factor": 1.0,
    "max_gradient_norm": 1.0,
    "ce_scale": 20.0,
    "crop": 128,
    "min_objects": 2,
    "max_objects": 5,
    "same_category_probability": 0.2,
    "min_scale": 0.5,
    "max_scale": 1.2,
    "jitter_probability": 0.0,
    "greyscale": 0.0,
    "blur": 0.0,
    "num_queries": 20,
    "num_decoder_layers": 2,
    "num_heads": 5,
    "workers": 1,
    "checkpoint_every": 200,
    "log_every": 20,
}

DEFAULT: Final = DemoSize(
    name="default",
    images=2400,
    scenes=100,
    per_category=80,
    training={"iterations": 440},
    partly={"iterations": 120, "ema_decay": 0.995},
    goals=Goals(
        precision=0.95, mask_iou=0.85, mean_iou=0.60, mean_iou_ratio=1.5, ap50=0.40, ap50_ratio=3.0,
        unseen_ratio=1.2, minutes=6.0,
    ),
)  # fmt: skip
"""The size that users run."""

QUICK: Final = DemoSize(
    name="quick",
    images=500,
    scenes=24,
    per_category=12,
    training={"iterations": 50, "log_every": 10},
    partly={"iterations": 12, "ema_decay": 0.98},
    goals=Goals(
        precision=0.90, mask_iou=0.80, mean_iou=0.25, mean_iou_ratio=1.0, ap50=None,
        ap50_ratio=1.0, unseen_ratio=1.0, minutes=1.5,
    ),
)  # fmt: skip
"""The same at a smaller size with looser goals, for tests."""
