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


def requirements(name):
    lines = (line.strip() for line in read(os.path.join("requirements", name + ".txt")).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


class BuildWithData(build_py):
    """Carries what stands elsewhere in a clone: release, bundled weights, selfcheck's goldens, requirement files."""

    def run(self):
        super().run()
        if getattr(self, "editable_mode", False):
            return
        sources = {
            os.path.join("weights", name): os.path.join("weights", name)
            for name in ("manifest.yaml", "scfnet_mobilenetv3_duts4k.pdparams", "scfnet_mobilenetv3_duts4k.md")
        }
        for name in ("forward.npz", "train.json", "gradients.json", "sensitivities.json", "golden_inputs.py"):
            sources[os.path.join("tests", "golden", name)] = os.path.join("selfcheck", "golden", name)
        for name in os.listdir(os.path.join(ROOT, "requirements")):
            sources[os.path.join("requirements", name)] = os.path.join("_requirements", name)
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
    package_data={"kdscfnet": ["*.yaml", "*.json", "*.html", "*/*.yaml", "*/*.json", "*/*.html"]},
    cmdclass={"build_py": BuildWithData},
    # numpy 1, which this Paddle world needs, has no build for Python 3.13
    python_requires=">=3.7,<3.13",
    install_requires=requirements("base"),
    extras_require={
        **{extra: requirements(extra) for extra in ("cpu", "gpu", "onnx")},
        "dev": requirements("test") + requirements("dev"),
    },
    entry_points={"console_scripts": ["kdscfnet = kdscfnet.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *("Programming Language :: Python :: 3.%d" % minor for minor in range(7, 13)),
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
