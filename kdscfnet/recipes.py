"""The paper's five recipes, and our own. Every number of the authors' stands here, once, with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

BACKBONES = ("mobilenetv3", "resnet50", "swin_b")
ENGINES = ("auto", "onnxruntime", "paddle")  # what runs a network


def all_sizes(sizes, early_sizes):
    """Every size that a training draws from, of all its epochs: a tuple."""
    return tuple(size for group in (sizes, *(early for _, early in early_sizes)) for size in group)


@dataclass(frozen=True)
class Recipe:
    """One system. The defaults are the authors', the same for all five; `train` offers every number as a flag."""

    name: str
    title: str  # the name in the paper's table
    backbone: str
    teacher: str = ""  # backbone of the teacher; empty: trained on labels
    data: str = "DUTS-TR"
    sizes: tuple = (224, 256, 288, 320, 352)  # one is drawn per batch
    test_size: int = 352
    batch_size: int = 128
    epochs: int = 69
    warmup_epochs: float = 5
    max_lr: float = 0.064
    min_lr: float = 0.00064
    momentum: float = 0.9
    weight_decay: float = 5e-4
    backbone_lr_factor: float = 0.1
    log_every: int = 30  # steps between printed lines
    # Not the authors': smaller sizes for the first epochs, ((until epoch, sizes), …), in order
    early_sizes: tuple = ()
    hold_out: int = 0  # images of the training set that are not trained on but measured
    precise_bn: int = 0  # training images on which BatchNorm's statistics are estimated anew after every epoch
    map_weight: float = 0.0  # part of the loss that is against a teacher's maps; the rest is against the labels


def _by_name(*recipes):
    return {recipe.name: recipe for recipe in recipes}


_STB = {"sizes": (384,), "test_size": 384}
_KD = {"data": "KD-SOD80K", "log_every": 100}
RECIPES = _by_name(
    Recipe("fs-m3", "FS-SCFNet", "mobilenetv3"),
    Recipe("fs-r50", "SCFNet_R50", "resnet50"),
    Recipe("fs-stb", "SCFNet_STB", "swin_b", **_STB),
    Recipe("kd-r50", "KD-SCFNet (R50)", "mobilenetv3", teacher="resnet50", **_KD),
    # 0.30 G FLOPs in the paper: the student that Swin-B teaches runs at 384²
    Recipe("kd-stb", "KD-SCFNet (STB)", "mobilenetv3", teacher="swin_b", **_KD, **_STB),
)

# Ours: from random numbers, on one core, in an hour and a half. docs/RESULTS.md says how the numbers were found.
_CPU = {
    "early_sizes": ((18, (96, 112, 128)), (28, (128, 160))),
    "sizes": (192, 224),
    "test_size": 224,
    "batch_size": 8,
    "epochs": 32,
    "warmup_epochs": 1,
    "min_lr": 0.0003,
    "backbone_lr_factor": 1.0,  # nothing in the backbone is worth keeping
    "hold_out": 200,
    "precise_bn": 200,
}
# Ours: from a pretrained backbone (--pretrained ppocrv3) and all of DUTS-TR, on one core, in an hour and a half
_DUTS = dict(_CPU, early_sizes=((5, (96, 112, 128)), (6, (128, 160))), sizes=(176, 192, 208))
_DUTS.update(epochs=8, warmup_epochs=0.3, log_every=100)
# A second stage from the first one's weights (--init): larger images, a lower rate
_DUTS_2 = dict(_DUTS, early_sizes=(), sizes=(192, 224, 256), test_size=256, epochs=4, warmup_epochs=0.2, max_lr=0.03)
# A third from the second one's: six epochs more, the first three at small images
_DUTS_3 = dict(_DUTS_2, early_sizes=((3, (144, 160, 176)),), epochs=6, max_lr=0.04)
ALL_RECIPES = _by_name(
    *RECIPES.values(),
    Recipe("fs-m3-cpu", "FS-SCFNet, DUTS 4k", "mobilenetv3", **_CPU),
    Recipe("kd-m3-cpu", "KD-SCFNet, DUTS 4k", "mobilenetv3", teacher="mobilenetv3", **_CPU),
    Recipe("fs-m3-duts", "FS-SCFNet, DUTS 10k", "mobilenetv3", **_DUTS),
    Recipe("fs-m3-duts-2", "FS-SCFNet, DUTS 10k", "mobilenetv3", **_DUTS_2),
    Recipe("fs-m3-duts-3", "FS-SCFNet, DUTS 10k", "mobilenetv3", **_DUTS_3),
)
