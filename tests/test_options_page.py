"""docs/options.md is the command line's own account of itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from flows.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "options.md"
HEADER = """<!-- Written by `UPDATE_DOCS=1 uv run pytest tests/test_options_page.py` -->

# Options of every command

A value is taken from the command line, else from `--set NAME=VALUE`, else from the file that
`--config FILE.yaml` names, else from the recipe, else it is the default. A file has the options'
names without the dashes in front, one `NAME: VALUE` a line:

```yaml
corpus: [photos, s3://bucket/more]
vocabulary: coco
per_category: 200
training: {iterations: 5000}
```

The options of `zutis build` are the parameters of the flow build-pseudolabels, too:
`prefect deployment run build-pseudolabels --param vocabulary=coco`.

"""


def test_the_page_of_options_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["zutis"])  # its name is in the lines on usage
    _, _, listed = app.generate_docs(output_format="markdown", recursive=True).partition("## ")
    lines = [
        line for line in listed.rstrip().split("\n") if "(#zutis-install-completion)" not in line
    ]
    body = "\n".join(lines).replace("```console", "```text")
    page = f"{HEADER}## {body}\n"
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, (
        "the options have changed: UPDATE_DOCS=1 uv run pytest tests/test_options_page.py"
    )
