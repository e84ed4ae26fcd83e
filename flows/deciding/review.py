"""`zutis review`: a page on which people look at a build's labels and decide."""

from __future__ import annotations

import webbrowser

from rich.console import Console

from flows.commands.options import command_of
from flows.deciding.settings import ReviewOptions
from flows.settings.devices import choose_device, require_device
from flows.terminal.waiting import waiting_for
from storage.artifacts.store import ArtifactStore
from storage.files.filesystems import display
from storage.files.user_files import user_path


@command_of(ReviewOptions, positional="build")
def review_command(options: ReviewOptions) -> None:
    """Look at a build's labels on a local page, and accept, reject or rename them."""
    console = Console()
    require_device(options.device)
    with waiting_for(console, "Opening the labels"):
        from flows.builds.found import find_build
        from flows.deciding.answers import Answers
        from flows.deciding.decision_log import DecisionLog
        from flows.deciding.drawing import Drawings
        from flows.deciding.image_search import ImageSearch
        from flows.deciding.reviewed import labels_to_review
        from flows.deciding.reviewing import Reviewing
        from flows.deciding.server import ReviewServer

        build = find_build(ArtifactStore(options.store), options.build)
        reviewed = labels_to_review(build, options.category, options.sample, options.seed)
        path = user_path(str(options.decisions)).resolve()
        reviewing = Reviewing(reviewed, DecisionLog(path), options.who)
        search = ImageSearch(
            build, reviewed.labels.samples, options.clip, choose_device(options.device)
        )
        reviewing.refresh()
        server = ReviewServer(Answers(reviewing, Drawings(reviewed), search), options.port)
    with server:
        counts = reviewing.counts()
        for line in (
            f"{counts['labels']:,} labels, {counts['looked_at']:,} of them looked at; decisions go "
            f"to {display(str(path))}.",
            server.address,
            "Ctrl-C ends it: each decision is on disk when the page shows it.",
        ):
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        if options.open:
            webbrowser.open(server.address)
        server.serve_forever()
