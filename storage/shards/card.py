"""What the cards of all data sets share."""

from __future__ import annotations

from typing import Final

METADATA: Final = """\
---
configs:
- config_name: default
  data_files: "*.tar"
license: unknown
task_categories:
- image-segmentation
tags:
- webdataset
- pseudo-labels
---
"""
"""The head of a card, which the Hugging Face hub reads."""


def cell(text: str) -> str:
    """A text escaped for a cell of a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|")
