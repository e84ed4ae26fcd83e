"""Vocabularies: the two formats, errors of files, and prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors.exceptions import VocabularyError
from storage.vocabularies.prompt_templates import TEMPLATES
from storage.vocabularies.vocabulary import (
    MAX_CATEGORIES,
    Category,
    category_prompts,
    known_vocabularies,
    load_vocabulary,
)


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def failure(spec: str) -> str:
    with pytest.raises(VocabularyError) as caught:
        load_vocabulary(spec)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


# --- formats ------------------------------------------------------------------------------------


def test_text_file(tmp_path):
    spec = write(tmp_path, "pets.txt", "# my pets\nbackground\n\n  cat \nhot dog\n# end\n")
    vocabulary = load_vocabulary(spec)
    assert vocabulary.name == "pets"
    assert vocabulary.categories == (Category(name="cat"), Category(name="hot dog"))


@pytest.mark.parametrize("name", ["a.txt", "a.yaml"])
def test_byte_order_mark_and_crlf(tmp_path, name):
    text = "cat\r\ndog\r\n" if name == "a.txt" else "categories:\r\n  - cat\r\n  - dog\r\n"
    spec = write(tmp_path, name, b"\xef\xbb\xbf" + text.encode())
    assert load_vocabulary(spec).names == ("cat", "dog")


def test_yaml_file(tmp_path):
    content = """
        name: my birds
        categories:
          - background
          - red kite
          - name: "no"
            synonyms: [nope, "{curly}"]
            prompts: ["a {}.", plain]
            id: 17
          - {name: gull, id: Q4}
          - {name: tern, synonyms: }
    """
    vocabulary = load_vocabulary(write(tmp_path, "b.yml", content))
    assert vocabulary.name == "my birds"
    assert vocabulary.categories == (
        Category(name="red kite"),
        Category(
            name="no", synonyms=("nope", "{curly}"), prompts=("a {}.", "plain"), external_id=17
        ),
        Category(name="gull", external_id="Q4"),
        Category(name="tern"),
    )


def test_yaml_name_defaults_to_the_stem(tmp_path):
    assert load_vocabulary(write(tmp_path, "sea.birds.yaml", "categories: [gull]")).name == (
        "sea.birds"
    )


def test_categories_from_a_merge_key(tmp_path):
    spec = write(tmp_path, "m.yaml", "<<: {categories: [cat, dog]}\nname: m\n")
    assert load_vocabulary(spec).names == ("cat", "dog")


# --- finding ------------------------------------------------------------------------------------


def test_the_working_directory_hides_shipped_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(load_vocabulary("coco").names) == 80
    write(tmp_path, "vocabularies/coco.txt", "only\n")
    write(tmp_path, "vocabularies/mine.txt", "text\n")
    write(tmp_path, "vocabularies/mine.yaml", "categories: [yaml]")
    write(tmp_path, "vocabularies/README.md", "no vocabulary")
    assert load_vocabulary("coco").names == ("only",)
    assert load_vocabulary("mine").names == ("yaml",)
    known = known_vocabularies()
    assert list(known) == sorted(known)
    assert {"coco", "mine", "voc2012"} <= set(known)
    assert "README" not in known


def test_unknown_name_lists_near_matches_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = failure("voc2021")
    assert "known are voc2012," in text
    assert "imagenet-s919" in text
    assert text.count("voc2012") == 1


def test_missing_file_lists_names(tmp_path):
    text = failure(str(tmp_path / "cocoa.yaml"))
    assert "cocoa.yaml" in text
    assert "names coc" in text  # coco and coca come first


def test_other_suffix(tmp_path):
    assert ".yaml, .yml or .txt" in failure(write(tmp_path, "names.csv", "cat"))


def test_folder(tmp_path):
    assert "no vocabulary file" in failure(str(tmp_path))


# --- wrong files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("name: [", "line 1: this is not valid YAML"),
        ("name: x\ncategories:\n  - 'cat\n", "not valid YAML"),
        ("categories: [a]\n--- \ncategories: [b]", "not valid YAML"),
        ("!!python/object/apply:os.getcwd []", "not valid YAML"),
        ("", "must be a mapping with the key `categories`, not nothing"),
        ("- cat\n- dog", "not a list"),
        ("name: x", "`categories` must be a list of names or mappings, not nothing"),
        ("categories: cat", "not the text 'cat'"),
        ("categories: []", "has no categories"),
        ("categories: [background]", "has no categories"),
        ("name: 3\ncategories: [a]", "`name` must be a word or a quoted text, not the number 3"),
        ("categorys: [a]", "did you mean `categories`?"),
        ("categories: [a]\ncategories: [b]", "line 2: the key `categories` is there twice"),
        ("categories:\n  - yes", "category 1 (line 2): a name must be a text, and YAML reads this"),
        ("categories:\n  - a\n  - 12", "category 2 (line 3)"),
        ("categories:\n  - ", "category 1 (line 2): a name must be a text"),
        ("categories: ['  ']", "has an empty name"),
        ('categories: ["a\\nb"]', "control character"),
        (
            "categories:\n  - tv: x",
            "there is no key `tv`, only examples, id, name, name_weight, not, prompts, synonyms",
        ),
        ("categories:\n  - {name: a, synonym: [b]}", "did you mean `synonyms`?"),
        ("categories:\n  - {id: 1}", "has no `name`"),
        ("categories:\n  - {name: a, synonyms: b}", "`synonyms` must be a list"),
        ("categories:\n  - {name: a, synonyms: [1]}", "synonym 1: a name must be a text"),
        ("categories:\n  - {name: a, synonyms: [A]}", "repeats the name"),
        ("categories:\n  - {name: a, prompts: [1]}", "a prompt must be a text"),
        ("categories:\n  - {name: a, prompts: ['a {name}']}", "the field {name}, which nothing"),
        ("categories:\n  - {name: a, prompts: ['a {']}", "can't be filled"),
        ("categories:\n  - {name: a, id: yes}", "`id` must be a whole number or a text"),
        ("categories:\n  - {name: a, id: [1]}", "not a list"),
        ("categories: [cat, Dog, ' dog ']", "'Dog' at category 2 (line 1) and 'dog' at category 3"),
        ("categories: [cat, Background]", "'Background' is label 0 and can only stand first"),
    ],
)
def test_wrong_yaml(tmp_path, content, expected):
    text = failure(write(tmp_path, "v.yaml", content))
    assert expected in text
    assert "v.yaml" in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "has no categories"),
        (b"# nothing\n\n", "has no categories"),
        (b"background\n", "has no categories"),
        (b"cat\ncaf\xe9\n", "line 2: the file is not UTF-8"),
        ("Straße\ncat\nSTRASSE\n".encode(), "'Straße' at line 1 and 'STRASSE' at line 3"),
        ("caf\u00e9\ncafe\u0301\n".encode(), "are the same name"),
        (b"cat\nbackground\n", "line 2: 'background' is label 0"),
        (b"cat\ndog\tcow\n", "line 2: the name 'dog\\tcow' has a line break, a tab"),
    ],
)
def test_wrong_text(tmp_path, content, expected):
    assert expected in failure(write(tmp_path, "v.txt", content))


@pytest.mark.slow
def test_too_many_categories(tmp_path):
    names = [f"n{number}" for number in range(MAX_CATEGORIES + 1)]
    assert len(load_vocabulary(write(tmp_path, "v.txt", "\n".join(names[:-1]))).names) == (
        MAX_CATEGORIES
    )
    assert "65,535 categories" in failure(write(tmp_path, "w.txt", "\n".join(names)))


# --- prompts ------------------------------------------------------------------------------------


def test_templates_are_filled_name_by_name():
    category = Category(name="sofa", synonyms=("couch",))
    assert category_prompts(category, ["a {}.", "the {}, a {}."]) == (
        "a sofa.",
        "the sofa, a sofa.",
        "a couch.",
        "the couch, a couch.",
    )


def test_all_85_templates():
    prompts = category_prompts(Category(name="hot dog"), TEMPLATES)
    assert len(prompts) == 85
    assert prompts[0] == "a bad photo of a hot dog."


def test_own_prompts_replace_templates_and_literal_ones_come_once():
    category = Category(
        name="kite", synonyms=("milan",), prompts=("a {} in flight", "a fork-tailed raptor")
    )
    assert category_prompts(category, TEMPLATES) == (
        "a kite in flight",
        "a fork-tailed raptor",
        "a milan in flight",
    )


def test_braces_in_names_and_doubled_braces_are_literal():
    category = Category(name="{x}", prompts=("a {{}} {}",))
    assert category_prompts(category, ()) == ("a {} {x}",)


@pytest.mark.parametrize("template", ["a {0}.", "a {name}.", "a {!r}.", "a {:>9}.", "a }.", "a."])
def test_wrong_templates(template):
    with pytest.raises(VocabularyError, match="'cat'"):
        category_prompts(Category(name="cat"), [template])


@pytest.mark.parametrize(
    ("file", "content", "place"),
    [
        ("own.txt", "kite\nheart,star\n", "line 2"),
        ("own.txt", "heart; star\n", "line 1"),
        ("own.yaml", "categories:\n  - kite\n  - heart, star\n", "category 2 (line 3)"),
        ("own.yaml", "categories:\n  - name: heart, star\n", "category 1 (line 2)"),
    ],
)
def test_a_line_that_is_a_list_is_refused_with_both_meanings(tmp_path, file, content, place):
    message = failure(write(tmp_path, file, content))
    assert place in message
    assert "a line of its own" in message, "several categories"
    assert "synonyms: [star]" in message, "one category with several names"


def test_a_name_with_a_comma_is_written_in_quotes(tmp_path):
    path = write(tmp_path, "own.yaml", "categories:\n  - \"vase, broken\"\n  - name: 'a; b'\n")
    assert load_vocabulary(path).names == ("vase, broken", "a; b")


# --- what else a category says ------------------------------------------------------------------


def test_what_a_name_does_not_mean_and_what_shows_it(tmp_path):
    content = """
        categories:
          - name: crane
            not: [construction crane, "{tower}"]
            examples: [birds/a.jpg, /data/b.png, "s3://bucket/c.jpg"]
          - name: bat
            examples: [d.jpg]
            name_weight: 0
    """
    crane, bat = load_vocabulary(write(tmp_path, "lists/v.yaml", content)).categories
    assert crane.not_these == ("construction crane", "{tower}")
    beside = tmp_path / "lists"
    assert crane.examples == (str(beside / "birds" / "a.jpg"), "/data/b.png", "s3://bucket/c.jpg")
    assert (crane.name_weight, bat.name_weight) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{name: owl, not: [Owl]}", "'Owl' under `not` is a name of the category itself"),
        ("{name: owl, synonyms: [owlet], not: [owlet]}", "'owlet' under `not` is a name of"),
        ("{name: owl, not: [bat, Bat]}", "'Bat' is there twice under `not`"),
        ("{name: owl, not: bat}", "`not` must be a list, not the text 'bat'"),
        ("{name: owl, not: [7]}", "`not` 1: a name must be a text"),
        ("{name: owl, examples: [7]}", "an example must be the path or the URI of an image"),
        ("{name: owl, examples: a.jpg}", "`examples` must be a list"),
        ("{name: owl, examples: [a.jpg], name_weight: 2}", "a number from 0, examples alone, to 1"),
        ("{name: owl, examples: [a.jpg], name_weight: yes}", "not the truth value true"),
        ("{name: owl, name_weight: 0.2}", "weighs the name against `examples`, and there are none"),
    ],
)
def test_wrong_keys_beside_the_name(tmp_path, entry, expected):
    assert expected in failure(write(tmp_path, "v.yaml", f"categories:\n  - {entry}\n"))
