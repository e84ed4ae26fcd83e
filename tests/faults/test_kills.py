"""SIGKILL at any moment of a build and of the training after it."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fault_builds import Build, Run, Undisturbed, check_nothing_done_twice, published
from fault_servers import PrefectServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

# Shares of all kills: those at a moment of the clock, and those with a Prefect server of their own.
AT_RANDOM_TIMES = 0.25
EMBEDDED = 0.15


@dataclass
class Campaign:
    """Builds that are killed until the required number of kills is reached.

    Attributes:
        killed: number of kills by stage, and under `clock` those at a moment of the clock.
        rounds: number of builds that ran to the end.
    """

    workshop: Path
    server: PrefectServer
    expected: Undisturbed
    dice: random.Random
    killed: Counter[str] = field(default_factory=Counter)
    rounds: int = 0

    def __post_init__(self) -> None:
        events = [event for event in self.expected.run.events() if event["stage"]]
        self.stages = list(dict.fromkeys(event["stage"] for event in events))
        self.counts = Counter((event["stage"], event["kind"]) for event in events)

    def run(self, kills: int) -> None:
        while self.killed.total() < kills:
            self._one_build(min(kills - self.killed.total(), self.dice.randint(3, 6)))

    def _one_build(self, kills: int) -> None:
        """Kill one build that often, in the order of its stages, and then let it run to the end."""
        self.rounds += 1
        store = self.workshop / f"killed-{self.rounds}"
        build = Build(self.workshop, str(store), workers=self.dice.choice([1, 2]))
        chosen = self.dice.choices(self.stages, k=kills)
        moments = [self._draw(stage) for stage in sorted(chosen, key=self.stages.index)]
        runs = []
        for moment in moments:
            embedded = self.dice.random() < EMBEDDED
            build.server, build.forked = (None, False) if embedded else (self.server, True)
            runs.append(self._killed(build, moment))
            if runs[-1].process.returncode == 0:
                break
        build.server, build.forked = self.server, True
        runs.append(build.finish())
        assert published(build.store) == self.expected.content
        check_nothing_done_twice(runs, build.workers)

    def _draw(self, stage: str) -> str:
        """A random event of the stage, uniform over kinds."""
        kind = self.dice.choice(sorted(kind for of, kind in self.counts if of == stage))
        return f"{stage}:{kind}:{self.dice.randint(1, self.counts[stage, kind])}"

    def _killed(self, build: Build, moment: str) -> Run:
        """A run that is killed at an event, or at a random moment unless it ends before."""
        if self.dice.random() < AT_RANDOM_TIMES:
            run = build.start()
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(self.dice.uniform(0.1, 1.0) * self.expected.seconds)
            run.kill()
            where = "clock"
        else:
            run = build.start(moment)
            run.wait()
            where = moment.partition(":")[0]
        if run.process.returncode == -signal.SIGKILL:
            self.killed[where] += 1
        else:
            assert run.process.returncode == 0, run.text()
        assert run.survivors() == []
        return run


def test_killed_anywhere_and_run_again_gives_the_same_bytes(
    workshop: Path,
    prefect_server: PrefectServer,
    undisturbed: Undisturbed,
    faults: int,
    fault_seed: int,
    record_property: Callable[[str, object], None],
):
    campaign = Campaign(workshop, prefect_server, undisturbed, random.Random(fault_seed))
    campaign.run(faults)
    print(
        f"seed {fault_seed}: {campaign.killed.total()} kills in {campaign.rounds} builds: "
        f"{dict(campaign.killed)}"
    )
    record_property("kills", dict(campaign.killed))
    assert campaign.killed.total() >= faults
