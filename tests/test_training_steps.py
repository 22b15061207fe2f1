"""Ten supervised and six distillation steps from known weights and inputs, against the authors' recorded ones."""

from __future__ import annotations

import numpy as np
from golden_models import golden_model

from kdscfnet.optim import build_optimizer
from kdscfnet.selfcheck import checks, goldens
from kdscfnet.selfcheck.report import PASS


def test_steps_are_the_authors_and_selfcheck_says_so(monkeypatch):
    """On a CPU they agree more closely than the tolerance that selfcheck allows another device."""
    made, runs, train = goldens.Goldens(), {}, goldens.training
    monkeypatch.setattr(goldens, "training", lambda made, name: runs.setdefault(name, train(made, name)))
    rows = list(checks.training_steps(made, "float32"))
    assert len(rows) == 10 + 1 + 6 + 1 and {row.verdict for row in rows} == {PASS}
    for name, steps in (("train_fs", 10), ("train_kd", 6)):
        recorded, (losses, after) = made.train[name], runs[name]
        assert len(recorded["losses"]) == len(losses) == steps
        assert np.abs(losses - recorded["losses"]).max() <= 1e-6
        assert recorded["after"] and after.keys() == recorded["after"].keys()
        for key, (mean, norm) in recorded["after"].items():
            assert abs(after[key][0] - mean) <= 1e-6, key
            assert abs(after[key][1] - norm) <= 1e-6 * max(1, norm), key


def test_backbone_learns_at_a_tenth_and_its_batchnorm_is_not_decayed():
    model = golden_model("M3_0.5")
    optimizer = build_optimizer(model, 0.5, momentum=0.0, weight_decay=0.1)
    before = {k: v.numpy().copy() for k, v in model.named_parameters()}
    sum(
        (p * 0).sum() for p in model.parameters() if not p.stop_gradient
    ).backward()  # zero gradients: what is left is the decay
    optimizer.step()
    for name, value in model.named_parameters():
        if value.stop_gradient:  # BatchNorm statistics, which Paddle counts among the parameters
            expected = before[name]
        elif name.startswith("bkbone"):
            decayed = ".bn." not in name
            expected = before[name] * (1 - 0.1 * 0.5 * 0.1) if decayed else before[name]
        else:
            expected = before[name] * (1 - 0.5 * 0.1)
        away = np.abs(value.numpy() - expected)
        assert (away <= np.maximum(1e-5 * np.abs(expected), 1e-7)).all(), name
