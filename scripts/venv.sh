#!/bin/bash
# Make .venv from the interpreter that owns GNU Radio and install the Python packages into it, none of which may
# bring another numpy than the one GNU Radio was built with: that would end every import of gnuradio.
# usage: venv.sh STAMP   STAMP is written last.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=$1
mkdir -p build
exec 9>build/lock
flock 9

owner=$(scripts/find-python.sh)
numpy=$("$owner" -c 'import numpy; print(numpy.__version__)')
version=$("$owner" -c 'import platform; print(platform.python_version())')
echo "gr-emind: GNU Radio belongs to $owner (Python $version, numpy $numpy)"

# This marker outlives an interrupted run; what such a run left behind is not worth trusting.
marker=build/venv-incomplete
usable() {
    [[ ! -e $marker ]] &&
        grep -qx "version = $version" .venv/pyvenv.cfg &&
        grep -qx 'include-system-site-packages = true' .venv/pyvenv.cfg &&
        .venv/bin/python -c 'import pip, sys; sys.exit(sys.prefix != sys.argv[1])' "$PWD/.venv"
}
if ! usable 2>/dev/null; then
    echo 'gr-emind: making .venv'
    touch "$marker"
    "$owner" -m venv --clear --system-site-packages .venv
fi

touch "$marker"
echo 'gr-emind: installing Python packages (the first time this takes some minutes)'
echo "numpy==$numpy" >.venv/constraints-gnuradio.txt
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint .venv/constraints-gnuradio.txt --constraint constraints.txt --editable '.[openvino,train,test]' 9>&-
.venv/bin/python -c 'from gnuradio import gr; import torch'
mkdir -p "$(dirname "$stamp")"
touch "$stamp"
rm -f "$marker"
