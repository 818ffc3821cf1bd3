#!/bin/bash
# Print the path of the interpreter that owns GNU Radio. It is often not the first python3 on the PATH:
# the programs GNU Radio installed name it in their first line.
set -euo pipefail

candidates=()
for program in grcc gnuradio-companion gr_modtool; do
    file=$(command -v "$program") || continue
    read -r line <"$file" || continue
    line=${line#'#!'}
    read -r interpreter argument _ <<<"$line"
    if [[ $interpreter == */env ]]; then interpreter=$(command -v "$argument") || continue; fi
    candidates+=("$interpreter")
done
candidates+=(/usr/bin/python3 /usr/local/bin/python3)
if path=$(command -v python3); then candidates+=("$path"); fi

for python in "${candidates[@]}"; do
    if "$python" -c 'from gnuradio import gr' 2>/dev/null; then
        echo "$python"
        exit 0
    fi
done
echo "gr-emind: no interpreter can import gnuradio (tried: ${candidates[*]}); install GNU Radio 3.10" >&2
exit 1
