"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from kdscfnet.recipes import Recipe


def steps_per_epoch(num_images, batch_size):
    """⌈N/B⌉: the last batch of an epoch may be smaller."""
    return -(-num_images // batch_size)


def learning_rate(
    step,
    num_images,
    batch_size,
    epochs=Recipe.epochs,
    warmup_epochs=Recipe.warmup_epochs,
    max_lr=Recipe.max_lr,
    min_lr=Recipe.min_lr,
):
    """The learning rate of a step, as the authors' code applies it.

    Linear warm-up from min_lr to max_lr while step < warmup_epochs·(N/B + 1), a real number: a few steps more than
    warmup_epochs·⌈N/B⌉. Then, with k counting from the first step after it and r(k) = (1 + cos(πk/T))/2,
    T = ⌈N/B⌉·(epochs − warmup_epochs): max_lr at k = 0 and min_lr + (max_lr − min_lr)·r(k)²/r(k−1) after that. It is
    not the plain cosine, because the authors ask Paddle's recursive scheduler for its rate once more than they step it.

    Args:
        step: from 0, counted over all epochs.
        num_images, batch_size: N and B.

    Returns a float. After the last step of the schedule the rate stays at min_lr.
    """
    warmup = warmup_epochs * (num_images / batch_size + 1)
    if step < warmup:
        return min_lr + (max_lr - min_lr) * step / warmup
    k = step - math.ceil(warmup)
    if k == 0:
        return max_lr
    period = steps_per_epoch(num_images, batch_size) * (epochs - warmup_epochs)
    if k >= period:  # r(k) is 0 at the end of the cosine
        return min_lr

    def ratio(i):
        return (1 + math.cos(math.pi * i / period)) / 2

    return min_lr + (max_lr - min_lr) * ratio(k) ** 2 / ratio(k - 1)
