import io
import math

import pytest
import torch

from zutis_model.training.poly_schedule import PolySchedule, poly_learning_rate


@pytest.fixture
def expected(parity_json):
    return parity_json("metrics")["poly_lr"]


def make_optimiser(bases=(5e-6, 5e-5)):
    groups = [{"params": [torch.nn.Parameter(torch.ones(3))], "lr": base} for base in bases]
    return torch.optim.AdamW(groups, weight_decay=0.05)


def rates(optimiser):
    return [group["lr"] for group in optimiser.param_groups]


def train(optimiser, schedule, steps):
    """Steps on a loss that changes; rates and parameters after each."""
    history = []
    for _ in range(steps):
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        optimiser.zero_grad()
        sum(((i + 1) * p**2).sum() for i, p in enumerate(parameters)).backward()
        optimiser.step()
        schedule.step()
        history.append((rates(optimiser), [p.tolist() for p in parameters]))
    return history


def test_rates_agree_with_the_reference(expected):
    for max_steps, rows in expected["by_max_iters"].items():
        for step, *group_rates in rows:
            for base, rate in zip(expected["base_lrs"], group_rates, strict=True):
                actual = poly_learning_rate(step, int(max_steps), base)
                assert actual == pytest.approx(rate, rel=1e-12, abs=0)


@pytest.mark.parametrize("max_steps", ["100", "20000"])
def test_schedule_agrees_with_the_reference(max_steps, expected):
    rows = {step: group_rates for step, *group_rates in expected["by_max_iters"][max_steps]}
    optimiser = make_optimiser(expected["base_lrs"])
    schedule = PolySchedule(optimiser, int(max_steps))
    compared = 0
    for step in range(int(max_steps) + 1):
        if step in rows:
            assert rates(optimiser) == pytest.approx(rows[step], rel=1e-12, abs=0)
            compared += 1
        optimiser.step()
        schedule.step()
    assert compared == len(rows)


def test_beyond_the_end_it_stays_at_the_floor():
    for step in (100, 101, 1_000_000):
        rate = poly_learning_rate(step, 100, 5e-5)
        assert type(rate) is float
        assert rate == 1e-6
    optimiser = make_optimiser()
    schedule = PolySchedule(optimiser, 3)
    for _ in range(6):
        optimiser.step()
        schedule.step()
    assert rates(optimiser) == pytest.approx([1e-6, 1e-6], rel=1e-12, abs=0)


def test_parameters():
    assert poly_learning_rate(5, 10, 8.0, power=2.0, minimum=0.0) == 2.0
    assert poly_learning_rate(10, 10, 8.0, minimum=0.0) == 0.0
    assert poly_learning_rate(0, 10, 8.0) == 8.0
    # Below the floor from the start, as in the reference.
    assert poly_learning_rate(0, 10, 1e-7) == 1e-6
    optimiser = make_optimiser()
    PolySchedule(optimiser, 10, minimum=1e-5)
    assert rates(optimiser) == pytest.approx([1e-5, 5e-5], rel=1e-12, abs=0)


def resume_schedule_first(optimiser, optimiser_state, schedule_state):
    schedule = PolySchedule(optimiser, 20)
    schedule.load_state_dict(schedule_state)
    optimiser.load_state_dict(optimiser_state)
    return schedule


def resume_optimiser_first(optimiser, optimiser_state, schedule_state):
    schedule = PolySchedule(optimiser, 20)
    optimiser.load_state_dict(optimiser_state)
    schedule.load_state_dict(schedule_state)
    return schedule


def make_schedule_for_resumed_optimiser(optimiser, optimiser_state, schedule_state):
    optimiser.load_state_dict(optimiser_state)
    schedule = PolySchedule(optimiser, 20)
    schedule.load_state_dict(schedule_state)
    return schedule


@pytest.mark.parametrize(
    "resume",
    [resume_schedule_first, resume_optimiser_first, make_schedule_for_resumed_optimiser],
)
@pytest.mark.parametrize("done", [0, 7, 25])
def test_resume_is_exact(resume, done):
    optimiser = make_optimiser()
    schedule = PolySchedule(optimiser, 20)
    train(optimiser, schedule, done)
    file = io.BytesIO()
    parameters = [group["params"][0].detach().clone() for group in optimiser.param_groups]
    torch.save([optimiser.state_dict(), schedule.state_dict(), parameters], file)
    expected = (rates(optimiser), train(optimiser, schedule, 10))

    file.seek(0)
    optimiser_state, schedule_state, parameters = torch.load(file, weights_only=True)
    resumed = make_optimiser()
    for group, values in zip(resumed.param_groups, parameters, strict=True):
        group["params"][0].data.copy_(values)
    resumed_schedule = resume(resumed, optimiser_state, schedule_state)

    assert (rates(resumed), train(resumed, resumed_schedule, 10)) == expected
    assert resumed_schedule.last_epoch == done + 10


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"step": -1}, "step"),
        ({"max_steps": 0}, "max_steps"),
        ({"base": 0.0}, "base"),
        ({"base": math.nan}, "base"),
        ({"power": 0.0}, "power"),
        ({"minimum": -1e-6}, "minimum"),
        ({"minimum": math.nan}, "minimum"),
    ],
)
def test_wrong_arguments_are_refused(arguments, name):
    arguments = {"step": 1, "max_steps": 10, "base": 1e-3} | arguments
    with pytest.raises(ValueError, match=f"^{name} must be"):
        poly_learning_rate(**arguments)
    if name in ("max_steps", "power", "minimum"):
        del arguments["step"], arguments["base"]
        with pytest.raises(ValueError, match=f"^{name} must be"):
            PolySchedule(make_optimiser(), **arguments)


def test_group_without_a_rate_is_refused():
    # The floor would train what was meant to be frozen.
    with pytest.raises(ValueError, match="group 1 must be above 0"):
        PolySchedule(make_optimiser((5e-5, 0.0)), 10)
