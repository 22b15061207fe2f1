"""Packaging. Every requirement stands once, in requirements/*.txt, with its reason."""

import os
import re
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = os.path.dirname(os.path.abspath(__file__))


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def requirements(*names):
    lines = [line.strip() for name in names for line in read(os.path.join("requirements", name + ".txt")).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def bundled():
    """Files that the manifest names: the bundled student's, with notes and exported network, and backbones."""
    manifest = read(os.path.join("weights", "manifest.yaml"))
    name = re.search(r"^bundled:.*?^  file: (\S+)\.pdparams$", manifest, re.M | re.S).group(1)
    names = [name + suffix for suffix in (".pdparams", ".md", ".onnx", ".onnx.json")]
    starts = re.findall(r"^    file: (\S+)$", manifest.split("\nstarts:")[1].split("\n\n")[0], re.M)
    return [os.path.join("weights", name) for name in names + starts]


class BuildWithData(build_py):
    """Carries what stands elsewhere in a clone: release, bundled student, goldens, requirement files, the page."""

    def run(self):
        super().run()
        if getattr(self, "editable_mode", False):
            return
        sources = {source: source for source in [os.path.join("weights", "manifest.yaml"), *bundled()]}
        for name in ("forward.npz", "train.json", "gradients.json", "sensitivities.json", "golden_inputs.py"):
            sources[os.path.join("tests", "golden", name)] = os.path.join("selfcheck", "golden", name)
        for name in os.listdir(os.path.join(ROOT, "requirements")):
            sources[os.path.join("requirements", name)] = os.path.join("_requirements", name)
        for folder, folders, names in os.walk(os.path.join(ROOT, "web")):
            folders[:] = set(folders) - {"node_modules"}
            for name in names:
                source = os.path.relpath(os.path.join(folder, name), ROOT)
                sources[source] = os.path.join("_web", os.path.relpath(source, "web"))
        for source, target in sources.items():
            target = os.path.join(self.build_lib, "kdscfnet", target)
            self.mkpath(os.path.dirname(target))
            shutil.copyfile(os.path.join(ROOT, source), target)


setup(
    name="kdscfnet",
    version=re.search(r'__version__ = "(.+?)"', read(os.path.join("kdscfnet", "__init__.py"))).group(1),
    description="Salient object detection by knowledge distillation (KD-SCFNet, ECCV 2022) in PaddlePaddle",
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["kdscfnet", "kdscfnet.*"]),
    package_data={"kdscfnet": ["py.typed", "*.yaml", "*.json", "*.html", "*/*.yaml", "*/*.json", "*/*.html"]},
    cmdclass={"build_py": BuildWithData},
    # Paddle has no build for Python 3.14
    python_requires=">=3.7,<3.14",
    install_requires=requirements("base"),
    extras_require={
        "evaluate": requirements("evaluate"),
        "train": requirements("evaluate", "train"),
        "cpu": requirements("evaluate", "train", "cpu"),
        "gpu": requirements("evaluate", "train", "gpu"),
        "onnx": requirements("onnx"),
        "dev": requirements("test", "dev"),
    },
    entry_points={"console_scripts": ["kdscfnet = kdscfnet.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *("Programming Language :: Python :: 3.%d" % minor for minor in range(7, 14)),
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
