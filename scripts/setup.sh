# Sourced by the other scripts: kdscfnet_setup finds or makes a Python that has what KD-SCFNet needs, and names it in
# $PYTHON.
#
# - An active environment (venv or conda), or a python that has Paddle already, as on AI Studio, is used as it is: what
#   lacks is added (scripts/add_missing.py), and nothing that is there is replaced.
# - Otherwise .venv in this folder is made, once, with the newest Python from 3.13 to 3.8 that is found.
#
# KDSCFNET_PYTHON=/path/to/python   make .venv with this one
# KDSCFNET_VENV=/path               use this instead of .venv
# KDSCFNET_PADDLE=cpu|gpu           which Paddle a new .venv gets; default: gpu where nvidia-smi finds a GPU

KDSCFNET_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
KDSCFNET_VENV=${KDSCFNET_VENV:-$KDSCFNET_ROOT/.venv}
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 2; }

fits() { "$1" -c 'import sys; sys.exit(not (3, 7) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }
# found, not imported (that takes seconds); a mere folder named paddle has no origin
has_paddle() {
    "$1" -c 'import sys, importlib.util as util; sys.exit(not getattr(util.find_spec("paddle"), "origin", None))' \
        >/dev/null 2>&1
}

# makes_venvs PYTHON VERSION: whether it runs, is that version, and can make environments
makes_venvs() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$2" >/dev/null 2>&1
}

# find_python VERSION...: prints the first that makes environments. A pyenv shim may be on the PATH and not run; pyenv's
# versions are looked up too.
find_python() {
    local version candidate
    for version in "$@"; do
        for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/"python$version"; do
            if makes_venvs "$candidate" "$version"; then
                printf '%s\n' "$candidate"
                return
            fi
        done
    done
    return 1
}

