"""Files of decisions: lines, appending, several writers, merging."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from storage.decisions import decision_file
from storage.decisions.decision import Decision, DrawnMask, decision_of, line_of
from storage.decisions.decision_file import append_decisions, merged, read_decisions
from storage.errors.exceptions import CorpusError, StorageError

IMAGE, MASK = "ab" * 32, "cd" * 16
NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)
PLAIN = {"image_id": IMAGE, "category": "zebra", "mask": MASK, "verdict": "accept",
         "when": "2030-01-31T12:00:00Z"}  # fmt: skip


def decision(verdict: str = "accept", **values: Any) -> Decision:
    given = {"image_id": IMAGE, "category": "zebra", "mask": MASK, "when": NOON} | values
    return Decision(verdict=verdict, **given)


def line(**changes: Any) -> str:
    return json.dumps({name: value for name, value in (PLAIN | changes).items() if value != ""})


def test_decisions_come_back_as_they_were_written(tmp_path: Path) -> None:
    given = [
        decision(who="Ana \u202e\n", sample=50),
        decision("rename", to="quagga"),
        decision("redraw", drawn=DrawnMask(2, 3, "132")),
        decision("reject", mask="", category="red | kite"),
    ]
    append_decisions(tmp_path / "more" / "decisions.jsonl", given[:1])
    append_decisions(tmp_path / "more" / "decisions.jsonl", given[1:])
    path = tmp_path / "more" / "decisions.jsonl"
    assert read_decisions(str(path)) == given
    assert len(path.read_text().splitlines()) == 4
    assert json.loads(path.read_text().splitlines()[1]) == PLAIN | {
        "verdict": "rename", "to": "quagga"
    }  # fmt: skip


def test_fields_that_nobody_knows_are_ignored() -> None:
    assert decision_of(line(confidence=0.5)) == decision()
    assert decision_of(line_of(decision())) == decision()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nothing", "it is not JSON: Expecting value, character 1"),
        ("[" * 100_000, "it is not JSON: it is nested too deeply"),
        ("[]", "it is no JSON object"),
        (line(verdict="maybe"), "`verdict` is 'maybe': choose accept, reject, rename"),
        (line(verdict=""), "`verdict` is ''"),
        (line(image_id="../../etc"), "`image_id` is not the sha256 of an image"),
        (line(mask="12"), "`mask` is not the digest of a mask"),
        (line(category=""), "`category` is missing"),
        (line(category=5), "`category` is no text"),
        (line(verdict="rename"), "`to` is missing"),
        (line(to="horse"), "`to` is only for rename"),
        (line(when=""), "`when` is no time with its zone"),
        (line(when="2030-01-31T12:00:00"), "`when` is no time with its zone"),
        (line(when="0001-01-01T00:00:00+23:59"), "`when` is no time with its zone"),
        (line(sample=-1), "`sample` is no number of labels"),
        (line(sample=True), "`sample` is no number of labels"),
        (line(verdict="redraw"), "`drawn` is no mask with `size` and `counts`"),
        (line(drawn={"size": [2, 3], "counts": "132"}), "`drawn` is only for redraw"),
        (
            line(verdict="redraw", drawn={"size": [2, 4], "counts": "132"}),
            "the run lengths of `drawn` don't make up 2 x 4 pixels",
        ),
        (
            line(verdict="redraw", drawn={"size": [1 << 20, 1 << 20], "counts": "132"}),
            "`drawn` has a size that no image has",
        ),
        (line(verdict="redraw", drawn={"size": [2, 3], "counts": "6"}), "`drawn` is empty"),
    ],
)
def test_a_line_that_is_no_decision_is_one_sentence_with_its_number(
    text: str, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text(f"{line()}\n\n{text}\n{line()}\n")
    with pytest.raises(CorpusError) as caught:
        read_decisions(str(path))
    assert str(caught.value).startswith(f"Line 3 of {path} is no decision ({why}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        read_decisions(str(tmp_path / "nowhere.jsonl"))
    with pytest.raises(StorageError):
        append_decisions(tmp_path, [decision()])


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line().encode() + b"\r\n\xff\n")
    with pytest.raises(CorpusError, match=r"Line 2 .*\(it is not UTF-8"):
        read_decisions(str(path))


def test_what_a_writer_left_that_died_is_passed_over_and_then_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text(f"{line()}\n{line()[:40]}")
    assert read_decisions(str(path)) == [decision()]
    append_decisions(path, [decision("reject")])
    assert read_decisions(str(path)) == [decision(), decision("reject")]


def test_a_last_decision_without_the_end_of_its_line_stays(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text(line())
    append_decisions(path, [decision("reject")])
    assert read_decisions(str(path)) == [decision(), decision("reject")]


def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "decisions.jsonl"
    append_decisions(path, [decision()])
    before = path.read_bytes()

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decision_file, "sync_file", full)
    with pytest.raises(StorageError, match="the disk is full"):
        append_decisions(path, [decision("reject")])
    assert path.read_bytes() == before


_WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from storage.decisions.decision import Decision
from storage.decisions.decision_file import append_decisions
for number in range(100):
    append_decisions(Path(sys.argv[1]), [Decision(image_id="ab" * 32, category=sys.argv[2] * 300,
        verdict="accept", who=str(number), when=datetime.now(UTC))])
"""


def test_several_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), name],
            cwd=Path(__file__).parents[3], env=os.environ,
        )
        for name in ("a", "b", "c")
    ]  # fmt: skip
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    found = read_decisions(str(path))
    for name in ("a", "b", "c"):
        own = [each.who for each in found if each.category == name * 300]
        assert own == [str(number) for number in range(100)]


def test_merging_has_each_decision_once_by_time() -> None:
    later = decision("reject", when=NOON + timedelta(seconds=1))
    assert merged([[later, decision()], [decision()]]) == [decision(), later]
