#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Random loops (guest/random.c) come to the same under bt as under the interpreter: registers, memory, and where an exception ended them; also with
# instructions counted, where code is hot after a few runs, and with a second processor that moves pages, takes rights away and writes to code.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

build_guests

# loops ENGINE CPUS OPTION...: what comes of a few hundred; sets disturbed and moved to what the other processor did.
loops() {
        local engine=$1 cpus=$2
        shift 2
        capture 120 "$DOPPEL" run --engine "$engine" --cpus "$cpus" --cpu v3 --memory 128M --kernel "$guests/random.elf" --append "10000 400 $cpus" \
                --debug-exit 0xf4 --debugcon stdio --serial none "$@"
        read -r disturbed moved <<<"$(sed -n 's/^# disturbed \([0-9]*\) times, pages moved \([0-9]*\) times$/\1 \2/p' <<<"$out")"
        out=$(grep -v '^#' <<<"$out")
}

if ! engines | grep -qw bt; then
        skip 'random loops' 'bt cannot run here'
        exit 0
fi
loops interp 1
expected=$out
check 'many end by themselves' "$out" test "$(grep -c ' -1 left' <<<"$out")" -gt 100
check 'and many by a page fault, some of them late' "$out" test "$(awk '$2 == 14 && $4 != "1770"' <<<"$out" | wc -l)" -gt 15
loops bt 1
equal 'bt comes to the same' "$out" "$expected"
loops bt 1 --clock instructions
equal 'and with instructions counted' "$out" "$expected"
loops bt 2
equal 'and with another processor that disturbs it' "$out" "$expected"
check 'which it does' "$disturbed $moved" test "$disturbed" -gt 1000 -a "$moved" -gt 50
loops bt 2 --clock instructions
equal 'and with another processor, and instructions counted' "$out" "$expected"
check 'which disturbs it, too' "$disturbed $moved" test "$disturbed" -gt 1000 -a "$moved" -gt 50
