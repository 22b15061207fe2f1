"""Which of our networks a state dict is, by its keys and shapes alone; without Paddle."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

# Buffers that follow from the size of the network alone: the model has its own
_DERIVED = re.compile(
    r"^(bkbone\.)?layers\.\d+\.blocks\.\d+\.(attn\.)?(relative_position_index|relative_position_bias|attn_mask)$"
)
# Layers of the ImageNet classifiers that come after the maps we use, by backbone
CLASSIFIER = {
    "mobilenetv3": ("last_second_conv.", "last_conv.", "fc."),
    "resnet50": ("fc.",),
    "swin_b": ("head.",),
}
NETWORKS = [(kind, backbone) for kind in ("scfnet", "backbone") for backbone in CLASSIFIER]


def is_derived(key):
    """Whether `key` is one of Swin's index, bias or mask tables."""
    return _DERIVED.match(key) is not None


@functools.lru_cache(maxsize=1)
def shape_tables():
    """{backbone: {key: shape}} of our three networks, without building them."""
    with open(str(Path(__file__).with_name("shapes.json")), encoding="utf-8") as file:
        return {name: {key: tuple(shape) for key, shape in table.items()} for name, table in json.load(file).items()}


@functools.lru_cache(maxsize=None)
def expected(kind, backbone):
    """What a "scfnet" or "backbone" file holds: ({key: shape}, beginnings of keys that may be there, too)."""
    table = shape_tables()[backbone]
    if kind == "scfnet":
        return table, ()
    alone = {key[7:]: shape for key, shape in table.items() if key.startswith("bkbone.")}
    return alone, CLASSIFIER[backbone]


def compare(arrays, shapes, unused=()):
    """How `arrays` (key → something with .shape) differs from a network; derived buffers may differ.

    Returns (missing keys, unexpected keys, {key: what is wrong with its shape}, {key: why it is not used}).
    """
    wanted = {key: tuple(shape) for key, shape in shapes.items() if not is_derived(key)}
    missing = [key for key in wanted if key not in arrays]
    unexpected, mismatched, ignored = [], {}, {}
    for key, array in arrays.items():
        if key in wanted:
            if tuple(array.shape) != wanted[key]:
                mismatched[key] = "is %s, should be %s" % (list(array.shape), list(wanted[key]))
        elif len(wanted) < len(shapes) and is_derived(key):
            ignored[key] = "derived from the size of the network, which has its own"
        elif key.startswith(unused):
            ignored[key] = "part of the ImageNet classifier, not used"
        else:
            unexpected.append(key)
    return missing, unexpected, mismatched, ignored


def identify(arrays):
    """(kind, backbone) of `arrays` (key → something with .shape): "scfnet"; "backbone" for ImageNet weights, with or
    without the classifier; ("other", "") where it is none of our networks."""
    for network in NETWORKS:
        if not any(compare(arrays, *expected(*network))[:3]):
            return network
    return "other", ""


def prefix_of(keys):
    """What a wrapper put before every key, such as "module." or "model._layers."; None where no key is one of ours."""
    known, prefix = [expected(*network)[0] for network in NETWORKS], ""
    while not any(key[len(prefix) :] in shapes for shapes in known for key in keys):
        first = next(iter(keys), "")
        prefix = first[: first.find(".", len(prefix)) + 1]
        if not prefix or not all(key.startswith(prefix) for key in keys):
            return None
    return prefix
