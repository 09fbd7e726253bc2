#!/bin/sh
# Sets up .venv for `make`: lab (what a learner needs), dev (adds the tests' tools) or bench
# (adds the peers to measure against). Uses uv where it works, else venv and pip.
# `UV=` does without uv; `PYTHON=` chooses the interpreter.
set -eu
cd "$(dirname "$0")/.."
what=$1
venv_python=.venv/bin/python

say() { printf '%s\n' "$*" >&2; }
stop() { say "kmemkit: $*"; exit 1; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        new_enough "$PYTHON" || stop "PYTHON=$PYTHON is not a Python of 3.11 or newer, as kmemkit needs."
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if new_enough "$candidate"; then echo "$candidate"; return; fi
    done
    if command -v python3 >/dev/null 2>&1; then
        stop "python3 is $(python3 --version 2>&1); kmemkit needs Python 3.11 or newer. Install one, or install uv, which brings its own."
    fi
    stop "there is no Python here. On Debian or Ubuntu: apt-get install python3 python3-venv"
}

# Debian ships the venv module without the ensurepip that it needs.
need_ensurepip() {
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1 && return
    package=python3-venv
    [ "$1" = python3 ] || package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    stop "$1 cannot make a virtual environment: its ensurepip module is missing. On Debian or Ubuntu: apt-get install $package"
}

groups=""
[ "$what" = lab ] || groups="--group dev"
[ "$what" = bench ] && groups="$groups --group bench"
unfinished="kmemkit: the set-up did not finish; the lines above say why. The same command tries again."

if [ -n "${UV-uv}" ] && "${UV:=uv}" --version >/dev/null 2>&1; then
    trap '[ $? = 0 ] || say "$unfinished"' EXIT
    say "[1/2] .venv, with $("$UV" --version)"
    "$venv_python" -c '' 2>/dev/null || "$UV" venv --quiet --clear --python "${PYTHON:->=3.11}" .venv
    say "[2/2] kmemkit and what it needs"
    # shellcheck disable=SC2086
    "$UV" pip install --python "$venv_python" --editable . $groups
else
    python=$(find_python)
    need_ensurepip "$python"
    trap '[ $? = 0 ] || say "$unfinished"' EXIT
    say "[1/2] .venv, with $("$python" --version 2>&1) and pip"
    "$venv_python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv
    say "[2/2] kmemkit and what it needs (about a minute)"
    # Dependency groups need pip 25.1.
    "$venv_python" -m pip install --quiet --upgrade "pip>=25.1"
    # shellcheck disable=SC2086
    "$venv_python" -m pip install --editable . $groups
fi

touch .venv/ready-lab
case $what in dev | bench) touch .venv/ready-dev ;; esac
case $what in bench) touch .venv/ready-bench ;; esac
