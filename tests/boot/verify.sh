#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux boots and runs programs in lockstep: each engine that counts beside the interpreter, equal to the end.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

for engine in $(engines); do
        if ! counts "$engine"; then
                skip "--verify $engine" 'it does not count instructions'
                continue
        fi
        BOOT_SECONDS=280 boot_linux linux-cloud '' 'uname -m; seq 2000 | md5sum' --verify "$engine" --verify-every 50000 --memory 256M
        booted "--verify $engine"
        contains "--verify $engine: they are equal" "$err" 'were equal at each of'
        contains "--verify $engine: the output is there once" "$out" "x86_64
$(seq 2000 | md5sum)"
done
