"""BatchNorm's statistics, estimated anew: Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021 (PreciseBN)."""

from __future__ import annotations

import numpy as np
import paddle

from kdscfnet.images import read_image
from kdscfnet.processing import prepare_image


def estimate_statistics(model, images, count, size, batch_size):
    """Set the running mean and variance of every BatchNorm layer to those of training images as they are tested.

    The running averages that training leaves remember some ten batches: with eight images in each, and sizes that
    change from batch to batch, the MAE of one network then jumps by a tenth between epochs (seen). Training itself
    does not use them, so it goes on as it would have.

    Args:
        model: a network; its weights stay.
        images: paths; `count` of them, at equal distances, are used: whole, not augmented.
        size: of the network's input, an integer or (height, width).
        batch_size: images that are normalised together.

    The mean of n batches is the mean of theirs; the variance, of everything that the batches hold, is
    mean(variance + mean²) − (mean of means)².
    """
    layers = [layer for layer in model.sublayers() if hasattr(layer, "_mean") and hasattr(layer, "_variance")]
    seen = [[] for _ in layers]  # of every batch: mean, and mean of the squares
    momenta = [layer._momentum for layer in layers]
    count = min(count, len(images))
    chosen = [images[i * len(images) // count] for i in range(count)]
    # whole batches only, or the last image would count for more than others
    starts = range(0, max(1, count - count % batch_size), batch_size)
    was_training = model.training
    model.train()
    for layer in layers:
        layer._momentum = 0.0  # the running average becomes the batch's own
    for start in starts:
        batch = np.stack([prepare_image(read_image(path), size) for path in chosen[start : start + batch_size]])
        with paddle.no_grad():
            model(paddle.to_tensor(batch))
        for layer, of_batches in zip(layers, seen):
            mean = layer._mean.numpy().astype(np.float64)
            of_batches.append((mean, layer._variance.numpy().astype(np.float64) + mean**2))
    if not was_training:
        model.eval()
    for layer, momentum, of_batches in zip(layers, momenta, seen):
        layer._momentum = momentum
        mean, square = np.mean(of_batches, axis=0)
        layer._mean.set_value(mean.astype(np.float32))
        layer._variance.set_value((square - mean**2).astype(np.float32))
