"""Which of our networks a state dict is, by its keys and shapes alone; without Paddle.

identify(arrays)            the backbone of an SCFNet
identify_backbone(arrays)   the backbone that ImageNet weights are of
prefix_of(keys)             what stands before our names of all keys
shape_tables()              {backbone: {key: shape}}
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

# Buffers that follow from the size of the network alone: the model has its own
DERIVED = ("relative_position_index", "relative_position_bias", "attn_mask")
_DERIVED = re.compile(r"^(bkbone\.)?layers\.\d+\.blocks\.\d+\.(attn\.)?(%s)$" % "|".join(DERIVED))
# Layers of the ImageNet classifiers that come after the maps we use, by backbone
CLASSIFIER = {
    "mobilenetv3": ("last_second_conv.", "last_conv.", "fc."),
    "resnet50": ("fc.",),
    "swin_b": ("head.",),
}


def is_derived(key):
    """Whether `key` is one of Swin's index, bias or mask tables."""
    return _DERIVED.match(key) is not None


@functools.lru_cache(maxsize=1)
def shape_tables():
    """{backbone: {key: shape}} of our three networks, without building them."""
    with open(str(Path(__file__).with_name("shapes.json")), encoding="utf-8") as file:
        return {name: {key: tuple(shape) for key, shape in table.items()} for name, table in json.load(file).items()}


def backbone_shapes(backbone):
    """{key: shape} of a backbone alone."""
    return {key[7:]: shape for key, shape in shape_tables()[backbone].items() if key.startswith("bkbone.")}


def identify(arrays):
    """The backbone of the SCFNet that `arrays` (key → something with .shape) is: "mobilenetv3", "resnet50", "swin_b".
    None where it is none of them."""
    for name, table in shape_tables().items():
        if _same(arrays, table, ()):
            return name
    return None


def identify_backbone(arrays):
    """The backbone whose ImageNet weights `arrays` is, with or without the classifier; None where it is none."""
    for name in shape_tables():
        if _same(arrays, backbone_shapes(name), CLASSIFIER[name]):
            return name
    return None


@functools.lru_cache(maxsize=1)
def _known():
    """The keys of all networks and backbones."""
    tables = shape_tables()
    return {key for table in tables.values() for key in table}.union(*(backbone_shapes(name) for name in tables))


def prefix_of(keys):
    """What a wrapper put before every key, such as "module." or "model._layers."; None where no key is one of ours."""
    known, prefix = _known(), ""
    while not any(key[len(prefix) :] in known for key in keys):
        first = next(iter(keys), "")
        prefix = first[: first.find(".", len(prefix)) + 1]
        if not prefix or not all(key.startswith(prefix) for key in keys):
            return None
    return prefix


def _same(arrays, table, unused):
    for key, shape in table.items():
        if not is_derived(key) and (key not in arrays or tuple(arrays[key].shape) != shape):
            return False
    has_derived = any(map(is_derived, table))
    return all(key in table or (has_derived and is_derived(key)) or key.startswith(unused or ("\0",)) for key in arrays)
