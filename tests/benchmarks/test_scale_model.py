from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.scale_model import (
    Assumptions,
    Measured,
    cost,
    measured,
    parts_of,
    simulate,
    table,
)

KNOWN = Measured(
    embed=0.1,
    mask=5.0,
    serial=1e-5,
    rescan=1e-6,
    record_memory=800,
    base_memory=8e8,
    record_bytes=100,
)


def test_parts_are_as_the_stages_cut_them():
    assert parts_of("embed_images", 1_000) == 1
    assert parts_of("embed_images", 10**6) == 977
    assert parts_of("embed_images", 10**8) == 1_000
    assert parts_of("make_masks", 40_000) == 313


def test_workers_that_never_die_share_the_parts():
    assert simulate(10, 5.0, 4, 1e12, seed=0) == (15.0, 0.0)
    assert simulate(3, 5.0, 100, 1e12, seed=0) == (5.0, 0.0)


def test_dying_workers_lose_their_current_part_only():
    took, lost = simulate(200, 100.0, 8, 1_000.0, seed=1)
    assert 0 < lost < 0.2 * 200 * 100.0
    assert took >= (200 * 100.0 + lost) / 8
    assert simulate(200, 100.0, 8, 1_000.0, seed=1) == (took, lost)


def test_masks_cost_by_the_vocabulary_and_embeddings_by_the_corpus():
    assumed = Assumptions(cpu_workers=1, hours_between_failures=1e9)
    one, ten = (cost(n, KNOWN, assumed) for n in (10**6, 10**7))
    assert one.masked == ten.masked == 40_000
    assert ten.worker_seconds - one.worker_seconds == pytest.approx(9e6 * 0.1)
    assert one.worker_seconds == pytest.approx(1e6 * 0.1 + 40_000 * 5.0)
    assert cost(10**6, KNOWN, replace(assumed, categories=160)).masked == 80_000


def test_gpus_are_counted_with_their_own_rates():
    assumed = Assumptions(
        gpu_workers=1, gpu_embed=1_000.0, gpu_mask=10.0, hours_between_failures=1e9
    )
    assert cost(10**6, KNOWN, assumed, gpu=True).worker_seconds == pytest.approx(5_000)


def test_the_inputs_are_in_the_results_and_fit_a_table():
    known = measured()
    assert 0 < known.embed < known.mask
    assert 50 < known.record_bytes < 1_000
    lines = table([cost(10**6, known, Assumptions())], Assumptions()).splitlines()
    assert {line.count("|") for line in lines} == {3}
