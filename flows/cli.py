"""The command line: `zutis demo`, `build`, `train`, `evaluate`, `predict`, `search`, `serve`,
`status`, `artifacts`, `vocabularies`, `weights`, `benchmark`, `selfmask`, `demo-train`.

Nothing heavy is imported before it is needed: a cached build answers without torch and without
Prefect.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from flows.commands.artifacts import artifacts_app
from flows.commands.benchmark import benchmark_app
from flows.commands.corpus_options import ExcludeOption, IncludeOption, UriColumnOption
from flows.commands.predict import predict_pictures
from flows.commands.selfmask import selfmask_app
from flows.commands.serve import serve_command
from flows.commands.status import status_command
from flows.commands.vocabularies import list_vocabularies
from flows.commands.weights import weights_app
from flows.demo.command import demo_command
from flows.demo_training.app import demo_train_app
from flows.prefect_server.refusals import refusal_of_server
from flows.prefect_server.values import refusal_of_value
from flows.processes import interruption
from flows.processes.safe_path import protect_children
from flows.settings.build import DEFAULT_CLIP, DEFAULT_SELFMASK, DEFAULT_STORE, BuildSettings
from flows.settings.typed_options import typed
from flows.terminal.waiting import loading
from storage.errors.exceptions import ZutisError
from storage.files.filesystems import utf8_place

if TYPE_CHECKING:
    from flows.settings.next_steps import NextSteps

USER_ERROR = 2

app = typer.Typer(
    help="Segmentation training sets from unlabelled pictures and a list of names.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo_command)
app.add_typer(weights_app, name="weights", help="Fetch and check published weights.")
app.add_typer(artifacts_app, name="artifacts", help="Look at the artifact store and tidy it.")
app.add_typer(benchmark_app, name="benchmark", help="Look at the data sets for evaluation.")
app.add_typer(selfmask_app, name="selfmask")
app.add_typer(demo_train_app, name="demo-train")
app.command("serve")(serve_command)
app.command("status")(status_command)
app.command("vocabularies")(list_vocabularies)
app.command("predict")(predict_pictures)


@app.command("build")
def build_command(
    context: typer.Context,
    corpus: Annotated[
        list[str],
        typer.Option(help="Folder, images, tars, table, list or COCO JSON; may be repeated."),
    ],
    vocabulary: Annotated[str, typer.Option(help="Name or path of a vocabulary.")],
    recipe: Annotated[
        str, typer.Option(help="A published model's settings, for all that is not given.")
    ] = "",
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    uri_column: UriColumnOption = "",
    per_category: Annotated[int, typer.Option(help="Images retrieved a category.")] = 500,
    clip: Annotated[
        str,
        typer.Option(
            help="ARCHITECTURE:WEIGHTS, a tag, a file or random:SEED; hf-hub:OWNER/NAME; or a"
            " folder that open_clip has saved. CLIP or SigLIP."
        ),
    ] = DEFAULT_CLIP,
    selfmask: Annotated[
        str, typer.Option(help="nq20, nq10, a file or random:SEED.")
    ] = DEFAULT_SELFMASK,
    mask_size: Annotated[int, typer.Option(help="Shorter side that SelfMask sees, pixels.")] = 512,
    refine_input: Annotated[
        str, typer.Option(help="Picture that masks are snapped to: original, reference.")
    ] = "original",
    overlap: Annotated[
        str, typer.Option(help="Who keeps an image of several categories: best, all, last.")
    ] = "best",
    min_score: Annotated[
        float, typer.Option(help="Least cosine of an image with a category, 0 to 1.")
    ] = 0.0,
    min_probability: Annotated[
        float,
        typer.Option(
            help="Least probability of the category, 0 to 1: CLIP's over the vocabulary, SigLIP's"
            " of the category alone."
        ),
    ] = 0.0,
    min_margin: Annotated[
        float, typer.Option(help="Least lead over the next category's probability, -1 to 1.")
    ] = -1.0,
    index: Annotated[str, typer.Option(help="exact, or a FAISS factory string.")] = "exact",
    index_search: Annotated[
        str, typer.Option(help="FAISS search parameters, such as nprobe=16.")
    ] = "",
    unusual_images: Annotated[
        str, typer.Option(help="convert or reject CMYK, 16-bit, palette, animated, alpha.")
    ] = "convert",
    crops: Annotated[
        str,
        typer.Option(
            help="What CLIP sees of images beyond 1.5 : 1: their central square, or many squares "
            "along them, of which the best counts."
        ),
    ] = "central",
    bit_depth: Annotated[
        int,
        typer.Option(help="Bits in use in 16-bit pictures, 8 to 16; 0: as each picture uses."),
    ] = 0,
    shard_mb: Annotated[float, typer.Option(help="Megabytes a shard, about.")] = 256.0,
    part_images: Annotated[int, typer.Option(help="Images an embedding part; 0 chooses.")] = 0,
    mask_part_images: Annotated[int, typer.Option(help="Images a mask part; 0 chooses.")] = 0,
    absolute_paths: Annotated[
        bool, typer.Option("--absolute-paths", help="Samples name local files by full paths.")
    ] = False,
    name: Annotated[str, typer.Option(help="What shards are called; else the vocabulary.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    workers: Annotated[int, typer.Option(help="Parts that are worked on at a time.")] = 1,
    runner: Annotated[
        str, typer.Option(help="What runs the parts: threads, or ray for a Ray cluster.")
    ] = "threads",
    ray_address: Annotated[
        str, typer.Option(help="Of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT.")
    ] = "auto",
    repair: Annotated[bool, typer.Option(help="Check all bytes, rebuild what is damaged.")] = False,
    store: Annotated[str, typer.Option(help="Folder or URI of the artifacts.")] = DEFAULT_STORE,
    then: Annotated[
        str, typer.Option(help="What follows: none, train or train+evaluate.")
    ] = "none",
    training: Annotated[
        list[str] | None,
        typer.Option(help="How to train: NAME=VALUE or a YAML file; may be repeated."),
    ] = None,
    evaluation: Annotated[
        list[str] | None,
        typer.Option(help="On what to evaluate, likewise: on=coco:val.json, …"),
    ] = None,
    work_pool: Annotated[
        str, typer.Option(help="Prefect work pool that trains and evaluates; else this process.")
    ] = "",
) -> None:
    """Build pseudo-label shards: index, retrieve, mask, pack. Nothing is computed twice."""
    with loading():
        from flows.commands.build import run

    others = {"run", "context", "recipe", "then", "training", "evaluation", "work_pool"}
    settings = {key: value for key, value in locals().items() if key not in {"others", *others}}
    steps = None
    if recipe:
        from flows.settings.recipes import published_recipe

        settings |= {**published_recipe(recipe).build, **typed(context, settings)}
    if then != "none" or training or evaluation or work_pool:
        follows = [f"recipe={recipe}"] if recipe else []
        training, evaluation = [*follows, *(training or [])], evaluation or []
        steps = _next_steps(
            then, training, [*follows, *evaluation] if evaluation else [], work_pool
        )
    lists = {"corpus": corpus, "include": include, "exclude": exclude}
    tuples = {name: tuple(map(utf8_place, values or ())) for name, values in lists.items()}
    run(BuildSettings(**{**settings, **tuples}), steps)


def _next_steps(then: str, training: list[str], evaluation: list[str], work_pool: str) -> NextSteps:
    from flows.settings.evaluation import EvaluationSettings
    from flows.settings.named_values import make_settings, read_values
    from flows.settings.next_steps import NextSteps
    from flows.settings.training import TrainingSettings

    values = read_values(evaluation)
    return NextSteps(
        then=then,  # type: ignore[arg-type]  # checked there
        training=make_settings(TrainingSettings, read_values(training), "training"),
        evaluation=make_settings(EvaluationSettings, values, "evaluation") if values else None,
        work_pool=work_pool,
    )


@app.command("train")
def train_command(
    dataset: Annotated[
        str, typer.Option(help="Key of a data set, or its beginning; else the latest build's.")
    ] = "",
    recipe: Annotated[
        str, typer.Option(help="A published model's settings, for all that is not given.")
    ] = "",
    clip: Annotated[
        str | None, typer.Option(help="ARCHITECTURE:WEIGHTS to start from.  [default: ViT-B-16]")
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(help="Optimiser steps.  [default: 20,000]")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Samples of a step, all processes together.  [default: 8]")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The encoder has a tenth of it.  [default: 5e-5]")
    ] = None,
    crop: Annotated[
        int | None, typer.Option(help="Rows and columns of a sample, pixels.  [default: 384]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of initial weights and samples.  [default: 0]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that make samples.  [default: 2]")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N.  [default: auto]")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, float32 or bfloat16.  [default: auto]")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting: NAME=VALUE, or a YAML file; repeatable."),
    ] = None,
    store: Annotated[str, typer.Option(help="Folder or URI of the artifacts.")] = DEFAULT_STORE,
) -> None:
    """Train ZUTIS on a build's shards; a run that was stopped goes on where it was.

    Under torchrun, its processes train one network together.
    """
    given = {
        "recipe": recipe or None, "clip": clip, "iterations": iterations, "batch_size": batch_size,
        "learning_rate": learning_rate, "crop": crop, "seed": seed, "workers": workers,
        "device": device, "precision": precision,
    }  # fmt: skip
    with loading():
        from flows.commands.train import run
        from flows.settings.named_values import make_settings, read_values
        from flows.settings.training import TrainingSettings

    values = read_values(setting or []) | {k: v for k, v in given.items() if v is not None}
    run(make_settings(TrainingSettings, values, "training"), dataset, store)


@app.command("evaluate")
def evaluate_command(
    context: typer.Context,
    on: Annotated[
        str,
        typer.Option(help="A name of `benchmark list`, coco:FILE.json, folder:IMAGES+LABELS."),
    ],
    checkpoint: Annotated[
        str, typer.Option(help="Key of a training, name or file of weights; else the latest.")
    ] = "",
    recipe: Annotated[
        str, typer.Option(help="A published model's settings, for all that is not given.")
    ] = "",
    data: Annotated[str, typer.Option(help="Folder of all data sets; else ZUTIS_DATA.")] = "",
    vocabulary: Annotated[
        str, typer.Option(help="Vocabulary to ask with; else the data set's own names.")
    ] = "",
    collapse_to: Annotated[
        str, typer.Option(help="Score all categories as this one, such as bird.")
    ] = "",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave faulty annotations out, and list them.")
    ] = False,
    limit: Annotated[int, typer.Option(help="The first images alone; 0: all.")] = 0,
    baseline: Annotated[bool, typer.Option(help="MaskCLIP's scores beside the model's.")] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting: NAME=VALUE, or a YAML file; repeatable."),
    ] = None,
    store: Annotated[str, typer.Option(help="Folder or URI of the artifacts.")] = DEFAULT_STORE,
) -> None:
    """Score a trained model on annotated pictures: mean IoU, AP, and MaskCLIP beside it."""
    given = {
        "on": on, "recipe": recipe, "data": data, "vocabulary": vocabulary,
        "collapse_to": collapse_to, "limit": limit, "baseline": baseline, "device": device,
        "precision": precision, "skip_bad": skip_bad,
    }  # fmt: skip
    with loading():
        from flows.commands.evaluate import run
        from flows.settings.evaluation import EvaluationSettings
        from flows.settings.named_values import make_settings, read_values

    values = typed(context, given) | read_values(setting or [])
    run(make_settings(EvaluationSettings, values, "evaluation"), checkpoint, store)


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
    with loading():
        from flows.commands.search import run

    run(text, top=top, index=index, clip=clip, device=device, store=store)


def main() -> None:
    """Entry point: errors for users become one line and exit code 2, signals their own codes."""
    interruption.listen()
    protect_children()
    if isinstance(sys.stdout, io.TextIOWrapper):  # it may name files whose names are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    code = exit_code_of(app)
    if interruption.interrupted() and code == interruption.exit_code():
        interruption.end()  # Python would wait for threads that are at work
    interruption.ended_well()
    sys.exit(code)


def exit_code_of(command: Callable[..., Any]) -> int:
    """Run a command and turn what it raises into an exit code and a line on standard error."""
    try:
        return _exit_code_of(command)
    except BaseException as error:
        # Whatever it is: after a signal all kinds of things break.
        if not interruption.interrupted() and not isinstance(error, KeyboardInterrupt):
            raise
        interruption.say(str(error) if isinstance(error, ZutisError) else "")
        return interruption.exit_code()


def _exit_code_of(command: Callable[..., Any]) -> int:
    try:
        command()
    except BrokenPipeError:  # the reader (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except SystemExit as stop:
        if stop.code and interruption.interrupted():  # the parser of options makes 130 of it
            raise
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        sentence = None if interruption.interrupted() else _sentence_for(error)
        if sentence is None:
            raise
        return _say(sentence)
    return 0


def _sentence_for(error: Exception) -> str | None:
    """What a user is told of an error; None for what is a mistake of ours."""
    if isinstance(error, ZutisError):
        return str(error)
    if isinstance(error, OSError) and not (error.filename is None and error.errno is None):
        return f"The system refused: {error.strerror or error} ({error.filename or 'disk'})."
    return refusal_of_server(error) or refusal_of_value(error)


def _say(sentence: str) -> int:
    Console(stderr=True, soft_wrap=True).print(f"Error: {sentence}", markup=False, highlight=False)
    return USER_ERROR
