"""Builds under review, and the page of one."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.builds.found import FoundBuild, build_of
from flows.deciding.answers import Answers
from flows.deciding.decision_log import DecisionLog
from flows.deciding.drawing import Drawings
from flows.deciding.image_search import ImageSearch
from flows.deciding.reviewed import labels_to_review
from flows.deciding.reviewing import Reviewing
from flows.deciding.server import ReviewServer
from flows.settings.build import BuildSettings
from storage.files.bounded_cache import BoundedCache
from tests.support.runs.builds import build_here
from tests.support.servers.loopback import answering


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "decisions.jsonl"


@pytest.fixture
def build(settings: BuildSettings) -> FoundBuild:
    """Twelve images of three colours, of each colour four labels."""
    return build_of(build_here(settings).dataset)


@pytest.fixture
def review(build: FoundBuild, file: Path) -> Callable[..., Reviewing]:
    """Reviews of the build that write to the file."""

    def of(who: str = "", **which: Any) -> Reviewing:
        found = Reviewing(labels_to_review(build, **which), DecisionLog(file), who)
        found.refresh()
        return found

    return of


@dataclass(frozen=True)
class Served:
    """A page that is being served."""

    server: ReviewServer
    reviewing: Reviewing

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and content of an answer; JSON is decoded."""
        data = None if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.server.address + path, data, kind | given)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                content = answer.read()
                is_json = answer.headers.get_content_type() == "application/json"
                return answer.status, json.loads(content) if is_json else content
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Reviewing], Served]]:
    """Serves pages until the test ends."""
    open_servers: list[Any] = []

    def start(reviewing: Reviewing) -> Served:
        reviewed = reviewing.reviewed
        drawings = Drawings(reviewed, BoundedCache(tmp_path / "thumbnails", 1_000_000))
        search = ImageSearch(reviewed.build, reviewed.labels.samples)
        server = ReviewServer(Answers(reviewing, drawings, search), 0)
        run = answering(server)
        run.__enter__()
        open_servers.append((server, run))
        return Served(server, reviewing)

    yield start
    for server, run in open_servers:
        run.__exit__(None, None, None)
        server.server_close()
