"""The speed of prediction against a plain dygraph loop, and against the machine's own limits.

    python benchmarks/prediction.py --weights FILE --images FOLDER [--agreement FOLDER]

Both sides of every ratio run in turns in one process, so that what else the machine does hits both; medians. The plain
loop is what one writes with Paddle and OpenCV in ten lines: read, normalise, resize, forward, sigmoid, resize, write.

    network      one image, two threads: dygraph against ONNX Runtime
    predict      maps a second over the images: the plain loop against the pipeline behind `kdscfnet predict`
    floor        decoding the JPEGs, and the network's multiply-adds at the rate of this machine's matrix product
    start        one image from a shell: seconds and memory; `import kdscfnet`
    memory       over 3,000 predictions (--memory)
    agreement    greatest difference of the two engines' maps over 100 real images (--agreement)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kdscfnet.device import import_paddle  # noqa: E402
from kdscfnet.threads import available_cores  # noqa: E402

# architecture.md: multiply-adds of the student at 352²
MULTIPLY_ADDS = 253194747
# seconds: the threads of either side keep their core busy for a while after their work (Paddle's for 0.2 s)
PAUSE = 0.3
SIZE = 352  # of the network's input, whatever the weights were measured at


def median_ms(seconds):
    return statistics.median(seconds) * 1e3


def clock(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


class PlainLoop:
    """A saliency map the straightforward way."""

    def __init__(self, model):
        self.model = model

    def __call__(self, path, target):
        import cv2
        import numpy as np
        import paddle
        import paddle.nn.functional as F

        from kdscfnet.processing import MEAN, STD

        image = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        height, width = image.shape[:2]
        x = cv2.resize((image.astype(np.float32) - MEAN) / STD, (SIZE, SIZE)).transpose(2, 0, 1)[None]
        with paddle.no_grad():
            saliency = F.sigmoid(self.model(paddle.to_tensor(x))[0])
            saliency = F.interpolate(saliency, size=(height, width), mode="bilinear", align_corners=True)
        cv2.imwrite(target, saliency.numpy()[0, 0] * 255)


def compare_networks(model, predictor, rounds):
    """Milliseconds of one forward, dygraph and ONNX Runtime in turns, on all cores."""
    import numpy as np
    import paddle

    image = np.random.RandomState(0).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)
    tensor = paddle.to_tensor(image)

    def dygraph():
        with paddle.no_grad():
            model(tensor)[0].numpy()

    def onnxruntime():
        predictor.network(image)

    times = {dygraph: [], onnxruntime: []}
    for _ in range(rounds):
        for function in (dygraph, onnxruntime):
            time.sleep(PAUSE)
            function()  # the other one has had the caches
            times[function] += [clock(function) for _ in range(4)]
    return median_ms(times[dygraph]), median_ms(times[onnxruntime])


def compare_predictions(model, predictor, images, blocks):
    """Maps a second: the plain loop and the pipeline, block of images by block of images."""
    from kdscfnet.inference.pipeline import predict_files

    plain = PlainLoop(model)
    rates = {"plain": [], "pipeline": []}
    seconds = {"plain": 0.0, "pipeline": 0.0}
    size = max(1, len(images) // blocks)
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(images), size):
            block = images[start : start + size]
            time.sleep(PAUSE)
            begun = time.perf_counter()
            for number, path in enumerate(block):
                plain(path, os.path.join(folder, "plain-%d.png" % (start + number)))
            plain_seconds = time.perf_counter() - begun
            jobs = [
                (path, {"map": os.path.join(folder, "ours-%d.png" % (start + number))})
                for number, path in enumerate(block)
            ]
            time.sleep(PAUSE)
            begun = time.perf_counter()
            report = predict_files(predictor, jobs, show_progress=False)
            ours_seconds = time.perf_counter() - begun
            assert len(report.done) == len(block)
            for kind, value in (("plain", plain_seconds), ("pipeline", ours_seconds)):
                rates[kind].append(len(block) / value)
                seconds[kind] += value
        worst = greatest_difference(
            [
                (os.path.join(folder, "plain-%d.png" % number), os.path.join(folder, "ours-%d.png" % number))
                for number in range(len(images))
            ]
        )
    ratios = [ours / plain for plain, ours in zip(rates["plain"], rates["pipeline"])]
    return {
        "plain_per_s": statistics.median(rates["plain"]),
        "pipeline_per_s": statistics.median(rates["pipeline"]),
        "pipeline_best_block_per_s": max(rates["pipeline"]),
        "pipeline_all_per_s": len(images) / seconds["pipeline"],
        "plain_all_per_s": len(images) / seconds["plain"],
        "ratio": statistics.median(ratios),
        "ratio_over_all": seconds["plain"] / seconds["pipeline"],
        "greatest_difference_in_levels": worst,
    }


def greatest_difference(pairs):
    import cv2
    import numpy as np

    worst = 0
    for first, second in pairs:
        a, b = (cv2.imread(path, cv2.IMREAD_UNCHANGED).astype(np.int16) for path in (first, second))
        worst = max(worst, int(np.abs(a - b).max()))
    return worst


def floor(images):
    """What nobody can save, on one core: decoding, and the multiply-adds at the rate of a large matrix product."""
    import cv2
    import numpy as np

    data = [np.fromfile(path, np.uint8) for path in images]
    decode = [clock(cv2.imdecode, item, cv2.IMREAD_COLOR) for item in data]
    program = """
