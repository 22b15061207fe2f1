"""--precise-bn: BatchNorm's statistics over training images as they are tested; what training computes stays."""

from __future__ import annotations

import numpy as np
import paddle
from training import losses_of, newest_state, run_small

from kdscfnet.data.find import find_image_set
from kdscfnet.images import read_image
from kdscfnet.processing import prepare_image
from kdscfnet.training.precise_bn import estimate_statistics


def test_mean_and_variance_are_those_of_all_images(data):
    images = find_image_set(data).images
    model = paddle.nn.Sequential(paddle.nn.BatchNorm2D(3), paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4))
    model.eval()
    before = {key: value.numpy().copy() for key, value in model.state_dict().items()}
    estimate_statistics(model, images, 6, (32, 48), 3)
    chosen = [images[i * 8 // 6] for i in range(6)]
    inputs = np.stack([prepare_image(read_image(path), (32, 48)) for path in chosen]).astype(np.float64)
    np.testing.assert_allclose(model[0]._mean.numpy(), inputs.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model[0]._variance.numpy(), inputs.var(axis=(0, 2, 3)), rtol=1e-4)
    assert not model.training and model[0]._momentum == model[2]._momentum == 0.9
    after = model.state_dict()
    for key, value in before.items():
        same = np.array_equal(value, after[key].numpy())
        assert same != (key.endswith("_mean") or key.endswith("_variance")), key


def test_training_goes_on_as_it_would_have(data, tmp_path):
    assert run_small(data, tmp_path / "plain", "--val", data) == 0
    assert run_small(data, tmp_path / "precise", "--val", data, "--precise-bn", "6") == 0
    assert losses_of(tmp_path / "plain") == losses_of(tmp_path / "precise")
    plain, precise = (newest_state(tmp_path / name)["model"] for name in ("plain", "precise"))
    for key, value in plain.items():
        same = np.array_equal(value, precise[key])
        assert same != (key.endswith("_mean") or key.endswith("_variance")), key
    logs = [(tmp_path / name / "log.txt").read_text().split("val MAE ")[-1][:6] for name in ("plain", "precise")]
    assert logs[0] != logs[1]  # measured with the new statistics
