"""The command line: the registry of commands, and the entry point.

A command is imported when it is called, and heavy libraries when they are needed: a cached build
loads neither torch nor Prefect.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from cyclopts import App, CycloptsError, Group
from rich.console import Console

from flows.processes import interruption
from flows.processes.safe_path import protect_children
from flows.terminal.loading import speaking_when_slow
from storage.errors.exceptions import ZutisError

USER_ERROR: Final = 2

_STEPS = Group("Step by step: build → train → evaluate → predict", sort_key=1)
_LOOK = Group("Look around", sort_key=2)
_SERVE = Group("Serve and keep", sort_key=3)
_MORE = Group("More", sort_key=4)

# Name, place of the function or the app, heading, and description in `zutis --help`.
_COMMANDS: Final = (
    ("demo", "demo.command:demo_command", _STEPS, "Try all of it on a made world, in minutes."),
    (
        "build",
        "commands.build:build_command",
        _STEPS,
        "Build pseudo-label shards from images and a vocabulary.",
    ),
    ("train", "commands.train:train_command", _STEPS, "Train ZUTIS on the shards of a build."),
    (
        "evaluate",
        "commands.evaluate:evaluate_command",
        _STEPS,
        "Score a trained model on annotated images: mean IoU and AP.",
    ),
    (
        "predict",
        "commands.predict:predict_command",
        _STEPS,
        "Segment images with a trained model and any categories.",
    ),
    (
        "report",
        "looking.report:report_command",
        _LOOK,
        "Write a page on a build: labels by category and quality, conflicts, rejects.",
    ),
    (
        "diff",
        "looking.diff:diff_command",
        _LOOK,
        "Compare two builds: labels that came, went, changed, and settings that differ.",
    ),
    (
        "review",
        "deciding.review:review_command",
        _LOOK,
        "Look at labels on a local page, and accept, reject or rename them.",
    ),
    (
        "decisions",
        "deciding.decisions:decisions_app",
        _LOOK,
        "Say what decisions about labels would change.",
    ),
    (
        "export",
        "exporting.command:export_command",
        _LOOK,
        "Write a build's labels for other tools: COCO, YOLO, VOC, CVAT, Hugging Face …",
    ),
    (
        "import-labels",
        "deciding.import_labels:import_command",
        _LOOK,
        "Turn labels that were corrected in other programs into decisions.",
    ),
    ("search", "looking.search:search_command", _LOOK, "Search a build's index with words."),
    (
        "status",
        "commands.status:status_command",
        _LOOK,
        "Show running and crashed builds, disk use, and the latest results.",
    ),
    (
        "vocabularies",
        "commands.vocabularies:list_vocabularies",
        _LOOK,
        "List the vocabularies that builds know by name.",
    ),
    (
        "vocabulary",
        "looking.vocabulary:vocabulary_app",
        _LOOK,
        "Check a vocabulary before a build: names, prompts, rivals.",
    ),
    ("benchmark", "commands.benchmark:benchmark_app", _LOOK, "List the evaluation data sets."),
    ("weights", "commands.weights:weights_app", _LOOK, "List, fetch and check published weights."),
    (
        "serve",
        "commands.serve:serve_command",
        _SERVE,
        "Serve the flows as Prefect deployments, with a server and its UI.",
    ),
    (
        "retry",
        "repeating.retry:retry_command",
        _SERVE,
        "Ask again for images that a build could not have, and build with them.",
    ),
    (
        "merge",
        "repeating.merge:merge_command",
        _SERVE,
        "Merge the labels of two builds under one vocabulary.",
    ),
    (
        "artifacts",
        "commands.artifacts:artifacts_app",
        _SERVE,
        "List, show, check, pin and collect artifacts of the store.",
    ),
    ("selfmask", "commands.selfmask:selfmask_app", _MORE, "Train SelfMask on own images."),
    (
        "demo-train",
        "demo_training.app:demo_train_app",
        _MORE,
        "Train the demonstration's small models again.",
    ),
)


def _app() -> App:
    made = App(
        name="zutis",
        help="Segmentation training sets and models from unlabelled images and a list of"
        " categories, with no human label.",
        version=_version,
        version_flags=["--version"],
        help_flags=["--help", "-h"],
        help_format="plaintext",
        result_action="return_value",
    )
    for number, (name, place, heading, summary) in enumerate(_COMMANDS):
        made.command(f"flows.{place}", name=name, group=heading, help=summary, sort_key=number)
    made.command(_install_completion, name="--install-completion", group=_MORE)
    made["--help"].group = made["--version"].group = (_MORE,)
    return made


def _version() -> str:
    from importlib.metadata import version  # takes a sixth of the time of --help

    return version("zutis")


def _install_completion() -> None:
    """Install completion for this shell."""
    print(f"Completion is in {app.install_completion()}; it works in new shells.")


app: Final = _app()


def run_command_line(words: Sequence[str] | None = None) -> None:
    """Run the command of these words; by default those of this process's command line.

    Raises:
        ZutisError: one sentence, for the user.
        CycloptsError: the words are not a command.
    """
    with speaking_when_slow(sys.stderr):
        command, bound, _ = app.parse_args(
            words, exit_on_error=False, print_error=False, end_of_options_delimiter="--"
        )
    command(*bound.args, **bound.kwargs)


def main() -> None:
    """Entry point: errors for users become one line and exit code 2, signals their own codes."""
    interruption.listen()
    protect_children()
    if isinstance(sys.stdout, io.TextIOWrapper):  # it may name files whose names are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    code = exit_code_of(run_command_line)
    if interruption.interrupted() and code == interruption.exit_code():
        interruption.end()  # Python would wait for threads that are at work
    interruption.ended_well()
    sys.exit(code)


def exit_code_of(command: Callable[..., Any]) -> int:
    """Run a command and turn what it raises into an exit code and a line on standard error."""
    try:
        return _exit_code_of(command)
    except BaseException as error:
        # Any error: a signal interrupts code at places that don't expect it.
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
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        sentence = None if interruption.interrupted() else _sentence_for(error)
        if sentence is None:
            raise
        return _say(sentence)
    return 0


def _sentence_for(error: Exception) -> str | None:
    """The sentence that a user reads for an error; None for a bug of ours."""
    if isinstance(error, ZutisError):
        return str(error)
    if isinstance(error, CycloptsError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and not (error.filename is None and error.errno is None):
        return f"The system refused: {error.strerror or error} ({error.filename or 'disk'})."
    from flows.prefect_server.refusals import refusal_of_server
    from flows.prefect_server.values import refusal_of_value

    return refusal_of_server(error) or refusal_of_value(error)


def _say(sentence: str) -> int:
    Console(stderr=True, soft_wrap=True).print(f"Error: {sentence}", markup=False, highlight=False)
    return USER_ERROR
