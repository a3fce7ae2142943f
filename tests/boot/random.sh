#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Random loops (guest/random.c) come to the same under bt as under the interpreter: registers, memory, and where an exception ended them; and
# also with instructions counted, where code is hot after a few runs.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

build_guests

# loops ENGINE OPTION...: what comes of a few hundred.
loops() {
        local engine=$1
        shift
        capture 120 "$DOPPEL" run --engine "$engine" --cpu v3 --memory 128M --kernel "$guests/random.elf" --append '10000 400' --debug-exit 0xf4 \
                --debugcon stdio --serial none "$@"
}

if ! engines | grep -qw bt; then
        skip 'random loops' 'bt cannot run here'
        exit 0
fi
loops interp
expected=$out
check 'many end by themselves' "$out" test "$(grep -c ' -1 left' <<<"$out")" -gt 150
check 'and many by a page fault, some of them late' "$out" test "$(awk '$2 == 14 && $4 != "1770"' <<<"$out" | wc -l)" -gt 15
loops bt
equal 'bt comes to the same' "$out" "$expected"
loops bt --clock instructions
equal 'and with instructions counted' "$out" "$expected"
