"""CLIP's tokenizer with fewer ids than its 49,408, for small text towers.

Every word still works: open_clip's byte-pair ids are mapped to a smaller range by a fixed rule, so
that some tokens share a row of the embedding. Among the few hundred tokens of a small world this
affects a handful; the 4,093 ids of `made-ViT-8` keep the words of the made world and of the
prompts apart.

Dimensions:
    n  texts
    c  context length of the text tower
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from open_clip import SimpleTokenizer
from torch import Tensor

_PADDING = 0
_SPECIAL = 3
"""Ids that are no words': the padding, the start mark and the end mark."""


class ReducedTokenizer:
    """Texts to ids below `vocab_size`, with start and end marks.

    Id 0 is padding. The end mark is the largest id, because open_clip's text tower is read where
    the id is largest; the start mark is the one below.

    Args:
        vocab_size: rows of the text tower's embedding, at least 4.
        context_length: c, at least 2.

    Raises:
        ValueError: an argument is below its least.
    """

    def __init__(self, vocab_size: int, context_length: int) -> None:
        if vocab_size <= _SPECIAL:
            raise ValueError(f"vocab_size must be at least {_SPECIAL + 1}, got {vocab_size}")
        if context_length < 2:
            raise ValueError(f"context_length must be at least 2, got {context_length}")
        self.vocab_size = vocab_size
        self.context_length = context_length
        self._words = SimpleTokenizer()

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids.

        Args:
            texts: n of them; texts beyond the context are cut off, and the end mark is kept.

        Returns:
            int64 [n, c] on the CPU, zeros after the end.
        """
        start, end = self.vocab_size - 2, self.vocab_size - 1
        tokens = torch.full((len(texts), self.context_length), _PADDING, dtype=torch.int64)
        for row, text in zip(tokens, texts, strict=True):
            words = self._reduced(text)[: self.context_length - 2]
            row[: len(words) + 2] = torch.tensor([start, *words, end])
        return tokens

    def _reduced(self, text: str) -> list[int]:
        num_words = self.vocab_size - _SPECIAL
        return [token % num_words + 1 for token in self._words.encode(text)]
