"""Saliency maps of images, in memory: `Predictor`."""

from __future__ import annotations

import functools
import os
from typing import Any, Iterable, Sequence

import cv2
import numpy as np

from kdscfnet.errors import BadImageError, UserError
from kdscfnet.images import decode_any, encode, from_pillow, read_image
from kdscfnet.inference.networks import open_network
from kdscfnet.inference.outputs import Settings, parse_background, render
from kdscfnet.inference.pipeline import predict_stream
from kdscfnet.processing import prepare_image, to_map
from kdscfnet.recipes import BACKBONES
from kdscfnet.threads import available_cores
from kdscfnet.weights.weightfile import resolve


class Predictor:
    """Saliency maps, as the authors make them, by the fastest engine there is.

    Args:
        weights: a weight file (.pdparams, .safetensors), an exported network (.onnx) or a name of the release
            ("kd-stb"); None: the best student in the weights folder, or the bundled one where there is none; a
            WeightFile.
        backbone: "mobilenetv3" (the student), "resnet50" or "swin_b"; "auto": the one in the file.
        engine: "auto" (Paddle on a GPU, else ONNX Runtime, else Paddle), "onnxruntime" or "paddle".
        size: the network's input: 352, "352", "320x256" or (height, width). Default: the size that the network is
            tested at (WeightFile.test_size); a student that Swin-B taught wants 384.
        threads: cores to use; default: all.
        device: for Paddle: "cpu", "gpu", "gpu:0"; default: a GPU where there is one.

    Attributes: `backbone`, `size` and `threads` as they are used; `engine`: "paddle" or "onnxruntime".

    predictor(image): what `as_rgb_array` takes (a path, bytes, a file object, a PIL image, an array H×W,
    H×W×3 or H×W×4) → uint8 H×W, 0 (background) to 255 (salient).
    Raises UserError (wrong use), WeightsError, BadImageError (an image that cannot be read).
    """

    def __init__(
        self,
        weights: str | os.PathLike | None = None,
        backbone: str = "mobilenetv3",
        engine: str = "auto",
        size: int | str | tuple[int, int] | None = None,
        threads: int | None = None,
        device: str | None = None,
    ) -> None:
        if backbone not in BACKBONES + ("auto",):
            raise UserError("backbone is %r: one of %s, auto" % (backbone, ", ".join(BACKBONES)))
        if threads is not None and threads < 1:
            raise UserError("threads is %r: 1 or more" % (threads,))
        self.threads = threads or available_cores()
        self.weight_file = resolve(weights)
        self.weights = self.weight_file.path
        self.size = self.weight_file.test_size(size)
        backbone = None if backbone == "auto" else backbone
        self.network = open_network(self.weight_file, backbone, engine, size, threads, device)
        self.network.usual = self.size
        self.backbone, self.engine = self.network.backbone, self.network.name
        if self.network.size not in (None, self.size):
            sizes = *self.network.size, *self.size
            raise UserError("%s was exported for a size of %d×%d, not %d×%d" % (self.weights, *sizes))

    def __call__(self, image: Any) -> np.ndarray:
        image = as_rgb_array(image)
        return to_map(self.logits([image])[0, 0], image.shape[0], image.shape[1])

    def cutout(self, image: Any, background: Any = None, crop: bool = False, refine: bool = False) -> Any:
        """What stands out, as opaque as it is salient: RGBA of the kind of `image`; RGB before a background.

        Args:
            image: as for the call.
            background: what goes behind: a colour ("white", "#rrggbb" or (R, G, B)), "blur" (the photograph's own,
                blurred), or an image, of which the middle that fits is taken: a path or what else `image` may be.
            crop: keep the box around what stands out, with a margin of a twentieth; all where nothing does.
            refine: the edges follow those of the photograph. With it, or with a background, soft edges get estimated
                foreground colours; without both the colours are exactly those of the photograph.

        Returns PNG bytes for the bytes of an image file, a PIL image for a PIL image, else uint8 H×W×4 or H×W×3.
        """
        array = as_rgb_array(image)
        if isinstance(background, (str, tuple)):
            background = parse_background(background)
        elif background is not None:
            background = as_rgb_array(background)
        settings = Settings(background=background, crop=crop, refine=refine)
        cutout = render(["cutout"], array, self(array), settings)["cutout"]
        if hasattr(image, "getbands"):
            from PIL import Image

            return Image.fromarray(cutout)
        return encode(cutout, ".png") if isinstance(image, (bytes, bytearray, memoryview)) else cutout

    def batch(self, images: Iterable[Any]) -> list[np.ndarray]:
        """Maps of several images of any kinds and sizes, in their order: a list of uint8 H×W.

        Spreads the images over the cores (ONNX Runtime) or runs them in batches (Paddle).
        """
        maps = []
        for image, saliency, _, failure in predict_stream(
            self,
            images,
            lambda image: (as_rgb_array(image), None),
            lambda item, image, saliency: saliency,
            keep_image=False,
        ):
            if failure is not None:
                raise BadImageError(image if isinstance(image, (str, os.PathLike)) else "image %d" % len(maps), failure)
            maps.append(saliency)
        return maps

    def logits(self, images: Sequence[np.ndarray], threads: int | None = None) -> np.ndarray:
        """The finest logits of several images, uint8 H×W×3 RGB: float32 N×1×h×w at the network's size."""
        prepared = np.empty((len(images), 3) + self.size, np.float32)
        for image, out in zip(images, prepared):
            prepare_image(image, self.size, out)
        return self.network(prepared, threads)


def remove_background(image: Any, background: Any = None, crop: bool = False, refine: bool = False) -> Any:
    """`Predictor().cutout(…)`, with a Predictor that is made once: the best student that is here."""
    return _usual_predictor().cutout(image, background, crop, refine)


@functools.lru_cache(maxsize=1)
def _usual_predictor():
    return Predictor(backbone="auto")


def as_rgb_array(image):
    """What people have → uint8 H×W×3, RGB.

    Args:
        image: a path; the bytes of an image file; a binary file object; a PIL image; an array H×W or H×W×1 (grey),
            H×W×3 (RGB) or H×W×4 (RGBA), uint8 from 0 to 255 or real numbers from 0 to 1. Alpha is dropped, as in files.

    Raises BadImageError for what cannot be decoded, UserError for an array that is no image.
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(image)
    if hasattr(image, "getbands"):  # of PIL
        return cv2.cvtColor(from_pillow(image, "the PIL image", cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    if hasattr(image, "read"):
        return decode_any(image.read(), getattr(image, "name", "the file object"))[0]
    if isinstance(image, (bytes, bytearray, memoryview)):
        return decode_any(bytes(image), "the bytes")[0]
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.dtype.kind == "f" and array.size and 0 <= array.min() and array.max() <= 1:  # not where one is NaN
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise UserError(
            "an image must be a path, bytes, a file object, a PIL image, or H×W, H×W×3 or H×W×4 in uint8 or in real "
            "numbers from 0 to 1, not %s %s" % (array.dtype, np.shape(image))
        )
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array[..., :3])
