#!/usr/bin/env bash
# The tests on several software stacks, and a table of the outcome:
#   bash scripts/matrix.sh [ROW...] [-- options of pytest]
#
#   paper   Python 3.7,  paddlepaddle-gpu 2.2.0, opencv-python 4.1.1.26: the stack that the authors name
#   py310   Python 3.10, paddlepaddle 2.6.2, numpy 1
#   py312   Python 3.12, paddlepaddle 3.3.1, numpy 1
#   py313   Python 3.13, the newest of everything
#
# Without a ROW: all four. Each row gets an environment of its own under .venv-matrix (another folder:
# KDSCFNET_MATRIX_DIR), made once; KDSCFNET_MATRIX_PAPER, _PY310, _PY312, _PY313 name a Python that is ready instead. A
# test of something that a stack does not have (ONNX Runtime's exporter, say) skips there; the reasons are printed.
# The table also goes to matrix.md in that folder. Exit code 1 if a test failed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$KDSCFNET_ROOT"
folder=${KDSCFNET_MATRIX_DIR:-$KDSCFNET_ROOT/.venv-matrix}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

rows=()
while [ $# -gt 0 ]; do
    case $1 in
        paper | py310 | py312 | py313) rows+=("$1") ;;
        --) shift && break ;;
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}" && exit 0 ;;
        *) die "there is no row '$1': paper, py310, py312, py313; options of pytest come after --" ;;
    esac
    shift
done
if [ ${#rows[@]} -eq 0 ]; then rows=(paper py310 py312 py313); fi

# install VENV VERSION ARGUMENTS-OF-PIP...: makes the environment unless it is there with the same requirements
install() {
    local venv=$1 version=$2 python state
    shift 2
    state="$version $* $(cat requirements/*.txt | cksum)"
    if [ "$(cat "$venv/matrix.stamp" 2>/dev/null)" = "$state" ]; then return; fi
    python=$(find_python "$version") || die "no Python $version with venv found (pyenv: pyenv install $version)"
    say "making $venv"
    "$python" -m venv --clear "$venv" </dev/null
    "$venv/bin/python" -m pip install -q --upgrade pip </dev/null
    pip_install "$venv/bin/python" base evaluate train onnx test -- -q "$@" || die "pip could not install the stack in $venv"
    printf '%s\n' "$state" >"$venv/matrix.stamp"
}

# Paddle 2.2.0 asks the C library for _dl_sym, which glibc dropped in 2.34. A library of one function gives it back.
give_dl_sym_back() {
    local venv=$1
    if [ -x "$venv/python" ]; then return; fi
    command -v gcc >/dev/null || die "the row paper needs gcc once (Debian, Ubuntu: apt-get install gcc libc6-dev)"
    cat >"$venv/dl_sym.c" <<'EOF'
#define _GNU_SOURCE
#include <dlfcn.h>
void *_dl_sym(void *handle, const char *name, void *who) { (void)who; return dlsym(handle, name); }
EOF
    echo 'GLIBC_PRIVATE { global: _dl_sym; };' >"$venv/dl_sym.map"
    gcc -shared -fPIC -Wl,--version-script="$venv/dl_sym.map" -o "$venv/dl_sym.so" "$venv/dl_sym.c" -ldl
    # LD_PRELOAD for this Python (and the processes it starts), not for the shell
    printf '#!/bin/sh\nLD_PRELOAD="%s" exec "%s" "$@"\n' "$venv/dl_sym.so" "$venv/bin/python" >"$venv/python"
    chmod +x "$venv/python"
}

ready() { # ready ROW: the interpreter of a row, in $PYTHON
    local venv=$folder/$1 given
    given=KDSCFNET_MATRIX_$(printf %s "$1" | tr a-z A-Z)
    PYTHON=${!given:-}
    if [ -n "$PYTHON" ]; then return; fi
    case $1 in
        paper)
            install "$venv" 3.7 paddlepaddle-gpu==2.2.0 opencv-python==4.1.1.26 'protobuf<3.21'
            give_dl_sym_back "$venv"
            PYTHON=$venv/python
            ;;
        # Paddle 2.6 was built for numpy 1; paddle2onnx 2 wants Paddle 3
        py310) install "$venv" 3.10 paddlepaddle==2.6.2 'numpy<2' 'paddle2onnx<2' && PYTHON=$venv/bin/python ;;
        py312) install "$venv" 3.12 paddlepaddle==3.3.1 'numpy<2' && PYTHON=$venv/bin/python ;;
        py313) install "$venv" 3.13 'paddlepaddle<3.4' && PYTHON=$venv/bin/python ;;
    esac
}

export PYTHONPATH="$KDSCFNET_ROOT${PYTHONPATH:+:$PYTHONPATH}"
unset PYENV_VERSION
strict=${KDSCFNET_NO_SKIPS:-}
status=0
table=$folder/matrix.md
{
    echo "| stack | Python | Paddle | OpenCV | numpy | PaddleSeg | passed | failed | skipped | seconds |"
    echo "|---|---|---|---|---|---|---|---|---|---|"
} >"$table"
for row in "${rows[@]}"; do
    ready "$row"
    say "== $row: $("$PYTHON" --version 2>&1)"
    rm -f "$folder/$row.xml"
    # a Python that is given may lack pytest-xdist
    workers=$("$PYTHON" -c 'import xdist' 2>/dev/null && echo "-n ${KDSCFNET_TEST_WORKERS:-3} --dist worksteal") || workers=
    # Paddle 2.2 lacks what some tests need
    export KDSCFNET_NO_SKIPS=$strict
    if [ "$row" = paper ]; then KDSCFNET_NO_SKIPS=; fi
    # shellcheck disable=SC2086
    "$PYTHON" -m pytest $workers --junitxml="$folder/$row.xml" "$@" </dev/null || status=1
    "$PYTHON" scripts/matrix_row.py "$row" "$folder/$row.xml" >>"$table" || status=1
done
printf '\n%s\n' "$(date -u +%Y-%m-%d)"
cat "$table"
exit $status
