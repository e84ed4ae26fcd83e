"""The training loop: any interruption and resumption gives the result of an undisturbed run."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from storage.artifacts.store import ArtifactStore
from storage.errors.exceptions import ArtifactError, ConfigError, ZutisError
from tasks.training.batches import batches_from
from tasks.training.loop import LoopSettings
from tasks.training.processes import Processes
from tasks.training.state import TrainingStates
from tests.support.processes.nursery import run_zutis
from tests.support.runs import small_training
from tests.support.runs.small_training import REF, CountingProgress, batch_of, small_trainer, train
from tests.support.runs.training_samples import Samples

pytestmark = pytest.mark.slow


def weights_of(trainer):
    return {name: value.clone() for name, value in trainer.network.state_dict().items()}


def assert_equal(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Weights and table of a run without interruption."""
    store = ArtifactStore(str(tmp_path_factory.mktemp("undisturbed")))
    trainer = small_trainer()
    training_log = train(store, trainer)
    return weights_of(trainer), training_log.csv()


def test_the_table_has_rows_of_scalars(undisturbed):
    rows = list(csv.DictReader(undisturbed[1].decode().splitlines()))
    assert [row["step"] for row in rows] == ["4", "6"]
    assert all(float(row["loss"]) > 0 for row in rows)
    assert 0 <= float(rows[1]["mean_iou"]) <= float(rows[1]["pixel_accuracy"]) <= 1
    assert float(rows[0]["learning_rate"]) == pytest.approx(5e-5 * 0.5**0.9, rel=1e-5)


def test_the_number_of_workers_changes_nothing(store, undisturbed):
    trainer = small_trainer()
    training_log = train(store, trainer, workers=2)
    assert_equal(weights_of(trainer), undisturbed[0])
    assert training_log.csv() == undisturbed[1]


@pytest.mark.parametrize("step", [1, 4, 5])
def test_a_run_that_broke_goes_on_exactly(store, undisturbed, step):
    def fail(steps: int) -> None:
        if steps == step:
            raise OSError("the machine went away")

    with pytest.raises(OSError, match="went away"):
        train(store, small_trainer(), progress=CountingProgress(fail))
    kept = TrainingStates(store, REF).steps()
    assert max(kept, default=0) == {1: 0, 4: 2, 5: 4}[step]
    trainer, progress = small_trainer(), CountingProgress()
    training_log = train(store, trainer, progress=progress)
    assert progress.steps == 6
    assert_equal(weights_of(trainer), undisturbed[0])
    assert training_log.csv() == undisturbed[1]


def test_sigterm_ends_the_iteration_and_keeps_it(store, undisturbed):
    def terminate(steps: int) -> None:
        if steps == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZutisError, match="after iteration 3 of 6; the same command goes on"):
        train(store, small_trainer(), progress=CountingProgress(terminate))
    assert signal.getsignal(signal.SIGTERM) == before
    assert TrainingStates(store, REF).steps() == [2, 3]
    trainer = small_trainer()
    train(store, trainer)
    assert_equal(weights_of(trainer), undisturbed[0])


def test_it_runs_in_a_thread_that_gets_no_signals(store, undisturbed):
    trainer = small_trainer()
    thread = threading.Thread(target=train, args=(store, trainer))
    thread.start()
    thread.join()
    assert_equal(weights_of(trainer), undisturbed[0])


def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint(store):
    trainer = small_trainer()
    with pytest.raises(ZutisError) as caught:
        train(store, trainer, Samples(not_a_number=7))
    text = str(caught.value)
    assert "diverged at iteration 4: the loss is nan" in text
    assert "the checkpoint after iteration 2 is kept" in text
    assert "\n" not in text
    state = TrainingStates(store, REF).latest()
    assert state["step"] == 2
    assert all(value.isfinite().all() for value in state["trainer"]["network"].values())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_sample_is_named_and_nothing_is_lost(store, undisturbed, workers):
    with pytest.raises(ArtifactError) as caught:
        train(store, small_trainer(), Samples(damaged=7), workers=workers)
    assert str(caught.value) == "Sample 7 is damaged."
    assert TrainingStates(store, REF).steps() == [2, 3]
    trainer = small_trainer()
    train(store, trainer)
    assert_equal(weights_of(trainer), undisturbed[0])


