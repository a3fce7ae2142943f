#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux boots under every engine that is usable here, runs a command, and hands back its output and exit status.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

command='uname -sm
printf "tab\there; quote '"'"'\n"
seq 1 3000 | tail -n 1
exit 42'
wanted="Linux x86_64
tab	here; quote '
3000"

for engine in $(engines); do
        boot_linux linux-cloud '' "$command" --engine "$engine"
        equal "$engine: output" "$out" "$wanted"
        equal "$engine: exit status of the command" "$guest" 42
        equal "$engine: doppel's exit status" "$status" 0
        if ((status)); then printf '%s\n' "$err"; fi
done