# The environment that is in use already, if there is one: active, made by somebody else where ours would be, or one
# that has Paddle.
python_in_use() {
    local candidate
    if [ -n "${VIRTUAL_ENV:-}" ] && [ -x "$VIRTUAL_ENV/bin/python" ]; then
        printf '%s\n' "$VIRTUAL_ENV/bin/python"
        return
    fi
    # conda's base environment is active in every shell of many machines: nobody chose it for this
    if [ -n "${CONDA_PREFIX:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" != base ] && [ -x "$CONDA_PREFIX/bin/python" ]; then
        printf '%s\n' "$CONDA_PREFIX/bin/python"
        return
    fi
    if [ ! -e "$KDSCFNET_VENV/kdscfnet-paddle" ] && fits "$KDSCFNET_VENV/bin/python"; then
        printf '%s\n' "$KDSCFNET_VENV/bin/python"
        return
    fi
    for candidate in python python3; do
        if has_paddle "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

make_venv() { # make_venv cpu|gpu
    local python found
    if [ -e "$KDSCFNET_VENV" ] && [ ! -e "$KDSCFNET_VENV/kdscfnet-paddle" ]; then
        # somebody else's, or half made: not ours to clear
        die "$KDSCFNET_VENV is there and is no environment that works: remove it, or name another folder with" \
            "KDSCFNET_VENV=/path, then run this again"
    fi
    if [ -n "${KDSCFNET_PYTHON:-}" ]; then
        python=$KDSCFNET_PYTHON
        fits "$python" || die "KDSCFNET_PYTHON=$python is not a Python from 3.7 to 3.13 that runs"
    else
        local -a versions=(3.13 3.12 3.11 3.10 3.9 3.8)
        # the package index has GPU builds of Paddle up to Python 3.12
        if [ "$1" = gpu ]; then versions=("${versions[@]:1}"); fi
        if ! python=$(find_python "${versions[@]}"); then
            for found in "${versions[@]/#/python}" python3; do
                if fits "$found" && ! "$found" -c 'import venv, ensurepip' >/dev/null 2>&1; then
                    die "$found has no venv module: install it (Debian, Ubuntu: apt-get install $found-venv)," \
                        "then run this again"
                fi
            done
            if [ "$1" = gpu ] && find_python 3.13 >/dev/null; then
                die "the package index has no GPU build of Paddle for Python 3.13: install one with the command of" \
                    "Paddle's installation page in an environment of yours, or take the CPU's: KDSCFNET_PADDLE=cpu"
            fi
            die "no Python from 3.8 to ${versions[0]} found: install one, or name it with KDSCFNET_PYTHON=/path/to/python"
        fi
    fi
    say "making ${KDSCFNET_VENV} with $("$python" --version 2>&1) (once; some minutes, about 2 GB)"
    "$python" -m venv --clear "$KDSCFNET_VENV" </dev/null >&2 ||
        die "could not make $KDSCFNET_VENV: name another folder with KDSCFNET_VENV=/path"
    printf '%s\n' "$1" >"$KDSCFNET_VENV/kdscfnet-paddle"
}

# pip_install PYTHON NAME... -- ARGUMENTS-OF-PIP...: NAMEs are of files in requirements/. ONE command weighs what they ask
# for together. The packages of NAME-no-deps.txt come after it, alone: each would bring another OpenCV or numpy.
pip_install() {
    local python=$1 file
    local -a together=() alone=()
    shift
    for ((; $# > 0; )); do
        if [ "$1" = -- ]; then shift && break; fi
        file=$KDSCFNET_ROOT/requirements/$1
        together+=(-r "$file.txt")
        if [ -e "$file-no-deps.txt" ]; then alone+=(-r "$file-no-deps.txt"); fi
        shift
    done
    "$python" -m pip install "${together[@]}" "$@" </dev/null >&2 &&
        "$python" -m pip install -q --no-deps "${alone[@]}" </dev/null >&2
}

# kdscfnet_setup [NAME...]: NAMEs are of further files in requirements/, besides what training needs.
kdscfnet_setup() {
    local stamp paddle=cpu
    local -a names options=()
    # this clone's code is what runs, from any directory
    export PYTHONPATH="$KDSCFNET_ROOT${PYTHONPATH:+:$PYTHONPATH}"

    if nvidia-smi -L 2>/dev/null | grep '^GPU' >/dev/null; then paddle=gpu; fi
    paddle=${KDSCFNET_PADDLE:-$paddle}
    case $paddle in
        cpu | gpu) names=(base evaluate train "$paddle" onnx "$@") ;;
        *) die "KDSCFNET_PADDLE is '$paddle': cpu or gpu" ;;
    esac

    if PYTHON=$(python_in_use); then
        fits "$PYTHON" || has_paddle "$PYTHON" ||
            die "the active environment has $("$PYTHON" --version 2>&1), and 3.7 to 3.13 are needed: deactivate it," \
                "then run this again"
        "$PYTHON" "$KDSCFNET_ROOT/scripts/add_missing.py" "$paddle" "$@" </dev/null >&2 || exit $?
        return
    fi

    PYTHON=$KDSCFNET_VENV/bin/python
    # the two builds of Paddle overwrite each other, so a change from one to the other is a new environment
    if ! fits "$PYTHON" || [ "$(cat "$KDSCFNET_VENV/kdscfnet-paddle")" != "$paddle" ]; then make_venv "$paddle"; fi
    # One stamp for each set of requirements: written when pip has ended well, compared before anything is started.
    stamp=$KDSCFNET_VENV/kdscfnet-$(printf '%s\n' "${names[@]}" | cksum | cut -d' ' -f1).stamp
    if [ "$(cat "$stamp" 2>/dev/null)" = "$(state)" ]; then return; fi
    say "installing what ${names[*]} need (requirements/) into $KDSCFNET_VENV"
    if [ ! -t 2 ]; then options=(-q); fi
    # pip 21 and older does not know today's wheel tags
    "$PYTHON" -c 'import pip, sys; sys.exit(int(pip.__version__.split(".")[0]) < 22)' </dev/null ||
        "$PYTHON" -m pip install -q --upgrade pip </dev/null >&2
    pip_install "$PYTHON" "${names[@]}" -- -e "$KDSCFNET_ROOT" ${options[@]+"${options[@]}"} ||
        die "pip could not install what ${names[*]} need: its last lines say why; run this again when that is mended"
    state >"$stamp"
}

# What the installation depends on.
state() {
    printf '%s\n' "$KDSCFNET_ROOT"
    cat "$KDSCFNET_ROOT"/setup.py "$KDSCFNET_ROOT"/requirements/*.txt | cksum
}
