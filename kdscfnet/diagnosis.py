"""The known clashes: rules that turn what kdscfnet.doctor found into findings, and do nothing else."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from kdscfnet import dependencies
from kdscfnet.dependencies import install, pip

PROBED = ("numpy", "cv2", "onnxruntime", "paddle2onnx", "visualdl", "paddle", "paddleseg")  # the slowest last
LOW_DISK = 1 << 30  # bytes: a checkpoint of the largest model with its optimizer state is 0.8 GB
BY_PAGE = "with the command of Paddle's installation page"
NUMPY_1 = ("numpy<2", "opencv-python>=4.1.1")  # together, or pip may keep an OpenCV that needs numpy 2


@dataclass(frozen=True)
class Finding:
    """Something to know. name: short, stable; mend: a command for a shell, or what to do."""

    name: str
    what: str
    mend: str
    fault: bool = True  # False: a note, which leaves the exit code 0


def diagnose(facts):
    """Findings, faults first. A fault that explains others stands for them.

    `told`, which all rules get, holds the modules of which an earlier one has told enough, and "training", "gpu".
    """
    told = set()
    findings = [finding for rule in RULES for finding in rule(facts, told)]
    return sorted(findings, key=lambda finding: not finding.fault)


def python_and_numpy(facts, told):
    if not (3, 7) <= facts.python[:2] <= (3, 13):
        what = "Python %d.%d.%d: Paddle has builds for 3.7 to 3.13" % facts.python
        mend = "install Python 3.13 and make an environment: python3.13 -m venv .venv && . .venv/bin/activate"
        yield Finding("python", what, mend)
    if facts.error("numpy"):
        told.update(PROBED)
        mend = '%s install --force-reinstall --no-deps "%s"' % (pip(), dependencies.read("base")["numpy"])
        yield Finding("numpy does not import", "import numpy: %s" % facts.error("numpy"), mend)


def opencv(facts, told):
    paddle_2 = () < facts.paddle < (3,)
    if len(facts.opencvs) > 1:
        told.update(("cv2", "paddleseg"))
        what = "%s are installed, and they overwrite each other's files" % _shown_opencvs(facts)
        mend = "%s uninstall -y %s && " % (pip(), " ".join(facts.opencvs))
        yield Finding("two OpenCV packages", what, mend + install(*(NUMPY_1 if paddle_2 else NUMPY_1[1:])))
    old = [name for name in facts.opencvs if facts.version(name) < (4, 10)]
    if facts.version("numpy") >= (2,) and old:
        told.update(("cv2", "paddleseg"))
        what = "numpy %s is installed with %s, which was built for numpy 1 and does not import"
        what %= facts.packages["numpy"], _shown_opencvs(facts)
        newer = " ".join('"%s>=4.10"' % name for name in old)
        mend = install(NUMPY_1[0]) if paddle_2 else "%s install --upgrade %s" % (pip(), newer)
        yield Finding("numpy 2 with an old OpenCV", what, mend)


def _shown_opencvs(facts):
    return " and ".join("%s %s" % (name, facts.packages[name]) for name in facts.opencvs)


def paddle_packages(facts, told):
    cpu, gpu = (facts.packages.get(name) for name in ("paddlepaddle", "paddlepaddle-gpu"))
    if cpu and gpu:
        told.update(("paddle", "paddleseg", "gpu"))
        mend = "%s uninstall -y paddlepaddle paddlepaddle-gpu" % pip()
        if facts.paddle >= (3,):  # not on the package index
            mend += ", then install paddlepaddle-gpu %s %s" % (gpu, BY_PAGE)
        else:
            mend += " && " + install("paddlepaddle-gpu==" + gpu)
        what = "paddlepaddle %s and paddlepaddle-gpu %s are both installed" % (cpu, gpu)
        what += ", and the one that came last has overwritten the other"
        yield Finding("CPU Paddle over GPU Paddle", what, mend)
    if set(facts.absent_training) & {"paddlepaddle", "paddlepaddle-gpu"} and "paddle" not in told:
        told.update(("paddle", "paddleseg", "paddle2onnx", "training"))
        what = "PaddlePaddle is not installed: exported networks predict, and nothing can be trained or exported"
        yield Finding("no Paddle", what, install(*facts.absent_training.values()), fault=False)


def system_libraries(facts, told):
    """A library of the system that OpenCV or Paddle loads is not there."""
    for module, title in (("cv2", "OpenCV"), ("paddle", "Paddle")):
        pattern = r"(lib[A-Za-z+\d]+)[\w.+-]*?\.so(?:\.(\d+))?[\w.]*(?=: cannot open shared object)"
        found = re.search(pattern, facts.error(module))
        if not found:
            continue
        told.update((module, "paddleseg"))
        name, version = found.groups()
        # Debian names a library's package so: libSM.so.6 is in libsm6, libX11.so.6 in libx11-6
        package = name.lower() + "-" * name[-1].isdigit() + (version or "")
        both = name in ("libGL", "libgthread", "libglib")  # OpenCV needs what is in either
        mend = "apt-get install -y %s" % ("libgl1 libglib2.0-0" if both else package)
        if module == "cv2":
            headless = install(dependencies.read("base")["opencv-python"].replace("python", "python-headless"))
            mend += "   (without root: %s uninstall -y %s && %s)" % (pip(), " ".join(facts.opencvs), headless)
        yield Finding("no %s" % name, "%s needs the system's %s, which is not there" % (title, found.group()), mend)


def paddle_fails(facts, told):
    error = facts.error("paddle")
    if not error or "paddle" in told:
        return
    told.update(("paddle", "paddleseg", "paddle2onnx"))
    requirements = dependencies.read("gpu" if "paddlepaddle-gpu" in facts.packages else "cpu").values()
    mend = install(*requirements).replace("install", "install --force-reinstall", 1)
    if "Descriptors cannot" in error or "protobuf" in error:
        mend = install("protobuf<3.21")
    elif facts.version("numpy") >= (2,) and facts.paddle < (3,):
        mend = install(*NUMPY_1)
    elif "_dl_sym" in error:  # Paddle before 2.3 on glibc 2.34 and newer
        mend = install(*(one.replace(">=2.2", ">=2.5") for one in requirements))
    yield Finding("Paddle does not import", "import paddle: %s" % error, mend)


def gpus(facts, told):
    info, has = facts.probes.get("paddle", {}), "this machine has %s" % ", ".join(facts.gpus)
    if info.get("cuda") is False and facts.gpus and "gpu" not in told:
        mend = "%s uninstall -y paddlepaddle && %s" % (pip(), install(*dependencies.read("gpu").values(), NUMPY_1[1]))
        yield Finding("GPU not used", has + ", and Paddle's CPU build is installed", mend, fault=False)
    if info.get("cuda") and facts.gpus and not info.get("gpus"):
        reason = info.get("cuda_version"), info.get("gpu_error", "it finds no device")
        what = has + ", and Paddle, built for CUDA %s, cannot use it: %s" % reason
        yield Finding("Paddle sees no GPU", what, "install the build for your CUDA version " + BY_PAGE)
    # Code for a compute capability runs on GPUs of the same major number and the same or a higher minor one
    archs = [divmod(arch, 10) for arch in info.get("archs", ())]
    for gpu, (major, minor) in info.get("gpus", ()):
        if archs and not any(major == built[0] and minor >= built[1] for built in archs):
            what = "%s has compute capability %d.%d, and this Paddle was built for " % (gpu, major, minor)
            what += ", ".join("%d.%d" % built for built in archs)
            mend = "install a build for it %s (a newer CUDA version has newer GPUs), or take the CPU: --device cpu"
            yield Finding("Paddle built for other GPUs", what, mend % BY_PAGE)
            break


def packages_missing(facts, told):
    absent = {package: one for package, one in facts.absent.items() if package != "onnxruntime"}
    if "training" not in told:
        absent.update((package, one) for package, one in facts.absent_training.items() if "paddlepaddle" not in package)
    if absent:
        yield Finding("packages missing", "not installed: %s" % ", ".join(sorted(absent)), install(*absent.values()))


def onnx(facts, told):
    paddle_2 = () < facts.paddle < (3,)
    if paddle_2 and facts.error("paddle2onnx") and facts.version("paddle2onnx") >= (2,):
        told.add("paddle2onnx")
        versions = facts.packages["paddle2onnx"], *facts.paddle[:2]
        what = "paddle2onnx %s wants Paddle 3, and %d.%d is installed" % versions
        yield Finding("paddle2onnx 2 with Paddle 2", what, install("paddle2onnx<2"))
    if "onnxruntime" in facts.absent:
        what = "ONNX Runtime is not installed: prediction on a CPU is several times slower without"
        yield Finding("onnxruntime missing", what, install(facts.absent["onnxruntime"]))
    absent = {package: one for package, one in facts.absent_export.items() if package != "onnxruntime"}
    if absent and "training" not in told:
        if "paddle2onnx" in absent and paddle_2:
            absent["paddle2onnx"] = "paddle2onnx<2"
        what = "not installed: %s, without which a network cannot be exported for ONNX Runtime"
        yield Finding("no export", what % ", ".join(sorted(absent)), install(*absent.values()), fault=False)


def does_not_import(facts, told):
    broken = sorted(name for name in PROBED if facts.error(name).startswith("zlib.error") and name not in told)
    if broken and facts.python[:2] == (3, 8) and facts.version("charset-normalizer") >= (3,):
        told.update(broken)
        what = "Paddle's zlib and that of charset_normalizer's compiled files clash; does not import: "
        name = "Paddle 2 with charset_normalizer 3 on Python 3.8"
        yield Finding(name, what + ", ".join(broken), install("charset_normalizer<3"))
    requirements = dependencies.read("base", "train", "onnx")
    for module in PROBED:  # whatever else is there
        if facts.error(module) and module not in told:
            told.add("paddleseg" if module == "cv2" else module)
            package = next(name for name in requirements if dependencies.module_of(name) == module)
            mend = '%s install --force-reinstall --no-deps "%s"' % (pip(), requirements[package])
            yield Finding("%s does not import" % package, "import %s: %s" % (module, facts.error(module)), mend)


def remarks(facts, told):
    version, command = facts.packages.get("paddleseg"), install(dependencies.read("train")["paddleseg"])
    if version not in (None, "2.8.0") and not facts.error("paddleseg"):
        what = "paddleseg %s: the backbones were checked with 2.8.0" % version
        yield Finding("another paddleseg", what, command, fault=False)
    if version and any(facts.version(name) > (4, 6, 1) for name in facts.opencvs):
        what = "paddleseg asks for opencv-python<=4.6.0, which pip reports beside %s; the backbones work with both"
        mend = "leave it; where paddleseg is installed again: " + command
        yield Finding("paddleseg's pin", what % _shown_opencvs(facts), mend, fault=False)
    if facts.paddle[:2] == (3, 3):
        what = "Paddle 3.3's oneDNN kernels fail on exported networks in paddle.inference on a CPU"
        mend = "in programs of yours: config.disable_mkldnn()"
        yield Finding("oneDNN in Paddle Inference", what + "; kdscfnet does not use them", mend, fault=False)


def folders(facts, told):
    if facts.weights_error:
        mend = "export KDSCFNET_WEIGHTS=$HOME/kdscfnet-weights"
        if "ermission" in facts.weights_error:
            mend = "chmod u+w %s   (or use another: %s)" % (shlex.quote(facts.weights), mend)
        what = "nothing can be written to the weights folder %s: %s" % (facts.weights, facts.weights_error)
        yield Finding("weights folder", what, mend)
    full = ["%s has %.1f GB free" % (folder, free / 1e9) for folder, free in facts.free.items() if free < LOW_DISK]
    if full:
        mend = "free some space, or let --output and KDSCFNET_WEIGHTS point to another disk"
        yield Finding("disk full", ", ".join(sorted(full)), mend)


# The order is precedence: what an earlier rule has told, a later one does not tell again.
RULES = (
    *(python_and_numpy, opencv, paddle_packages, system_libraries, paddle_fails, gpus),
    *(packages_missing, onnx, does_not_import, remarks, folders),
)
