"""What this machine has, what is wrong with it, and the command that mends it.

Three steps: `look` gathers facts, and imports nothing that may crash into this process (versions come from the
packages' metadata; whether a module imports is tried in a process of its own); `diagnose` turns facts into findings and
does nothing else; `report` makes the text. Imports the standard library only.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import kdscfnet
from kdscfnet import dependencies
from kdscfnet.files import may_be_written

OPENCVS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
LOW_DISK = 1 << 30  # bytes: a checkpoint of the largest model with its optimizer state is 0.8 GB
# Debian's packages of the libraries that OpenCV and Paddle load
SYSTEM_LIBRARIES = {
    "libGL": "libgl1",
    "libgthread": "libglib2.0-0",
    "libglib": "libglib2.0-0",
    "libSM": "libsm6",
    "libICE": "libice6",
    "libXext": "libxext6",
    "libXrender": "libxrender1",
    "libX11": "libx11-6",
    "libgomp": "libgomp1",
    "libstdc++": "libstdc++6",
}

# What is tried in a process of its own. Each prints one JSON object.
_PRINT = "import json; print('\\n' + json.dumps(info))"
PROBES = {
    "numpy": "import numpy; info = {'version': numpy.__version__}",
    "cv2": "import cv2; info = {'version': cv2.__version__}",
    "paddle": """
import paddle
info = {'version': paddle.__version__, 'cuda': bool(paddle.is_compiled_with_cuda()), 'gpus': []}
if info['cuda']:
    info['cuda_version'] = str(paddle.version.cuda())
    try:
        for index in range(paddle.device.cuda.device_count()):
            one = paddle.device.cuda.get_device_properties(index)
            info['gpus'].append('%s, %.0f GB' % (one.name, one.total_memory / 2 ** 30))
    except Exception as error:
        info['gpu_error'] = str(error).strip().splitlines()[-1]
paddle.set_device('cpu')
assert float(paddle.nn.functional.relu(paddle.ones([2, 2])).sum()) == 4
""",
    "paddleseg": """
import paddleseg
from paddleseg.models.backbones import mobilenetv3, swin_transformer
info = {'version': getattr(paddleseg, '__version__', '')}
""",
    "visualdl": "import visualdl; visualdl.LogWriter; info = {'version': visualdl.__version__}",
    "py_sod_metrics": "import py_sod_metrics; info = {}",
    "onnxruntime": """
import onnxruntime
info = {'version': onnxruntime.__version__, 'providers': onnxruntime.get_available_providers()}
""",
    "paddle2onnx": "import paddle2onnx; info = {}",
}
# Ours; they need numpy and OpenCV
_FILES = """
import os, sys
data, weights = json.loads(sys.argv[1])
from kdscfnet.data.find import find_image_set
from kdscfnet.errors import UserError
from kdscfnet.weights import release
from kdscfnet.weights.weightfile import WeightFile
info = {'sets': [], 'weights': []}
for name in sorted(os.listdir(data)) if os.path.isdir(data) else ():
    folder = os.path.join(data, name)
    if os.path.isdir(folder) and not name.startswith('.'):
        try:
            info['sets'].append(find_image_set(folder, masks='partial').describe())
        except UserError as error:
            info['sets'].append(str(error))
for path in release.weight_files(weights):
    found = WeightFile(path)
    what = found.problem or (found.title if found.entry else ' '.join((found.kind, found.backbone)))
    info['weights'].append('%s (%s)' % (os.path.relpath(str(path), weights), what))
