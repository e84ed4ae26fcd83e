"""Pages for tests: a strict reader, and a browser where the machine has one."""

from __future__ import annotations

import subprocess
from html.parser import HTMLParser
from pathlib import Path

from tests.support.browser import browser_program

VOID = {"meta", "link", "img", "line", "circle", "path", "br"}
LOADS = {"src", "srcset", "href", "data", "action", "poster"}
HOSTILE = (
    "<script>document.title = 'scripted'</script>",
    "</bdi></style></title><img src=x onerror=\"document.title='scripted'\">",
    "\" onmouseover=\"document.title='scripted'",
    "' autofocus onfocus='document.title=1",
    "two\nlines\tand\x00more",
    "\u202eright to left\u2066 and not closed",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "&lt;already&amp;escaped&gt;",
    "\ud800 half a pair",
    "x" * 5000,
)
"""Names that break a page which trusts them."""


class Reader(HTMLParser):
    """Parses a page and refuses tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open:
            self.texts.append((self.open[-1], data.strip()))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def inside(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def assert_stands_alone(reader: Reader) -> None:
    """The page runs nothing, and loads only what is in it."""
    assert not reader.of("script")
    for _, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in LOADS & attributes.keys():
            assert (attributes[name] or "").startswith(("data:", "#"))


def dom_in_browser(page: Path, folder: Path) -> str:
    """What a browser makes of a page, as HTML.

    The browser is `ZUTIS_TEST_BROWSER` or `chromium`; a test skips where there is none.
    """
    done = subprocess.run(
        [
            browser_program(), "--headless", "--no-sandbox", "--disable-gpu",
            "--disable-dev-shm-usage", f"--user-data-dir={folder}", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stdout.decode("utf-8", "replace")
