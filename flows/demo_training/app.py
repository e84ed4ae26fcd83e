"""`zutis demo-train`: make the small models of the demonstration again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.terminal.waiting import loading

demo_train_app = typer.Typer(
    name="demo-train", help="Make the demonstration's small models again.", no_args_is_help=True
)

_Out = Annotated[Path, typer.Option(help="File for the weights, .safetensors.")]
_Seed = Annotated[int, typer.Option(help="Of everything random, the pictures included.")]
_Pictures = Annotated[int, typer.Option(help="Pictures that are made to learn from.")]
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


@demo_train_app.command("clip")
def clip_command(
    out: _Out = Path("made-ViT-8.safetensors"),
    seed: _Seed = 0,
    pictures: _Pictures = 24_000,
    minutes: Annotated[float, typer.Option(help="Longest training; 0: no limit.")] = 0.0,
    device: _Device = "auto",
) -> None:
    """Train the small CLIP on made pictures and their captions: half an hour on two cores."""
    with loading():
        from flows.demo_training.clip import train_clip

    train_clip(out, seed=seed, pictures=pictures, minutes=minutes, device=device)


@demo_train_app.command("selfmask")
def selfmask_command(
    out: _Out = Path("selfmask-demo.safetensors"),
    seed: _Seed = 0,
    pictures: _Pictures = 2000,
    device: _Device = "auto",
) -> None:
    """Train the small SelfMask on made pictures, without any label: 10 minutes on two cores."""
    with loading():
        from flows.demo_training.selfmask import train_selfmask

    train_selfmask(out, seed=seed, pictures=pictures, device=device)
