"""What goes wrong in the middle of a training, and what a run says and leaves then."""

from __future__ import annotations

import numpy as np
import pytest
from training import make_set, run_small

from kdscfnet.engine import steps


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("finished") / "run"
    assert run_small(data, output, "--epochs", "1") == 0
    return output


def said(capsys):
    """The lines that a run ended with."""
    error = capsys.readouterr().err.replace("\r", "\n")
    assert "Traceback" not in error
    return [line for line in error.splitlines() if line.startswith("kdscfnet train:")]


def test_a_teacher_of_one_size_draws_the_boards_pictures_at_that_size(finished, data, tmp_path, monkeypatch):
    class OneSize:
        """Stands in for an exported Swin-B, which takes minutes to make."""

        size, seen = (64, 64), []

        def __call__(self, images):
            assert images.shape[2:] == self.size
            self.seen.append(len(images))
            return np.zeros((len(images), 1) + self.size, np.float32)

    monkeypatch.setattr(steps, "_onnx_network", lambda *_, **__: OneSize())
    words = ["--teacher", "mobilenetv3", "--teacher-weights", finished / "final.pdparams", "--epochs", "1"]
    words += ["--sizes", "64", "--test-size", "96"]
    assert run_small(data, tmp_path / "run", *words, recipe="kd-stb") == 0
    assert OneSize.seen[-4:] == [1, 1, 1, 1]  # the pictures, one by one