"""


@dataclass
class Probe:
    """What came of a trial in a process of its own. error: its last line, or what ended it; "" where it went well."""

    info: dict = field(default_factory=dict)
    error: str = ""


@dataclass
class Facts:
    """What `look` found. packages: lower-case name → version; absent: modules that are not there, by package."""

    python: tuple
    packages: dict
    probes: dict
    absent: dict
    absent_optional: dict
    gpus: list  # by the driver, whether Paddle can use them or not
    weights: str
    weights_error: str  # why nothing can be written there, "" if it can
    data: str
    files: Probe
    free: dict  # folder → bytes


@dataclass(frozen=True)
class Finding:
    """Something to know. name: short, stable; mend: a command for a shell, or what to do."""

    name: str
    what: str
    mend: str
    fault: bool = True  # False: a note, which leaves the exit code 0


# looking


def look(data="data", weights=None):
    """Gather the facts. Takes a few seconds; writes nothing but a file without a name in the weights folder."""
    required = dependencies.read("base")
    needed = [name for name in PROBES if dependencies.is_there(name)]
    weights = str(weights or os.environ.get("KDSCFNET_WEIGHTS") or _default_weights())
    with ThreadPoolExecutor(2) as pool:
        # the slowest first
        slowest = ("paddleseg", "paddle", "visualdl", "paddle2onnx")
        order = sorted(needed, key=lambda name: slowest.index(name) if name in slowest else len(slowest))
        probes = {name: pool.submit(probe, PROBES[name]) for name in order}
        files = pool.submit(probe, "import json" + _FILES, json.dumps([data, weights]))
        probes = {name: probes[name].result() for name in needed}
        files = files.result()
    return Facts(
        python=tuple(sys.version_info[:3]),
        packages=installed(),
        probes=probes,
        absent=dependencies.lacking(dict(required, **{"paddlepaddle": ""})),
        absent_optional=dependencies.lacking(dependencies.read("onnx")),
        gpus=nvidia_gpus(),
        weights=weights,
        weights_error=write_error(weights),
        data=data,
        files=files,
        free={folder: shutil.disk_usage(folder).free for folder in {_existing("."), _existing(weights)}},
    )


def _default_weights():
    """As kdscfnet.weights.release.weights_folder, which needs numpy."""
    clone = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "weights")
    return clone if not os.path.isdir("weights") and os.path.isfile(os.path.join(clone, "manifest.yaml")) else "weights"


def _existing(folder):
    """The folder, or the nearest one above it that exists."""
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def installed(path=None):
    """Installed packages, lower-case name with dashes → version, from the metadata on the module path; first wins.

    Not by importlib.metadata, which Python 3.7 lacks, nor by pkg_resources, which new setuptools lack.
    """
    found = {}
    for folder in sys.path if path is None else path:
        try:
            entries = sorted(os.listdir(folder or "."))
        except OSError:
            continue
        for entry in entries:
            if entry.endswith(".dist-info"):
                file = os.path.join(folder, entry, "METADATA")
            elif entry.endswith(".egg-info"):
                file = os.path.join(folder, entry)
                file = os.path.join(file, "PKG-INFO") if os.path.isdir(file) else file
            else:
                continue
            try:
                with open(file, encoding="utf-8", errors="replace") as lines:
                    head = dict(re.findall(r"^(Name|Version): *(\S+)", lines.read(4096), re.M))
            except OSError:
                continue
            if len(head) == 2:
                found.setdefault(re.sub(r"[-_.]+", "-", head["Name"]).lower(), head["Version"])
    return found


def probe(code, *arguments, seconds=180):
    """Run `code`, which sets `info`, in a Python of its own. Returns a Probe; never raises."""
    command = [sys.executable, "-W", "ignore", "-c", code + "\n" + _PRINT, *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return Probe(error="no answer in %d seconds" % seconds)
    except OSError as error:
        return Probe(error=str(error))
    if done.returncode < 0:
        return Probe(error="the process was killed by signal %d" % -done.returncode)
    if done.returncode:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        # the error itself, not what some programs print after it
        errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
        return Probe(error=(errors or lines or ["exit code %d" % done.returncode])[-1].strip())
    try:
        return Probe(info=json.loads(done.stdout.decode(errors="replace").splitlines()[-1]))
    except (ValueError, IndexError):
        return Probe(error="it ended without an answer")


def nvidia_gpus():
    """Names of the GPUs that the NVIDIA driver sees."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.decode(errors="replace").split("\n")[:-1] if done.returncode == 0 else []


def write_error(folder):
    """Why no file can be made in the folder (or, if it is not there, in the one it would be in); "" if one can be."""
    if os.path.exists(folder) and not os.path.isdir(folder):
        return "is a file"
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            pass
    except OSError as error:
        return error.strerror or str(error)
    return "" if may_be_written(_existing(folder)) else "permission denied to all but root"


# diagnosing


def pip():
    """How to call the pip of this Python: `python -m pip`, with the whole path where `python` is another one."""
    short = shutil.which("python")
    same = (
        short
        and os.path.realpath(short) == os.path.realpath(sys.executable)
        and (os.path.dirname(short) == os.path.dirname(sys.executable))
    )
    return "%s -m pip" % ("python" if same else shlex.quote(sys.executable))


def install(*requirements):
    return "%s install %s" % (pip(), " ".join('"%s"' % requirement for requirement in requirements))


