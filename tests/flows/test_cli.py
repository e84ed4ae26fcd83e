"""The command line for users: mistakes give one sentence and exit code 2."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from flows.cli import exit_code_of, run_command_line
from storage.errors.exceptions import ConfigError

TRIAL = ["--clip", "made-ViT-8:random:0", "--selfmask", "random:0"]


def run(*arguments: str) -> int:
    return exit_code_of(lambda: run_command_line(list(arguments)))


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The text on standard error: one line, no traceback."""
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


@pytest.fixture
def build(tmp_path: Path, corpus: Path, vocabulary: Path):
    """Run `zutis build` on the images, with options put last so that they win."""

    def call(*options: str) -> int:
        arguments = ["--corpus", str(corpus), "--vocabulary", str(vocabulary), *TRIAL]
        return run("build", *arguments, "--store", str(tmp_path / "store"), *options)

    return call


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--overlap", "worst"], "choose best, all or last."),
        (["--overlap", "bets"], "choose best, all or last; did you mean best?"),
        (["--per-categry", "5"], "Did you mean --per-category?"),
        (["--mask-size", "3"], "mask_size is 3"),
        (["--refine-input", "tensor"], "choose original or reference"),
        (["--per-category", "0"], "per_category is '0': choose 1 to"),
        (["--precision", "float8"], "float8"),
        (["--device", "tpu"], "tpu"),
        (["--index-search", "nprobe=2"], "exact index takes no search parameters"),
        (["--unusual-images", "paint"], "convert or reject"),
        (["--shard-mb", "0"], "shard_mb"),
        (["--part-images", "-1"], "part_images is -1"),
        (["--mask-part-images", "-1"], "mask_part_images is -1"),
        (["--workers", "0"], "workers is 0"),
        (["--name", "a/b"], "letters, digits"),
        (["--clip", "ViT-B-33:openai"], "ViT-B-32"),
        (["--clip", "ViT-B-32-quickgelu:openai"], "zutis weights fetch"),
        (["--selfmask", "nq20"], "selfmask_nq20.pt"),
        (["--selfmask", "nothing.pt"], "nothing.pt"),
        (["--vocabulary", "cocoo"], "coco"),
        (["--runner", "slurm"], "threads or ray"),
        (["--store", ""], "The store has no name"),
        (["--store", "s3://key:geheim@bucket/store"], "carries a password"),
        (["--corpus", "https://host/a.tar?sig=geheim"], "signed"),
    ],
)
def test_a_wrong_setting_is_one_sentence(build, options, words, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(tmp_path / "weights"))
    assert build(*options) == 2
    said = sentence(capsys)
    assert words in said
    assert "geheim" not in said
    assert not (tmp_path / "store").exists(), "nothing may be written before settings are checked"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("red\nred\n", "same name"),
        ("red\n \ngreen\nRed\n", "same name"),
        ("", "no categor"),
        ("categories: [red, ''", "not valid YAML"),
        ("categories:\n- ''\n", "empty"),
    ],
)
def test_a_wrong_vocabulary_is_one_sentence(build, content, words, capsys, tmp_path):
    path = tmp_path / ("v.yaml" if "categories" in content else "v.txt")
    path.write_text(content)
    assert build("--vocabulary", str(path)) == 2
    assert words in sentence(capsys)


def test_a_missing_corpus_is_one_sentence(build, capsys, tmp_path):
    assert build("--corpus", str(tmp_path / "nowhere")) == 2
    assert "does not exist" in sentence(capsys)


def test_an_empty_corpus_is_one_sentence(capsys, vocabulary, tmp_path):
    (tmp_path / "empty").mkdir()
    store = ["--store", str(tmp_path / "store")]
    corpus = ["--corpus", str(tmp_path / "empty")]
    assert run("build", *corpus, "--vocabulary", str(vocabulary), *TRIAL, *store) == 2
    assert "holds no image" in sentence(capsys)


def test_an_unknown_option_is_exit_code_2(capsys):
    assert run("build", "--bogus") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_search_without_a_build_says_what_to_do(capsys, tmp_path):
    assert run("search", "a red kite", "--store", str(tmp_path)) == 2
    assert "zutis build" in sentence(capsys)


def test_a_defect_of_ours_is_not_hidden():
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        exit_code_of(broken)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("A sentence [with brackets]."), 2),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 2),
        (KeyboardInterrupt(), 130),
        (SystemExit(3), 3),
    ],
)
def test_exit_codes(error, code, capsys):
    def command() -> None:
        raise error

    assert exit_code_of(command) == code
    if isinstance(error, ConfigError):
        assert capsys.readouterr().err == "Error: A sentence [with brackets].\n"


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "PREFECT_API_AUTH_STRING"), (403, "PREFECT_API_AUTH_STRING"), (503, "answered 503")],
)
def test_a_prefect_server_that_refuses_is_one_sentence(status, words, capsys):
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    def refused() -> None:
        request = httpx.Request("GET", "http://127.0.0.1:4200/api/flows")
        response = httpx.Response(status, request=request)
        raise PrefectHTTPStatusError("no", request=request, response=response)

    assert exit_code_of(refused) == 2
    said = sentence(capsys)
    assert words in said
    assert "http://127.0.0.1:4200" in said


def test_every_option_of_the_command_is_a_parameter_of_the_flow():
    import inspect

    from flows.build_pseudolabels import build_pseudolabels
    from flows.commands.build import build_command

    command = dict(inspect.signature(build_command).parameters)
    flow = inspect.signature(build_pseudolabels.fn).parameters
    assert command.keys() - flow.keys() == {"config", "set"}
    assert flow.keys() <= command.keys()


def test_training_without_a_data_set_asks_for_that_and_for_no_weights(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(tmp_path / "weights"))
    assert run("train", "--store", str(tmp_path / "none")) == 2
    assert "There is no data set in" in sentence(capsys)


@pytest.mark.parametrize("option", ["--min-score", "--min-probability", "--min-margin"])
def test_thresholds_are_checked_before_anything_is_read(build, option, capsys, tmp_path):
    assert build(option, "1.5") == 2
    assert option.removeprefix("--").replace("-", "_") in sentence(capsys)
    assert not (tmp_path / "store").exists()
