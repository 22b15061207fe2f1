"""Validation while training: MAE on a labelled set, and pictures for the board."""

from __future__ import annotations

import cv2
import numpy as np
import paddle

from kdscfnet.evaluation.scores import MAE_SCORES, Scale, score_map
from kdscfnet.images import read_image, read_levels
from kdscfnet.processing import prepare_image, to_map


def predict_map(model, image, size):
    """One saliency map by a network that is in memory: uint8 H×W×3 RGB → uint8 H×W. The model must be in eval mode."""
    with paddle.no_grad():
        logits = model(paddle.to_tensor(prepare_image(image, size)[None]))[0]
    return to_map(logits.numpy()[0, 0].astype(np.float32), image.shape[0], image.shape[1])


def validator(image_set, size):
    """A function model → {"MAE": …, "MAE_unstretched": …}, means over the set (kdscfnet.evaluation.scores)."""

    scale = Scale(image_set.masks)

    def validate(model):
        scores = []
        for image, mask in zip(image_set.images, image_set.masks):
            saliency = predict_map(model, read_image(image), size)
            values, _, _ = score_map(saliency, scale(read_levels(mask)[0]), MAE_SCORES)
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

    def make(model):
        rows = []
        for index in shown:
            image = read_image(image_set.images[index])
            if targets:
                target, _ = read_levels(targets[index])
            else:
                logits = teacher(paddle.to_tensor(prepare_image(image, teachers_size)[None]))
                target = to_map(logits.numpy()[0, 0], image.shape[0], image.shape[1])
            rows.append((160, [image, target, predict_map(model, image, size)]))
        return picture_of(rows)

    return make


def picture_of(rows):
    """One picture, uint8 H×W×3, of rows: (height, pictures that are shown at it, uint8 H×W or H×W×3)."""
    lines = []
    for height, cells in rows:
        line = []
        for cell in cells:
            cell = cell if cell.ndim == 3 else cv2.cvtColor(cell, cv2.COLOR_GRAY2RGB)
            width = max(1, round(cell.shape[1] * height / cell.shape[0]))
            line.append(cv2.resize(cell, (width, height), interpolation=cv2.INTER_AREA))
            line.append(np.full((height, 4, 3), 255, np.uint8))
        lines.append(np.concatenate(line[:-1], axis=1))
    width = max(line.shape[1] for line in lines)
    return np.concatenate([np.pad(x, ((0, 4), (0, width - x.shape[1]), (0, 0)), constant_values=255) for x in lines])
