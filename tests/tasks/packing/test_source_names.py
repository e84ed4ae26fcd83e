"""Source names relative to the corpus's folders, which have distinct names."""

from __future__ import annotations

import pytest

from tasks.packing.source_names import source_name


@pytest.mark.parametrize(
    ("uri", "roots", "expected"),
    [
        ("/data/a/sub/1.jpg", ["/data/a"], ("a", "sub/1.jpg")),
        ("/data/x/a/1.jpg", ["/data/w/a", "/data/x/a"], ("a-2", "1.jpg")),
        ("/data/w/a/1.jpg", ["/data/w/a", "/data/x/a"], ("a", "1.jpg")),
        ("/data/a/b/1.jpg", ["/data/a", "/data/a/b"], ("b", "1.jpg")),
        ("/coco/val/1.jpg", ["/coco/annotations"], ("annotations", "../val/1.jpg")),
        ("/data/aa/1.jpg", ["/data/a", "/data/aa"], ("aa", "1.jpg")),
        ("s3://bucket/1.jpg", ["/data/a"], ("", "s3://bucket/1.jpg")),
        ("/data/1.jpg", ["s3://bucket"], ("", "/data/1.jpg")),
    ],
)
def test_names(uri: str, roots: list[str], expected: tuple[str, str]) -> None:
    assert source_name(uri, roots) == expected
