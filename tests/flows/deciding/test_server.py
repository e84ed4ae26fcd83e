"""The page's server: what it answers, and whom."""

from __future__ import annotations

import http.client
import io
import json
import shutil
import socket
from pathlib import Path

import pytest
from PIL import Image

from flows.cli import exit_code_of, run_command_line
from flows.deciding.server import ReviewServer
from storage.decisions.decision_file import read_decisions


def test_the_page_and_its_labels(review, serve) -> None:
    page = serve(review("Ana"))
    status, html = page.ask("")
    assert status == 200
    assert b"review.js" in html
    _, build = page.ask("build")
    assert [each["name"] for each in build["vocabulary"]] == ["red", "green", "blue"]
    assert build["counts"]["labels"] == 12
    _, found = page.ask("list?category=2&order=best")
    _, labels = page.ask(f"labels?ids={','.join(map(str, found['labels']))}")
    assert [label["rank"] for label in labels] == [1, 2, 3, 4]
    assert {label["category_id"] for label in labels} == {2}


def test_images_with_and_without_masks(review, serve) -> None:
    page = serve(review())
    sizes = []
    for path in ("thumbnail?id=0", "thumbnail?id=0", "image?id=0&mask=1", "image?id=0&mask=0"):
        status, content = page.ask(path)
        assert status == 200
        sizes.append(Image.open(io.BytesIO(content)).size)
    assert sizes == [(40 * 192 // 48, 192)] * 2 + [(40, 48)] * 2


def test_decisions_and_undo_through_the_page(review, serve, file) -> None:
    page = serve(review("Ana"))
    _, done = page.ask("decide", {"label": 0, "verdict": "reject"})
    assert done["label"]["state"] == "rejected"
    assert done["counts"]["looked_at"] == 1
    _, left = page.ask("list?show=undecided")
    assert 0 not in left["labels"]
    assert page.ask("list?show=rejected")[1]["labels"] == [0]
    _, undone = page.ask("undo", {"number": done["number"]})
    assert undone["label"]["state"] == ""
    assert [each.verdict for each in read_decisions(str(file))] == ["reject", "clear"]


def test_text_search_and_more_like_this(review, serve) -> None:
    page = serve(review())
    _, found = page.ask("list?text=green")
    assert len(found["labels"]) == 12
    reviewed = page.reviewing.reviewed
    assert {reviewed.name_of(label) for label in found["labels"][:4]} == {"green"}
    like = found["labels"][0]
    _, found = page.ask(f"list?like={like}")
    assert found["labels"][0] == like
    assert {reviewed.name_of(label) for label in found["labels"][:4]} == {"green"}
    _, found = page.ask("list?text=green&category=1")
    assert {reviewed.name_of(label) for label in found["labels"]} == {"red"}


BAD = [
    ("labels?ids=99", None, 400), ("labels?ids=-1", None, 400), ("labels?ids=", None, 400),
    ("labels?ids=²", None, 400), ("thumbnail", None, 400), ("list?order=loud", None, 400),
    ("list?category=x", None, 400), ("list?text=%20", None, 422), ("nothing", None, 404),
    ("../build", None, 404), ("decide", {"label": 99, "verdict": "accept"}, 400),
    ("decide", {"label": "0", "verdict": "accept"}, 400), ("decide", [], 400),
    ("decide", {"label": 0, "verdict": "keep"}, 422), ("undo", {"number": 5}, 422),
    ("decide", {"label": 0, "verdict": "rename", "to": "\ud800"}, 400),
    ("decide", {"label": 0, "verdict": "rename", "to": "x" * 501}, 400),
    ("build", {}, 404),
]  # fmt: skip


def test_what_the_page_would_not_ask_is_a_sentence(review, serve, file) -> None:
    page = serve(review())
    for path, body, expected in BAD:
        status, answer = page.ask(path.replace("²", "%C2%B2"), body)
        assert status == expected, path
        assert answer["error"].endswith(".")
    assert not file.exists()


def raw(server: ReviewServer, method: str, path: str, headers: dict[str, str], body: str = ""):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def test_others_can_neither_read_nor_write(review, serve, file) -> None:
    server = serve(review()).server
    own = f"/{server.secret}/"
    body = json.dumps({"label": 0, "verdict": "reject"})
    json_kind = {"Content-Type": "application/json"}
    refused = [
        ("GET", "/", {}, "", 403), ("GET", "/x/build", {}, "", 403),
        ("GET", own, {"Host": "evil.example"}, "", 421),
        ("GET", own, {"Host": f"evil.example:{server.server_port}"}, "", 421),
        ("POST", "/decide", json_kind, body, 403),
        ("POST", f"{own}decide", json_kind | {"Origin": "http://evil.example"}, body, 403),
        ("POST", f"{own}decide", json_kind | {"Origin": "null"}, body, 403),
        ("POST", f"{own}decide", json_kind | {"Sec-Fetch-Site": "cross-site"}, body, 403),
        ("POST", f"{own}decide", {"Content-Type": "text/plain"}, body, 415),
        ("POST", f"{own}decide", json_kind, "x" * 70_000, 413),
        ("POST", f"{own}decide", json_kind, "[" * 5_000, 400),
        ("PUT", f"{own}decide", json_kind, body, 501),
    ]  # fmt: skip
    for method, path, headers, content, expected in refused:
        answer, _ = raw(server, method, path, headers, content)
        assert answer.status == expected, (method, path, headers)
    assert not file.exists()
    origin = {"Origin": f"http://localhost:{server.server_port}", "Sec-Fetch-Site": "same-origin"}
    answer, _ = raw(server, "POST", f"{own}decide", json_kind | origin, body)
    assert answer.status == 200


def test_every_answer_forbids_scripts_of_others_and_frames(review, serve) -> None:
    server = serve(review()).server
    for path in ("", "build", "nothing"):
        answer, _ = raw(server, "GET", f"/{server.secret}/{path}", {})
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_store_that_goes_away_is_a_sentence(review, serve) -> None:
    page = serve(review())
    shutil.rmtree(page.reviewing.reviewed.build.store.root)
    for path, body in (("thumbnail?id=1", None), ("image?id=1", None), ("list?text=red", None),
                       ("decide", {"label": 1, "verdict": "accept"})):  # fmt: skip
        status, answer = page.ask(path, body)
        assert status == 409, path
        assert answer["error"].endswith(".")
    assert page.ask("list")[0] == 200, "what is known already is still there"


def test_a_file_that_cannot_be_written_is_a_sentence(review, serve, file: Path) -> None:
    page = serve(review())
    file.mkdir()
    status, answer = page.ask("decide", {"label": 1, "verdict": "accept"})
    assert status == 409
    assert "decisions.jsonl" in answer["error"]


def test_a_port_in_use_is_one_sentence(build, settings, capsys, file) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = ["review", "--store", settings.store, "--decisions", str(file)]
        line = [*words, "--port", str(port)]
        assert exit_code_of(lambda: run_command_line(line)) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"Port {port} is in use: give another one with --port" in said


@pytest.mark.parametrize(("words", "expected"), [
    (["--category", "mauve"], "no category 'mauve'"),
    (["abcdef"], "begins with 'abcdef'"),
    (["--port", "70000"], "port is 70000"),
])  # fmt: skip
def test_what_cannot_be_reviewed_is_one_sentence(
    build, settings, capsys, file, words, expected
) -> None:
    line = ["review", "--store", settings.store, "--decisions", str(file), *words]
    assert exit_code_of(lambda: run_command_line(line)) == 2
    assert expected in " ".join(capsys.readouterr().err.split())
