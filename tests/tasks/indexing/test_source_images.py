"""Reading indexed images again: missing and changed files, and temporary failures of servers."""

from __future__ import annotations

from hashlib import sha256

import pytest

from storage.errors.exceptions import CorpusError, StorageError
from tasks.indexing.source_images import read_source_image
from tests.support.files.bad_images import jpeg
from tests.support.servers.bad_server import bad_server, hurried


def test_trouble_that_may_pass_is_not_taken_for_an_image_that_is_gone(monkeypatch):
    with hurried(monkeypatch), bad_server() as server:
        record = {"image_id": sha256(jpeg()).hexdigest(), "uri": server.url("/a.jpg"),
                  "offset": -1, "length": len(jpeg())}  # fmt: skip
        server.scripts["/a.jpg"] = [503, jpeg()]
        assert read_source_image(record) == jpeg()
        server.scripts["/a.jpg"] = [503]
        with pytest.raises(StorageError, match=r"answers 503; .* goes on from here"):
            read_source_image(record)
        server.scripts["/a.jpg"] = [404]
        with pytest.raises(CorpusError, match="the file does not exist"):
            read_source_image(record)