def major(version):
    """The leading numbers of a version: "3.3.1" → (3, 3, 1)."""
    return tuple(int(part) for part in re.findall(r"\d+", re.match(r"[\d.]*", version).group()))


def diagnose(facts):
    """Findings, faults first. A fault that explains others stands for them."""
    findings = []

    def fault(*args):
        findings.append(Finding(*args))

    def note(*args):
        findings.append(Finding(*args, fault=False))

    base = dependencies.read("base")
    numpy_pin, opencv_pin = base["numpy"], base["opencv-python"]
    packages, failed = facts.packages, {name: probe.error for name, probe in facts.probes.items() if probe.error}
    explained = set()  # modules whose failing has been told

    if not (3, 7) <= facts.python[:2] <= (3, 12):
        fault(
            "python",
            "Python %d.%d.%d: Paddle, OpenCV and numpy 1 have common builds for 3.7 to 3.12" % facts.python,
            "install Python 3.12 and make an environment: python3.12 -m venv .venv && . .venv/bin/activate",
        )

    # OpenCV and numpy
    opencvs = [name for name in OPENCVS if name in packages]
    shown = " and ".join("%s %s" % (name, packages[name]) for name in opencvs)
    new_numpy = major(packages.get("numpy", "1")) >= (2,)
    if len(opencvs) > 1:
        mend = "%s uninstall -y %s && %s" % (pip(), " ".join(opencvs), install(opencv_pin, numpy_pin))
        if major(packages.get("pysodmetrics", "1")) >= (1, 5):  # it brought the second one and would bring it again
            mend = "%s uninstall -y %s pysodmetrics && %s" % (
                pip(),
                " ".join(opencvs),
                install(opencv_pin, numpy_pin, base["pysodmetrics"]),
            )
        fault("two OpenCV packages", "%s are installed, and they overwrite each other's files" % shown, mend)
        explained.add("cv2")
    if new_numpy and any(major(packages[name]) < (4, 10) for name in opencvs):
        fault(
            "numpy 2 with an old OpenCV",
            "numpy %s is installed with %s, which was built for numpy 1 and does not import"
            % (packages["numpy"], shown),
            install(numpy_pin),
        )
        explained.update(("cv2", "paddleseg"))

    # Paddle
    cpu, gpu = packages.get("paddlepaddle"), packages.get("paddlepaddle-gpu")
    if cpu and gpu:
        mend = "%s uninstall -y paddlepaddle paddlepaddle-gpu && %s" % (pip(), install("paddlepaddle-gpu==" + gpu))
        if major(gpu) >= (3,):  # not on the package index
            mend = (
                "%s uninstall -y paddlepaddle paddlepaddle-gpu, then install paddlepaddle-gpu %s with the command of "
                "Paddle's installation page" % (pip(), gpu)
            )
        fault(
            "CPU Paddle over GPU Paddle",
            "paddlepaddle %s and paddlepaddle-gpu %s are both installed, and the one that "
            "came last has overwritten the other" % (cpu, gpu),
            mend,
        )
        explained.update(("paddle", "paddleseg"))
    elif "paddlepaddle" in facts.absent:
        name = "gpu" if facts.gpus else "cpu"
        fault("no Paddle", "PaddlePaddle is not installed", install(*dependencies.read(name).values(), numpy_pin))
        explained.update(("paddle", "paddleseg", "paddle2onnx"))
    elif "paddle" in failed and not explained & {"paddle"}:
        fault("Paddle does not import", "import paddle: %s" % failed["paddle"], _mend_paddle(facts, failed["paddle"]))
        explained.update(("paddle", "paddleseg", "paddle2onnx"))
    paddle = facts.probes.get("paddle", Probe()).info
    if paddle and facts.gpus and not paddle.get("cuda") and not (cpu and gpu):
        note(
            "GPU not used",
            "this machine has %s, and Paddle's CPU build is installed" % ", ".join(facts.gpus),
            "%s uninstall -y paddlepaddle && %s" % (pip(), install(*dependencies.read("gpu").values())),
        )
    if paddle and paddle.get("cuda") and facts.gpus and not paddle.get("gpus"):
        fault(
            "Paddle sees no GPU",
            "this machine has %s, and Paddle, built for CUDA %s, cannot use it: %s"
            % (", ".join(facts.gpus), paddle.get("cuda_version"), paddle.get("gpu_error", "it finds no device")),
            "install the build for your CUDA version with the command of Paddle's installation page",
        )

    # a system library
    for module in ("cv2", "paddle"):
        library = re.search(r"(lib[\w+-]+?)[\w.+-]*\.so[\w.]*: cannot open shared object", failed.get(module, ""))
        if library:
            findings[:] = [one for one in findings if one.name != "Paddle does not import"]
            name = re.match(r"lib[A-Za-z+]+\d*?(?=$|[-.\d])", library.group(0)).group()
            file = library.group(0).split(":")[0]
            mend = "apt-get install -y %s" % SYSTEM_LIBRARIES.get(name, "apt-file && apt-file search %s" % file)
            if module == "cv2":
                mend = "apt-get install -y libgl1 libglib2.0-0" if name in ("libGL", "libgthread", "libglib") else mend
                mend += "   (without root: %s uninstall -y %s && %s)" % (
                    pip(),
                    " ".join(opencvs),
                    install(opencv_pin.replace("python", "python-headless"), numpy_pin),
                )
            fault(
                "no %s" % name,
                "%s needs the system's %s, which is not there" % ({"cv2": "OpenCV", "paddle": "Paddle"}[module], file),
                mend,
            )
            explained.update((module, "paddleseg"))

    # whatever else is missing or does not import
    absent = {package: requirement for package, requirement in facts.absent.items() if package != "paddlepaddle"}
    if absent:
        fault("packages missing", "not installed: %s" % ", ".join(sorted(absent)), install(*absent.values(), numpy_pin))
    optional = dict(facts.absent_optional)
    paddle_2 = major(cpu or gpu or "3") < (3,)
    if paddle_2 and "paddle2onnx" in optional:
        optional["paddle2onnx"] = "paddle2onnx<2"
    if paddle_2 and "paddle2onnx" in failed and major(packages.get("paddle2onnx", "1")) >= (2,):
        fault(
            "paddle2onnx 2 with Paddle 2",
            "paddle2onnx %s wants Paddle 3, and %s is installed" % (packages["paddle2onnx"], cpu or gpu),
            install("paddle2onnx<2", numpy_pin),
        )
        explained.add("paddle2onnx")
    if "onnxruntime" in optional:
        fault(
            "onnxruntime missing",
            "ONNX Runtime is not installed: prediction on a CPU is several times slower without",
            install(*optional.values(), numpy_pin),
        )
    elif optional:
        note(
            "no export",
            "not installed: %s, without which a network cannot be exported for ONNX Runtime"
            % ", ".join(sorted(optional)),
            install(*optional.values(), numpy_pin),
        )
    broken = sorted(name for name, error in failed.items() if error.startswith("zlib.error"))
    if broken and facts.python[:2] == (3, 8) and major(packages.get("charset-normalizer", "0")) >= (3,):
        fault(
            "Paddle 2 with charset_normalizer 3 on Python 3.8",
            "Paddle's zlib and that of charset_normalizer's compiled files clash; does not import: "
            + ", ".join(broken),
            install("charset_normalizer<3"),
        )
        explained.update(broken)
    if "numpy" in failed:
        explained.update(facts.probes)
        fault(
            "numpy does not import",
            "import numpy: %s" % failed["numpy"],
            "%s install --force-reinstall --no-deps %s" % (pip(), '"%s"' % numpy_pin),
        )
    if "cv2" in failed:
        explained.add("paddleseg")
    requirements = dict(base, **dependencies.read("onnx"))
    for package, requirement in requirements.items():
        module = dependencies.module_of(package)
        if module in failed and module not in explained:
            fault(
                "%s does not import" % package,
                "import %s: %s" % (module, failed[module]),
                '%s install --force-reinstall --no-deps "%s"' % (pip(), requirement),
            )
    if packages.get("paddleseg", "2.8.0") != "2.8.0" and "paddleseg" not in failed:
        note(
            "another paddleseg",
            "paddleseg %s: the backbones were checked with 2.8.0" % packages["paddleseg"],
            '%s install --no-deps "%s"' % (pip(), base["paddleseg"]),
        )

    # folders
    if facts.weights_error:
        other = "or use another: export KDSCFNET_WEIGHTS=$HOME/kdscfnet-weights"
        mend = "chmod u+w %s   (%s)" % (shlex.quote(facts.weights), other)
        if "ermission" not in facts.weights_error:
            mend = "export KDSCFNET_WEIGHTS=$HOME/kdscfnet-weights"
        fault(
            "weights folder",
            "nothing can be written to the weights folder %s: %s" % (facts.weights, facts.weights_error),
            mend,
        )
    for folder, free in sorted(facts.free.items()):
        if free < LOW_DISK:
            fault(
                "disk full",
                "%s has %.1f GB free" % (folder, free / 1e9),
                "free some space, or let --output and KDSCFNET_WEIGHTS point to another disk",
            )
    return sorted(findings, key=lambda finding: not finding.fault)


