"""The page in a browser: keys, search, names that would script it, narrow windows, other faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.builds.found import FoundBuild
from flows.settings.build import BuildSettings
from flows.settings.options import changed
from storage.decisions.decision_file import read_decisions
from tests.support.browser import Tab, open_browser
from tests.support.pages import HOSTILE
from tests.support.runs.builds import artifacts_by_stage, build_here, new_artifacts

pytestmark = pytest.mark.slow

READY = "document.body?.dataset.ready === 'yes' && !document.querySelector('[aria-busy]')"
PAINTED = """document.querySelectorAll('.cell img').length > 0
    && [...document.querySelectorAll('.cell img')].every((each) => each.complete)"""
CELLS = "[...document.querySelectorAll('.cell')].map((each) => each.innerText)"
COUNT = "document.getElementById('count').textContent"
ERROR = "document.getElementById('error').textContent"
AT = "Number(document.querySelector('.cell.at').id.slice(6))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with open_browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(browser: Tab) -> Iterator[Tab]:
    browser.faults.clear()
    browser.size(1400)
    yield browser
    browser.command("Page.navigate", url="about:blank")


def counted(tab: Tab, looked_at: int) -> None:
    tab.wait(f"{COUNT}.startsWith('{looked_at} of 12 ')")


def test_keys_decide_and_undo(tab: Tab, review, serve, file) -> None:
    tab.open(serve(review("Ana")).server.address, READY)
    tab.keys("a", "r", "s")
    counted(tab, 3)
    assert tab.value(AT) == 3, "the next label is at hand"
    tab.keys("c")
    tab.wait("document.getElementById('naming').open")
    tab.keys("b", "l")
    tab.wait("document.querySelector('#names [aria-selected=true]').innerText === 'blue'")
    tab.keys("Enter")
    counted(tab, 4)
    lines = read_decisions(str(file))
    assert [(line.verdict, line.to) for line in lines] == [
        ("accept", ""), ("reject", ""), ("several", ""), ("rename", "blue"),
    ]  # fmt: skip
    assert {line.who for line in lines} == {"Ana"}
    tab.keys("u")
    counted(tab, 3)
    assert tab.value(AT) == 3, "what was taken back is at hand"
    assert [line.verdict for line in read_decisions(str(file))][4:] == ["clear"]
    tab.keys("ArrowLeft", "ArrowLeft", "ArrowRight", "End")
    assert tab.value(AT) == 11
    tab.keys("Home", "Enter")
    tab.wait("document.getElementById('large').open")
    tab.wait("document.getElementById('large-image').naturalWidth > 0")
    tab.keys("r")
    tab.wait(f"{CELLS}[0].includes('rejected')")
    assert tab.faults == []


def test_letters_in_a_field_decide_nothing(tab: Tab, review, serve, file) -> None:
    tab.open(serve(review()).server.address, READY)
    tab.keys("/", "a", "r", "s")
    assert tab.value("document.getElementById('text').value") == "ars"
    assert not file.exists()


def test_a_label_that_is_out_of_sight_is_shown_before_it_is_decided(
    tab: Tab, review, serve, file
) -> None:
    tab.size(400)
    tab.open(serve(review()).server.address, f"{READY} && {PAINTED}")
    tab.value("grid.scrollTop = grid.scrollHeight")
    tab.wait("grid.scrollTop > 2 * height")
    tab.keys("r")
    tab.wait("grid.scrollTop === 0")
    assert not file.exists()
    tab.keys("r")
    counted(tab, 1)
    assert tab.faults == []


def test_search_and_more_like_this(tab: Tab, review, serve) -> None:
    served = serve(review())
    tab.open(served.server.address, READY)
    _, expected = served.ask("list?text=blue")
    tab.keys("/", *"blue", "Enter")
    tab.wait("document.getElementById('shown').textContent.includes('found')")
    tab.wait(READY)
    assert tab.value("state.ids") == expected["labels"]
    tab.wait(f"{CELLS}[0].startsWith('blue')")
    tab.keys("Escape")
    tab.wait(f"{READY} && !document.getElementById('shown').textContent.includes('found')")
    tab.keys("Home")
    first = tab.value("state.ids[0]")
    tab.keys("l")
    tab.wait("document.getElementById('shown').textContent.includes('most like')")
    _, expected = served.ask(f"list?like={first}")
    assert tab.value("state.ids") == expected["labels"]
    assert tab.value("state.ids[0]") == first
    assert tab.faults == []


def test_a_decision_on_the_page_makes_one_shard_again(
    tab: Tab, settings: BuildSettings, build: FoundBuild, review, serve, file
) -> None:
    tab.open(serve(review()).server.address, READY)
    tab.keys("r")
    counted(tab, 1)
    before = artifacts_by_stage(settings.store)
    again = build_here(changed(settings, decisions=str(file)))
    assert new_artifacts(before, artifacts_by_stage(settings.store))["pack_shards"] == 1
    assert again.dataset.counts["samples"] == build.dataset.counts["samples"] - 1


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_reaches_beyond_the_window(tab: Tab, review, serve, width: int) -> None:
    tab.size(width)
    tab.open(serve(review()).server.address, f"{READY} && {PAINTED}")
    for opened in ("", "c", "Escape", "?", "Escape", "Enter"):
        if opened:
            tab.keys(opened)
        beyond = tab.value(
            """[...document.querySelectorAll('body *')]
            .filter((each) => each.checkVisibility?.() && !each.closest('select'))
            .filter((each) => each.getBoundingClientRect().right > innerWidth + 1)
            .map((each) => each.outerHTML.slice(0, 80))"""
        )
        assert beyond == []
        assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.value("grid.scrollWidth <= grid.clientWidth")


def test_no_name_scripts_the_page(tab: Tab, review, serve) -> None:
    reviewing = review(HOSTILE[1])
    categories = reviewing.reviewed.labels.samples.categories
    categories.update(enumerate(HOSTILE, start=1))
    served = serve(reviewing)
    tab.open(served.server.address, f"{READY} && {PAINTED}")
    elements = "document.querySelectorAll('script, style, img:not(.cell img, #large-image)').length"
    assert tab.value(elements) == 1
    tab.keys("a", "c")
    tab.wait("document.getElementById('names').children.length > 0")
    tab.value(
        """document.querySelectorAll('#names li, .cell, bdi').forEach((each) =>
        each.dispatchEvent(new MouseEvent('mouseover', { bubbles: true })))"""
    )
    tab.keys("Escape", "Home", "Enter")
    tab.wait("document.getElementById('large-note').textContent.includes('by')")
    assert tab.value(elements) == 1
    assert "scripted" not in tab.value("document.title")
    assert HOSTILE[0] in tab.value(f"{CELLS}[0]")
    shown = json.dumps(tab.value("document.body.innerText"))
    assert "\\u202e" not in shown, "marks of direction would turn what stands around them"
    assert tab.faults == []


def test_a_store_that_changes_is_told_of(tab: Tab, build: FoundBuild, review, serve, file) -> None:
    served = serve(review())
    tab.open(served.server.address, READY)
    for shard in Path(build.store.root).rglob("*.tar"):
        shard.unlink()
    tab.keys("r")
    tab.wait(f"{ERROR} !== ''")
    assert "\n" not in tab.value(ERROR)
    assert "Traceback" not in tab.value(ERROR)
    assert not file.exists()