def test_a_killed_worker_is_one_sentence(store):
    with pytest.raises(ZutisError, match="that makes training samples has died") as one:
        train(store, small_trainer(), Samples(deadly=9), workers=1)
    assert str(one.value).endswith(
        "the same command goes on from the checkpoint after iteration 2."
    )


def test_a_worker_that_is_killed_at_once_leaves_no_checkpoint_to_name(store):
    with pytest.raises(ZutisError, match=r"workers=0; there is no checkpoint yet\.$"):
        train(store, small_trainer(), Samples(deadly=1), workers=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_do_as_sigterm(store, undisturbed, number):
    def interrupt(steps: int) -> None:
        if steps == 3:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(ZutisError, match="after iteration 3 of 6; the same command goes on"):
        train(store, small_trainer(), progress=CountingProgress(interrupt))
    assert signal.getsignal(number) == before
    assert TrainingStates(store, REF).steps() == [2, 3]


def test_a_second_ctrl_c_has_its_former_effect(store):
    def insist(steps: int) -> None:
        if steps == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(store, small_trainer(), progress=CountingProgress(insist))
    assert TrainingStates(store, REF).steps() == [2]


def test_a_full_gpu_is_remembered_by_the_checkpoint(store):
    trainer = small_trainer(micro_batch=1)
    trainer.step(batch_of(0, 1))
    resumed = small_trainer()
    assert resumed.micro_batch == 2
    resumed.load_state_dict(trainer.state_dict())
    assert resumed.micro_batch == 1


def test_batches_have_the_samples_of_their_iteration():
    settings = {"iterations": 5, "batch_size": 4, "workers": 0}
    numbers = [
        list(batches_from(range(20), list, first_iteration=3, processes=p, **settings))
        for p in (Processes(), Processes(0, 3), Processes(1, 3), Processes(2, 3))
    ]
    assert numbers[0] == [[12, 13, 14, 15], [16, 17, 18, 19]]
    assert [[*a, *b, *c] for a, b, c in zip(*numbers[1:], strict=True)] == numbers[0]


def test_torchs_random_state_does_not_tell_how_often_a_run_was_resumed(store):
    before = torch.get_rng_state()
    train(store, small_trainer(), workers=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_checkpoints_have_an_interval():
    with pytest.raises(ConfigError, match="checkpoint_every is 0"):
        LoopSettings(iterations=1, checkpoint_every=0)


# --- real processes -----------------------------------------------------------------------------


ROOT = Path(__file__).parents[3]
PROGRAM = Path(small_training.__file__)
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run_process(folder: Path, *options: str) -> subprocess.CompletedProcess:
    folder.mkdir(exist_ok=True)
    return run_zutis(
        [str(folder), *options], ROOT, os.environ | ENVIRONMENT,
        timeout=200, code="from tests.support.runs.small_training import main; main()",
    )  # fmt: skip


def run_processes(folder: Path, processes: int) -> subprocess.CompletedProcess:
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [sys.executable, "-m", *launcher, str(PROGRAM), str(folder)],
        cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a process without interruption."""
    folder = tmp_path_factory.mktemp("finished")
    done = run_process(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--signal", "SIGKILL", "--at-step", "3", "--workers", "1"], 2),
        (["--while-saving", "2"], 2),
    ],
)
def test_a_process_killed_and_run_again_ends_with_the_same_bytes(tmp_path, finished, options, kept):
    killed = run_process(tmp_path, *options)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "weights.pt").exists()
    steps = TrainingStates(ArtifactStore(str(tmp_path)), REF).steps()
    assert max(steps, default=0) == kept
    again = run_process(tmp_path)
    assert again.returncode == 0, again.stderr
    for name in ("weights.pt", "training.csv"):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes(), name


def test_two_processes_train_as_one(tmp_path, finished):
    done = run_processes(tmp_path, 2)
    assert done.returncode == 0, done.stderr
    together, _ = torch.load(tmp_path / "weights.pt")
    alone, _ = torch.load(finished / "weights.pt")
    for name, value in alone.items():
        assert (together[name] - value).abs().mean().item() < 1e-6, name
    tables = [
        list(csv.DictReader((folder / "training.csv").read_text().splitlines()))
        for folder in (tmp_path, finished)
    ]
    for row, expected in zip(*tables, strict=True):
        for name in ("loss", "ce_loss", "mask_loss", "gradient_norm"):
            assert float(row[name]) == pytest.approx(float(expected[name]), rel=1e-3), name
