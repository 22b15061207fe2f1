"""The learning rate against the authors' recorded one."""

from __future__ import annotations

import json

import pytest

from kdscfnet.schedule import learning_rate, steps_per_epoch


@pytest.mark.parametrize("name,images", [("lr_fs", 10_553), ("lr_kd", 80_000)])
def test_equals_the_recorded_rates(name, images, golden):
    recorded = json.loads((golden / "train.json").read_text())[name]
    assert steps_per_epoch(images, 128) == recorded["steps_per_epoch"]
    assert steps_per_epoch(images, 128) * 69 == recorded["total"]
    assert len(recorded["lr"]) >= 60
    for step, rate in recorded["lr"].items():
        assert abs(learning_rate(int(step), images, 128) - rate) <= 1e-9, step


def test_any_length_starts_low_peaks_and_ends_low():
    for images, batch, epochs, warmup in [(7, 8, 3, 1), (100, 8, 10, 2), (64, 64, 2, 0), (1, 1, 1, 0)]:
        steps = steps_per_epoch(images, batch) * epochs
        rates = [learning_rate(s, images, batch, epochs, warmup, 0.1, 0.001) for s in range(steps + 50)]
        assert all(0.001 - 1e-12 <= r <= 0.1 + 1e-12 for r in rates)
        assert rates[-1] == pytest.approx(0.001)
        top = rates.index(max(rates))
        assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)
