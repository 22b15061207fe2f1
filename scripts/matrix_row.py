"""One row of the table of scripts/matrix.sh: python scripts/matrix_row.py NAME JUNIT.xml

Exit code 1 where tests failed or no result is there.
"""

import platform
import re
import sys
import xml.etree.ElementTree as ElementTree


def version(*names):
    """The version of the first of these packages that is installed."""
    for name in names:
        try:
            try:
                from importlib.metadata import version as of
            except ImportError:  # Python 3.7
                from pkg_resources import get_distribution

                return "%s %s" % (name, get_distribution(name).version)
            return "%s %s" % (name, of(name))
        except Exception:  # not installed; each of the two has its own error
            continue
    return "none"


def outcome(path):
    """(passed, failed, skipped, seconds) of a junit file, or None where pytest wrote none."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    suites = list(root.iter("testsuite"))

    def total(name):
        return sum(float(suite.get(name, 0)) for suite in suites)

    failed = total("failures") + total("errors")
    passed = total("tests") - failed - total("skipped")
    return int(passed), int(failed), int(total("skipped")), round(total("time"))


def main(name, path):
    paddle = version("paddlepaddle-gpu", "paddlepaddle").replace("paddlepaddle ", "")
    paddle = paddle.replace("paddlepaddle-gpu", "GPU build")
    others = [re.sub(r"^.* ", "", version(package)) for package in ("opencv-python", "numpy", "paddleseg")]
    result = outcome(path)
    cells = [name, platform.python_version(), paddle, *others, *(result or ("-", "no result", "-", "-"))]
    print("| %s |" % " | ".join(map(str, cells)))
    return 0 if result and not result[1] else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
