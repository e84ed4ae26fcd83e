"""A GPU that can't be used gives one sentence before any work, in every command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import exit_code_of
from flows.settings import devices
from flows.settings.devices import choose_device, require_device
from flows.settings.options import changed
from storage.artifacts.store import ArtifactStore
from storage.errors.exceptions import ConfigError
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import build_here, settings_of, write_vocabulary


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the device file of a GPU."""
    monkeypatch.setattr(devices, "_has_device_file", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_device_file", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    "name", ["gpu", "mps", "cuda:", "cuda:x", "cuda:-1", "cuda:99999999999999999999", "", "cuda0"]
)
def test_names_that_are_none(name):
    with pytest.raises(ConfigError, match="choose auto, cpu, cuda or cuda:N"):
        choose_device(name)


def test_a_machine_without_gpu_says_so_and_asks_no_torch(no_gpu):
    with pytest.raises(ConfigError, match="cuda:1 and can't be used: this machine has no GPU"):
        require_device("cuda:1")
    for fine in ("auto", "cpu"):
        require_device(fine)
    code = (
        "import sys\nfrom flows.settings import devices\ndevices._has_device_file = lambda: False\n"
        "try:\n    devices.require_device('cuda')\nexcept Exception as error:\n    print(error)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "can't be used" in done.stdout


def test_hidden_gpus(gpu, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES hides"):
        require_device("cuda")


def test_a_driver_that_torch_refuses_is_told_with_its_reason(gpu, monkeypatch):
    import torch

    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 1).\nMore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(ConfigError, match=r"driver on your system is too old \(found version 1\)"):
        require_device("cuda")


def test_a_number_out_of_range(gpu, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    require_device("cuda:1")
    with pytest.raises(ConfigError, match="cuda:2 and can't be used: torch finds 2 here"):
        require_device("cuda:2")


@pytest.mark.parametrize(
    "command",
    ["build", "search", "predict", "selfmask", "train", "evaluate", "demo", "demo-train clip",
     "demo-train selfmask"],
)  # fmt: skip
def test_every_command_says_it_in_one_line(command, no_gpu, tmp_path, monkeypatch, capsys):
    from flows.cli import run_command_line

    write_corpus(tmp_path / "photos", ["red"], each=2)
    write_vocabulary(tmp_path / "v.txt", ["red"])
    photos, vocabulary = str(tmp_path / "photos"), str(tmp_path / "v.txt")
    out = str(tmp_path / "out.safetensors")
    model = "made-ViT-8:random:0"
    given = {
        "build": ["--corpus", photos, "--vocabulary", vocabulary, "--clip", model,
                  "--selfmask", "random:0"],
        "search": ["red"],
        "predict": [photos, "--checkpoint", model, "--categories", "red", "--out", out],
        "selfmask": ["train", "--corpus", photos, "--features", model, "--out", out],
        "train": ["--clip", model],
        "evaluate": ["--on", f"folder:{photos}+{photos}", "--checkpoint", model],
        "demo": ["--quick", "--folder", out],
        "demo-train clip": ["--out", out],
        "demo-train selfmask": ["--out", out],
    }[command]  # fmt: skip
    if command in ("train", "evaluate"):
        from flows.commands import evaluate, train

        monkeypatch.setattr(train, "_find", lambda *_: None)
        monkeypatch.setattr(evaluate, "_find", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    arguments = [*command.split(), *given, "--device", "cuda"]
    assert exit_code_of(lambda: run_command_line(arguments)) == 2
    printed = capsys.readouterr()
    assert "pictures" not in printed.out, "nothing is made or read before"
    told = " ".join(printed.err.split())
    assert "device is cuda and can't be used" in told
    assert "Traceback" not in told
    assert not Path(out).exists()


def test_stages_that_are_cached_need_no_gpu_and_others_say_so_before_they_begin(
    no_gpu, tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
):
    write_corpus(tmp_path / "photos", ["red", "blue"], each=3)
    vocabulary = write_vocabulary(tmp_path / "v.txt", ["red", "blue"])
    settings = settings_of(tmp_path / "photos", vocabulary, tmp_path / "s", precision="float32")

    with pytest.raises(ConfigError, match="can't be used"):
        build_here(changed(settings, device="cuda"))
    assert not ArtifactStore(settings.store).published("embed_images")
    made = build_here(settings)
    assert build_here(changed(settings, device="cuda")).dataset.key == made.dataset.key
