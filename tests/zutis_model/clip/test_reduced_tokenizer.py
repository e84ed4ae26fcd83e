import pytest
import torch

from zutis_model.clip.reduced_tokenizer import ReducedTokenizer

START, END = 98, 99


@pytest.fixture(scope="module")
def tokenizer():
    return ReducedTokenizer(vocab_size=100, context_length=8)


def test_marks_and_padding(tokenizer):
    tokens = tokenizer(["a star", ""])
    assert tokens.dtype == torch.int64
    assert tokens.shape == (2, 8)
    assert tokens[0, 0] == START
    assert tokens[0, 3] == END
    assert tokens[0, 4:].tolist() == [0] * 4
    assert tokens[1].tolist() == [START, END, *[0] * 6]


def test_the_end_mark_is_the_largest_id_and_words_get_no_marks(tokenizer):
    tokens = tokenizer(
        ["a star and a heart", "key", "an umbrella with two cups, one bell and a gear"]
    )
    assert (tokens.amax(dim=1) == END).all()
    for row in tokens:
        end = int(row.argmax())
        words = row[1:end]
        assert ((words >= 1) & (words < START)).all()
        assert (row[end + 1 :] == 0).all()


def test_no_word_is_taken_for_padding_or_a_mark():
    few = ReducedTokenizer(vocab_size=8, context_length=128)
    (row,) = few(["a b c d e f g h i j k l m n o p q r s t u v w x y z 0 1 2 3 4 5 6 7 8 9"])
    words = row[1:37]
    assert set(words.tolist()) == {1, 2, 3, 4, 5}
    assert row[37] == 7


def test_long_texts_keep_the_end(tokenizer):
    (row,) = tokenizer(["a star " * 50])
    assert row[0] == START
    assert row[-1] == END
    assert row.tolist().count(END) == 1


def test_any_word_works_and_always_in_the_same_way(tokenizer):
    texts = ["Pneumonoultramicroscopic", "猫と犬", "snow☃man", "a\tstar\n"]
    assert torch.equal(tokenizer(texts), ReducedTokenizer(100, 8)(texts))
    assert torch.equal(tokenizer(["A  STAR"]), tokenizer(["a star"]))
    assert tokenizer([]).shape == (0, 8)


def test_a_large_vocabulary_keeps_words_apart():
    tokens = ReducedTokenizer(4096, 32)(["star", "heart", "arrow", "key", "fish", "tree", "gear"])
    assert len(set(tokens[:, 1].tolist())) == 7


@pytest.mark.parametrize(
    ("vocab_size", "context_length", "name"), [(3, 8, "vocab_size"), (4, 1, "context_length")]
)
def test_too_small(vocab_size, context_length, name):
    with pytest.raises(ValueError, match=name):
        ReducedTokenizer(vocab_size, context_length)
