"""XML files with any text as content."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

_REFUSED: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_text(text: str) -> str:
    """The text with what XML can't hold, such as most control characters, as U+FFFD."""
    return _REFUSED.sub("\ufffd", text)


def add_texts(parent: Element, texts: Mapping[str, object]) -> None:
    """Add elements that hold a text each, by their names."""
    for name, text in texts.items():
        SubElement(parent, name).text = xml_text(str(text))


def write_xml(path: Path, root: Element) -> None:
    """An XML file in UTF-8, without a declaration, which some tools refuse; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    indent(root, " ")
    ElementTree(root).write(path, encoding="utf-8", xml_declaration=False)
