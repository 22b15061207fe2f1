"""Training samples in batches: what every batch holds is a pure function of (seed, step), whoever loads it.

So the number of workers changes nothing, and a run that was interrupted goes on in the middle of an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kdscfnet.data.augment import apply_to_image, apply_to_mask, draw
from kdscfnet.data.check import expect_one_size
from kdscfnet.data.workers import load_ahead
from kdscfnet.images import read_image, read_mask, rounded_mean
from kdscfnet.schedule import steps_per_epoch

# Streams of random numbers that must not run in parallel
_ORDER, _SIZE, _SAMPLE = 1, 2, 3


class BatchPlan:
    """Which images make up which batch, and of what size they are.

    A step uses `batch_size × accumulate × world` images (fewer at the end of an epoch), drawn without replacement in
    every epoch. They are dealt in order: first to the ranks, then to the turns of accumulation.

    Iterating yields, from `start_step` on, one list of items (index, epoch, size, step, share) per turn of this rank;
    `share` is the part of the step's images that the turn holds, times world. A rank for which nothing is left gets one
    image with share 0, so that all ranks take part in the exchange of gradients.

    `early_sizes`, ((until epoch, sizes), …), stand in for `sizes` in the first epochs.
    """

    def __init__(
        self, num_images, batch_size, sizes, epochs, seed, accumulate=1, rank=0, world=1, start_step=0, early_sizes=()
    ):
        self.num_images, self.batch_size, self.epochs, self.seed = num_images, batch_size, epochs, seed
        self.accumulate, self.rank, self.world, self.start_step = accumulate, rank, world, start_step
        self.sizes, self.early_sizes = tuple(sizes), tuple(early_sizes)
        self.effective_batch = batch_size * accumulate * world
        self.steps_per_epoch = steps_per_epoch(num_images, self.effective_batch)
        self.total_steps = self.steps_per_epoch * epochs

    def __len__(self):
        return (self.total_steps - self.start_step) * self.accumulate

    def images_before(self, step):
        """How many images the steps before `step` use."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return epoch * self.num_images + min(position * self.effective_batch, self.num_images)

    def size(self, step):
        """(height, width) of a step's batch: one of its epoch's sizes, drawn for the step."""
        epoch = step // self.steps_per_epoch
        sizes = next((sizes for until, sizes in self.early_sizes if epoch < until), self.sizes)
        size = sizes[int(np.random.default_rng((self.seed, _SIZE, step)).integers(len(sizes)))]
        return (size, size) if isinstance(size, int) else tuple(size)

    def __iter__(self):
        for step in range(self.start_step, self.total_steps):
            epoch, position = divmod(step, self.steps_per_epoch)
            if position == 0 or step == self.start_step:
                order = np.random.default_rng((self.seed, _ORDER, epoch)).permutation(self.num_images)
            images = order[position * self.effective_batch : (position + 1) * self.effective_batch]
            mine = np.array_split(images, self.world)[self.rank]
            for turn in np.array_split(mine, self.accumulate):
                share = len(turn) * self.world / len(images)
                size = self.size(step)
                yield [(int(i), epoch, size, step, share) for i in (turn if len(turn) else images[:1])]


@dataclass
class TrainingSamples:
    """Reads and augments single samples."""

    images: list  # paths
    masks: list  # paths, parallel to `images`; or there are none
    seed: int  # with epoch and index it decides the augmentation
    table: object = None  # uint8 [256], what the masks' levels become (kdscfnet.data.check.target_levels)
    maps: list = ()  # paths of a teacher's maps, which may be smaller than their images; or there are none

    def __post_init__(self):
        self.channels = bool(self.masks) + bool(self.maps)  # of a target: the mask, then the map

    def __len__(self):
        return len(self.images)

    def __getitem__(self, item):
        """item: (index, epoch, (height, width), …) → float32 3×h×w, float32 channels×h×w or None."""
        index, epoch, size = item[:3]
        image = read_image(self.images[index])
        rng = np.random.default_rng((self.seed, _SAMPLE, epoch, index))
        drawn = draw(rng, image.shape[0], image.shape[1])
        targets = []
        if self.masks:
            mask = read_mask(self.masks[index])
            expect_one_size(self.masks[index], mask.shape[1::-1], image.shape[1::-1])
            targets.append(mask if self.table is None else self.table[rounded_mean(mask)])
        if self.maps:
            targets.append(read_mask(self.maps[index]))
        targets = [apply_to_mask(target, drawn, size, image.shape[:2]) for target in targets]
        return apply_to_image(image, drawn, size), np.concatenate(targets) if targets else None

    def load(self, items):
        """The items of one turn as (images, targets or None): see `batches`."""
        height, width = items[0][2]
        images = np.empty((len(items), 3, height, width), np.float32)
        targets = np.empty((len(items), self.channels, height, width), np.float32) if self.channels else None
        for row, item in enumerate(items):
            images[row], target = self[item]
            if target is not None:
                targets[row] = target
        return images, targets


def batches(samples, plan, workers=0):
    """Yield (images, targets or None, step, share) for every turn of `plan`: float32 N×3×h×w and N×channels×h×w.

    workers: processes that load ahead, by paddle.io.DataLoader, which also brings the tensors to the device; 0: in this
    process, as numpy arrays. Raises LoaderError where a worker dies.
    """
    if workers:
        yield from load_ahead(samples, plan, workers)
        return
    for items in plan:
        yield (*samples.load(items), *items[0][3:])
