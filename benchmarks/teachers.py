"""A distillation step on this CPU: the teacher in dygraph, in ONNX Runtime, and as maps that were made before.

python benchmarks/teachers.py [--size 352] [--batch 4] [--rounds 5] [--teacher resnet50]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time

from kdscfnet.device import import_paddle


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=352)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--teacher", default="resnet50")
    args = parser.parse_args()
    paddle = import_paddle()
    paddle.set_device("cpu")
    from kdscfnet.models.scfnet import SCFNet
    from kdscfnet.optim import build_optimizer
    from kdscfnet.training.steps import DistillationStep, open_teacher
    from kdscfnet.weights.files import save_weights

    paddle.seed(0)
    student = SCFNet("mobilenetv3")
    student.train()
    optimizer = build_optimizer(student, 0.001)
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "teacher.pdparams")
        save_weights(SCFNet(args.teacher), weights)
        sides = {
            "dygraph": DistillationStep(open_teacher(args.teacher, weights, "paddle")),
            "onnxruntime": DistillationStep(open_teacher(args.teacher, weights, "onnxruntime", (args.size,))),
            "maps": DistillationStep(),
        }
        images = paddle.randn([args.batch, 3, args.size, args.size])
        maps = paddle.rand([args.batch, 1, args.size, args.size])
        times = {name: [] for name in sides}
        for round_number in range(args.rounds + 1):
            for name, step in sides.items():
                began = time.perf_counter()
                total, _ = step(student, images, maps, 0)
                total.backward()
                optimizer.step()
                optimizer.clear_grad()
                float(total)
                if round_number:
                    times[name].append(time.perf_counter() - began)
    print(
        "student and %s at %d², batch %d, %s threads, medians of %d rounds"
        % (args.teacher, args.size, args.batch, os.environ["FLAGS_paddle_num_threads"], args.rounds)
    )
    for name, values in times.items():
        ratio = statistics.median(d / v for d, v in zip(times["dygraph"], values))
        print(
            "%-12s %8.1f ms an image   %.2f times as fast as dygraph"
            % (name, statistics.median(values) / args.batch * 1e3, ratio)
        )


if __name__ == "__main__":
    main()
