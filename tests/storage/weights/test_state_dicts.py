"""Reading files of weights: torch's and safetensors', damaged ones, and code in a pickle."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from storage.access.roots import ROOTS_VARIABLE, OutsideRootsError, as_setting
from storage.errors.exceptions import WeightsError
from storage.weights import state_dicts
from storage.weights.state_dicts import load_state_dict

TENSORS = {"a.weight": torch.arange(4.0), "b": torch.ones(2, 2, dtype=torch.float16)}


def same(loaded: dict[str, torch.Tensor]) -> bool:
    return loaded.keys() == TENSORS.keys() and all(
        torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype
        for name, tensor in TENSORS.items()
    )


@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        {"state_dict": TENSORS, "epoch": 3},
        {"model": TENSORS},
        {"state_dict": {f"module.{name}": tensor for name, tensor in TENSORS.items()}},
    ],
)
@pytest.mark.parametrize("as_zip", [True, False])
def test_files_of_torch_save_are_read(tmp_path, content, as_zip):
    path = tmp_path / "w.pt"
    torch.save(content, path, _use_new_zipfile_serialization=as_zip)
    assert same(load_state_dict(path))


def test_read_safetensors(tmp_path):
    save_file(TENSORS, tmp_path / "w.safetensors")
    assert same(load_state_dict(tmp_path / "w.safetensors"))


def test_module_is_kept_where_not_every_name_has_it(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "w.pt")
    assert set(load_state_dict(tmp_path / "w.pt")) == {"module.a", "b"}


def test_torchscript_is_refused(tmp_path):
    traced = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    torch.jit.save(traced, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="TorchScript archive"):
        load_state_dict(tmp_path / "w.pt")


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("bare", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, bare):
    path, marker = tmp_path / "w.pt", tmp_path / "ran"
    if bare:
        path.write_bytes(pickle.dumps({"a": Bomb(marker)}))
    else:
        torch.save({"a": Bomb(marker)}, path)
    with pytest.raises(WeightsError, match="could run code"):
        load_state_dict(path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_files(tmp_path, name, share):
    path = tmp_path / name
    if name == "w.pt":
        torch.save({"a": torch.ones(1000)}, path)
    else:
        save_file({"a": torch.ones(1000)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match="download it again"):
        load_state_dict(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, "holds no state dict"),
        ([torch.ones(1)], "holds no state dict"),
        ({"a": torch.ones(1), "epoch": 3}, "'epoch' is a int, not a tensor"),
    ],
)
def test_no_state_dict(tmp_path, content, expected):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=expected):
        load_state_dict(tmp_path / "w.pt")


def test_no_file(tmp_path):
    with pytest.raises(WeightsError, match="no weights file"):
        load_state_dict(tmp_path / "w.pt")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no way to an open file by a path")
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_with_roots_weights_are_read_from_the_file_that_was_looked_at(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A link that is exchanged after the check is not followed to its new target."""
    folders = {name: tmp_path / name for name in ("inside", "outside")}
    for number, folder in enumerate(folders.values()):
        folder.mkdir()
        state = {"a": torch.full((2,), float(number))}
        if suffix == ".pt":
            torch.save(state, folder / f"a{suffix}")
        else:
            save_file(state, folder / f"a{suffix}")
    link = folders["inside"] / f"link{suffix}"
    link.symlink_to(f"a{suffix}")
    monkeypatch.setenv(ROOTS_VARIABLE, as_setting([str(folders["inside"])]))
    look = state_dicts._is_safetensors

    def exchanged(path: Path) -> bool:
        link.unlink()
        link.symlink_to(folders["outside"] / f"a{suffix}")
        return look(path)

    monkeypatch.setattr(state_dicts, "_is_safetensors", exchanged)
    assert load_state_dict(link)["a"].tolist() == [0.0, 0.0]
    with pytest.raises(OutsideRootsError):
        load_state_dict(link)