def _mend_paddle(facts, error):
    """The command for a Paddle that does not import, by what it says."""
    version = facts.packages.get("paddlepaddle-gpu") or facts.packages.get("paddlepaddle") or ""
    numpy_pin = dependencies.read("base")["numpy"]
    if "Descriptors cannot" in error or "protobuf" in error:
        return install("protobuf<3.21")
    if major(facts.packages.get("numpy", "1")) >= (2,) and major(version) < (3,):
        return install(numpy_pin)
    kind = "gpu" if "paddlepaddle-gpu" in facts.packages else "cpu"
    if "_dl_sym" in error:  # Paddle before 2.3 on glibc 2.34 and newer
        package, requirement = next(iter(dependencies.read(kind).items()))
        return install(requirement.replace(">=2.2", ">=2.5"), numpy_pin)
    return "%s install --force-reinstall %s" % (
        pip(),
        " ".join('"%s"' % one for one in [*dependencies.read(kind).values(), numpy_pin]),
    )


# reporting


def describe(facts):
    """What is there, as (title, text) in the order of printing."""

    def version(package):
        module = dependencies.module_of(package)
        probe = facts.probes.get(module)
        if probe is None:
            return "-"
        text = probe.info.get("version") or facts.packages.get(package, "")
        return "%s (does not import)" % text if probe.error else text or "there"

    paddle = facts.probes.get("paddle", Probe()).info
    kind = "-"
    if paddle:
        kind = "%s, CPU build" % paddle["version"]
        if paddle["cuda"]:
            kind = "%s, GPU build (CUDA %s): %s" % (
                paddle["version"],
                paddle["cuda_version"],
                "; ".join(paddle["gpus"]) or "no GPU that it can use",
            )
    elif "paddle" in facts.probes:
        kind = "%s (does not import)" % (facts.packages.get("paddlepaddle-gpu") or facts.packages.get("paddlepaddle"))
    opencvs = [name for name in OPENCVS if name in facts.packages]
    lines = [
        ("kdscfnet", "%s in %s" % (kdscfnet.__version__, os.path.dirname(os.path.abspath(kdscfnet.__file__)))),
        (
            "system",
            "%s, %d cores, %s" % (platform.platform(), os.cpu_count() or 1, ", ".join(facts.gpus) or "no NVIDIA GPU"),
        ),
        ("Python", "%d.%d.%d, %s" % (*facts.python, sys.executable)),
        ("Paddle", kind),
        ("OpenCV", "%s%s" % (version("opencv-python"), " (%s)" % ", ".join(opencvs) if opencvs else "")),
    ]
    for package in ("numpy", "paddleseg", "visualdl", "pysodmetrics", "onnxruntime", "paddle2onnx"):
        lines.append((package, version(package)))
    files = facts.files.info
    not_read = "not looked through: %s" % facts.files.error if facts.files.error else "nothing there"
    lines.append(
        ("weights", "%s: %s" % (os.path.abspath(facts.weights), "; ".join(files.get("weights", ())) or not_read))
    )
    lines.append(("data sets", "%s: %s" % (os.path.abspath(facts.data), "; ".join(files.get("sets", ())) or not_read)))
    lines.append(
        (
            "disk space",
            "; ".join("%.1f GB free in %s" % (free / 1e9, folder) for folder, free in sorted(facts.free.items())),
        )
    )
    return lines


def report(facts, findings):
    """The whole as text."""
    lines = ["%-13s %s" % line for line in describe(facts)]
    faults = [finding for finding in findings if finding.fault]
    lines.append("")
    for number, finding in enumerate(findings, 1):
        lines.append("%d. %s%s: %s" % (number, "" if finding.fault else "(a note) ", finding.name, finding.what))
        lines.append("   %s" % finding.mend)
    lines.append(
        "%d problem%s found" % (len(faults), "" if len(faults) == 1 else "s") if faults else "no problem found"
    )
    return "\n".join(lines)


def as_json(facts, findings):
    """The whole as a dict."""
    return {
        "ok": not any(finding.fault for finding in findings),
        "found": dict(describe(facts)),
        "findings": [vars(finding) for finding in findings],
    }