import time, numpy as np
a, b = (np.random.rand(1024, 1024).astype(np.float32) for _ in range(2))
a @ b
times = []
for _ in range(20):
    start = time.perf_counter(); a @ b; times.append(time.perf_counter() - start)
print(1024 ** 3 / sorted(times)[len(times) // 4])
"""
    rate = float(
        subprocess.run(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            check=True,
            env=dict(os.environ, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1"),
        ).stdout
    )
    return {
        "decode_ms": median_ms(decode),
        "multiply_adds_per_s_and_core": rate,
        "multiply_adds_ms": MULTIPLY_ADDS / rate * 1e3,
    }


# In a small process of its own: a child's peak memory begins with that of the process it was forked from.
RUN_AND_MEASURE = """
import os, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3)
"""


def start(weights, image, rounds):
    """One image from a shell, with the exported network present: medians of wall seconds and of peak memory."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    walls, peaks, imports = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            command = [
                sys.executable,
                "-m",
                "kdscfnet",
                "predict",
                image,
                "--quiet",
                "--weights",
                str(weights),
                "-o",
                os.path.join(folder, "%d.png" % number),
            ]
            done = subprocess.run(
                [sys.executable, "-c", RUN_AND_MEASURE] + command, env=environment, check=True, stdout=subprocess.PIPE
            )
            assert os.path.exists(command[-1])
            wall, peak = map(float, done.stdout.split())
            walls.append(wall)
            peaks.append(peak)
            done = subprocess.run(
                [
                    sys.executable,
                    "-c",
                    "import time; s = time.perf_counter(); import kdscfnet; print(time.perf_counter() - s)",
                ],
                env=environment,
                stdout=subprocess.PIPE,
                check=True,
            )
            imports.append(float(done.stdout))
    return {
        "wall_s": statistics.median(walls),
        "peak_memory_mb": statistics.median(peaks),
        "import_kdscfnet_s": statistics.median(imports),
    }


def memory(predictor, images, count=3000):
    """Resident memory after the last of `count` predictions by that after the 300th, on images of real sizes."""
    sizes = {}
    for number in range(1, count + 1):
        predictor(images[number % len(images)])
        if number in (300, count):
            with open("/proc/self/statm") as file:
                sizes[number] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return {"after_300_mb": sizes[300], "after_%d_mb" % count: sizes[count], "ratio": sizes[count] / sizes[300]}


def agreement(weights, images):
    """The greatest difference in grey levels between the maps of the two engines."""
    import numpy as np

    from kdscfnet import Predictor

    images = list(images) + [
        np.random.RandomState(0).randint(0, 256, (h, w, 3)).astype(np.uint8)
        for h, w in ((1, 1), (3, 2000), (5000, 4000))
    ]
    predictors = [Predictor(str(weights), "auto", engine) for engine in ("paddle", "onnxruntime")]
    worst = 0
    for image in images:
        one, other = (predictor(image) for predictor in predictors)
        worst = max(worst, int(np.abs(one.astype(np.int16) - other).max()))
    return {
        "weights": os.path.basename(str(weights)),
        "backbone": predictors[0].backbone,
        "size": list(predictors[0].size),
        "images": len(images),
        "greatest_difference_in_levels": worst,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="a student's weight file")
    parser.add_argument("--images", required=True, help="a folder of JPEGs")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--agreement", metavar="FOLDER", help="100 images of this folder by both engines")
    parser.add_argument("--agreement-weights", nargs="*", default=[], help="more weight files for it")
    parser.add_argument("--memory", action="store_true", help="3,000 predictions in this process")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()

    paddle = import_paddle(available_cores())
    from kdscfnet import Predictor, SCFNet, load_weights

    images = [str(path) for path in sorted(Path(args.images).glob("*.jpg"))[: args.count]]
    model = SCFNet("mobilenetv3")
    load_weights(model, args.weights)
    model.eval()
    predictor = Predictor(args.weights, engine="onnxruntime", size=SIZE)
    figures = {
        "cores": available_cores(),
        "load_average": os.getloadavg()[0],
        "paddle": paddle.__version__,
        "images": len(images),
    }

    def show(name, value):
        figures[name] = value
        print(name, json.dumps(value), flush=True)

    dygraph, onnxruntime = compare_networks(model, predictor, 30)
    show("network", {"dygraph_ms": dygraph, "onnxruntime_ms": onnxruntime, "ratio": dygraph / onnxruntime})
    show("predict", compare_predictions(model, predictor, images, args.blocks))
    show("floor", floor(images))
    show("start", start(args.weights, images[0], 7))
    if args.memory:
        show("memory", memory(predictor, images))
    if args.agreement:
        chosen = [str(path) for path in sorted(Path(args.agreement).glob("*.jpg"))[:100]]
        show("agreement", [agreement(weights, chosen) for weights in [args.weights, *args.agreement_weights]])
    figures["load_average_at_the_end"] = os.getloadavg()[0]
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
