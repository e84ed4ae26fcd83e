"""The command line: `zutis build`, `search`, `weights`, `vocabularies`, `artifacts`.

Nothing heavy is imported before it is needed: a cached build answers without torch and without
Prefect.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from flows.artifacts_commands import artifacts_app
from flows.settings import DEFAULT_CLIP, DEFAULT_SELFMASK, DEFAULT_STORE, BuildSettings
from flows.vocabularies_commands import list_vocabularies
from flows.weights_commands import weights_app
from storage.errors import ZutisError

USER_ERROR = 2
INTERRUPTED = 130

app = typer.Typer(
    help="Segmentation training sets from unlabelled pictures and a list of names.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(weights_app, name="weights", help="Fetch and check published weights.")
app.add_typer(artifacts_app, name="artifacts", help="Look at the artifact store and tidy it.")
app.command("vocabularies")(list_vocabularies)


@app.command("build")
def build_command(
    corpus: Annotated[
        list[str], typer.Option(help="Folder, tars, table or COCO JSON; may be repeated.")
    ],
    vocabulary: Annotated[str, typer.Option(help="Name or path of a vocabulary.")],
    per_category: Annotated[int, typer.Option(help="Images retrieved a category.")] = 500,
    clip: Annotated[
        str, typer.Option(help="ARCHITECTURE:WEIGHTS; a tag, a file or random:SEED.")
    ] = DEFAULT_CLIP,
    selfmask: Annotated[
        str, typer.Option(help="nq20, nq10, a file or random:SEED.")
    ] = DEFAULT_SELFMASK,
    mask_size: Annotated[int, typer.Option(help="Shorter side that SelfMask sees, pixels.")] = 512,
    overlap: Annotated[
        str, typer.Option(help="Who keeps an image of several categories: best, all, last.")
    ] = "best",
    index: Annotated[str, typer.Option(help="exact, or a FAISS factory string.")] = "exact",
    index_search: Annotated[
        str, typer.Option(help="FAISS search parameters, such as nprobe=16.")
    ] = "",
    unusual_images: Annotated[
        str, typer.Option(help="convert or reject CMYK, 16-bit, palette, animated, alpha.")
    ] = "convert",
    shard_mb: Annotated[float, typer.Option(help="Megabytes a shard, about.")] = 256.0,
    part_images: Annotated[int, typer.Option(help="Images an embedding part; 0 chooses.")] = 0,
    mask_part_images: Annotated[int, typer.Option(help="Images a mask part; 0 chooses.")] = 0,
    name: Annotated[str, typer.Option(help="What shards are called; else the vocabulary.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    workers: Annotated[int, typer.Option(help="Parts that are worked on at a time.")] = 1,
    repair: Annotated[bool, typer.Option(help="Check all bytes, rebuild what is damaged.")] = False,
    store: Annotated[str, typer.Option(help="Folder or URI of the artifacts.")] = DEFAULT_STORE,
) -> None:
    """Build pseudo-label shards: index, retrieve, mask, pack. Nothing is computed twice."""
    from flows.build_command import run

    settings = dict(locals())
    settings.pop("run")
    run(BuildSettings(**{**settings, "corpus": tuple(corpus)}))


@app.command("search")
def search_command(
    text: Annotated[str, typer.Argument(help="What to look for, in words.")],
    top: Annotated[int, typer.Option(help="How many images.")] = 20,
    index: Annotated[str, typer.Option(help="Key of an index; else the latest build's.")] = "",
    clip: Annotated[str, typer.Option(help="The model; else the one that made the index.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    store: Annotated[str, typer.Option(help="Folder or URI of the artifacts.")] = DEFAULT_STORE,
) -> None:
    """Search a build's index with words."""
    from flows.search_command import run

    run(text, top=top, index=index, clip=clip, device=device, store=store)


def main() -> None:
    """Entry point: errors for users become one line and exit code 2."""
    sys.exit(exit_code_of(app))


def exit_code_of(command: Callable[..., Any]) -> int:
    """Run a command and turn what it raises into an exit code and a line on standard error."""
    try:
        command()
    except ZutisError as error:
        return _say(str(error))
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted; what is finished is kept.")
        return INTERRUPTED
    except BrokenPipeError:  # the reader (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        return _say(f"The system refused: {error.strerror or error} ({error.filename or 'disk'}).")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _say(sentence: str) -> int:
    Console(stderr=True, soft_wrap=True).print(f"Error: {sentence}", markup=False, highlight=False)
    return USER_ERROR
