"""Validation while training: MAE on a labelled set, and pictures for the board."""

from __future__ import annotations

import cv2
import numpy as np
import paddle

from kdscfnet.evaluation.scores import MAE_SCORES, Scale, score_map
from kdscfnet.images import read_image, read_mask, rounded_mean
from kdscfnet.processing import prepare_image, to_map


def predict_map(model, image, size):
    """One saliency map by a network that is in memory: uint8 H×W×3 RGB → uint8 H×W. The model must be in eval mode."""
    with paddle.no_grad():
        logits = model(paddle.to_tensor(prepare_image(image, size)[None]))[0]
    return to_map(logits.numpy()[0, 0].astype(np.float32), image.shape[0], image.shape[1])


def read_mask_levels(path):
    """A mask file as uint8 H×W, the mean of its channels."""
    return rounded_mean(read_mask(path))


def validator(image_set, size):
    """A function model → {"MAE": …, "MAE_unstretched": …}, means over the set (kdscfnet.evaluation.scores)."""

    scale = Scale(image_set.masks)

    def validate(model):
        scores = []
        for image, mask in zip(image_set.images, image_set.masks):
            saliency = predict_map(model, read_image(image), size)
            values, _, _ = score_map(saliency, scale(read_mask_levels(mask)), MAE_SCORES)
            scores.append([values[name] for name in MAE_SCORES])
        return dict(zip(MAE_SCORES, np.mean(scores, axis=0).tolist()))

    return validate


def picture_maker(image_set, size, teacher=None):
    """A function model → uint8 H×W×3 RGB: rows of image, target (mask or teacher's map) and prediction.

    image_set: the one trained on; four of its images are shown, at equal distances. teacher: one of
    kdscfnet.training.steps, where there are neither masks nor maps.
    """
    shown, targets = [i * len(image_set) // 4 for i in range(4)], image_set.masks or image_set.maps
    teachers_size = getattr(teacher, "size", None) or size  # an exported Swin-B runs at the size of training alone

    def target_of(index, image):
        if targets:
            return read_mask_levels(targets[index])
        logits = teacher(paddle.to_tensor(prepare_image(image, teachers_size)[None]))
        return to_map(logits.numpy()[0, 0], image.shape[0], image.shape[1])

    def make(model):
        rows = []
        for index in shown:
            image = read_image(image_set.images[index])
            rows.append(grid_row([image, target_of(index, image), predict_map(model, image, size)], 160))
        return stack_rows(rows)

    return make


def grid_row(columns, height):
    """Pictures (uint8 H×W or H×W×3) side by side at one height."""
    cells = []
    for column in columns:
        column = column if column.ndim == 3 else cv2.cvtColor(column, cv2.COLOR_GRAY2RGB)
        width = max(1, round(column.shape[1] * height / column.shape[0]))
        cells.append(cv2.resize(column, (width, height), interpolation=cv2.INTER_AREA))
        cells.append(np.full((height, 4, 3), 255, np.uint8))
    return np.concatenate(cells[:-1], axis=1)


def stack_rows(rows):
    """Rows of any width, one above the other."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(r, ((0, 4), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows])
