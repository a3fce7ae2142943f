#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Random loops (guest/random.c) come to the same under bt as under the interpreter: registers, memory, and where an exception ended them; also with
# instructions counted, where code is hot after a few runs, and with a second processor that moves pages, takes rights away and writes to code. The
# same for loops of 32-bit code (guest/legacy/random.c), with page tables of either kind.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

build_guests

# loops GUEST FIRST COUNT ENGINE CPUS OPTION...: what comes of them; sets disturbed and moved to what the other processor did.
loops() {
        local guest=$1 first=$2 count=$3 engine=$4 cpus=$5
        shift 5
        capture 120 "$DOPPEL" run --engine "$engine" --cpus "$cpus" --cpu v3 --memory 128M --kernel "$guests/$guest.elf" \
                --append "$first $count $cpus" --debug-exit 0xf4 --debugcon stdio --serial none "$@"
        read -r disturbed moved <<<"$(sed -n 's/^# disturbed \([0-9]*\) times, pages moved \([0-9]*\) times$/\1 \2/p' <<<"$out")"
        out=$(grep -v '^#' <<<"$out")
}

# same NAME: one result, by whether it came to what was expected.
same() {
        if [[ $out == "$expected" ]]; then
                ok "$1"
        else
                not_ok "$1" "status $status; loops that differ, beside the expected:"
                diff <(printf '%s\n' "$out") <(printf '%s\n' "$expected") | head -n 20 || true
                tail -n 5 <<<"$err"
        fi
}

if ! engines | grep -qw bt; then
        skip 'random loops' 'bt cannot run here'
        exit 0
fi
for guest in 'random 10000 300' 'legacy-random 20000 300'; do
        read -r name first count <<<"$guest"
        loops "$name" "$first" "$count" interp 1
        expected=$out
        equal "$name: all are run" "$(grep -c ' left ' <<<"$out")" "$count"
        check "$name: many end by themselves" "$out" test "$(grep -c ' -1 left' <<<"$out")" -gt 80
        check "$name: and many by a page fault, some of them late" "$out" test "$(awk '$2 == 14 && $4 != "1770"' <<<"$out" | wc -l)" -gt 10
        loops "$name" "$first" "$count" bt 1
        same "$name: bt comes to the same"
        loops "$name" "$first" "$count" bt,cache=2M 1 --stats
        same "$name: and with a code cache that is too small"
        check "$name: which was emptied in parts" "$err" test "$(awk '$1 == "bt.evicted.parts" { print $2 }' <<<"$err")" -gt 32
        loops "$name" "$first" "$count" bt 1 --clock instructions
        same "$name: and with instructions counted"
        [[ $name == random ]] || continue
        loops "$name" "$first" "$count" bt 2
        same "$name: and with another processor that disturbs it"
        check "$name: which it does" "$disturbed $moved" test "$disturbed" -gt 1000 -a "$moved" -gt 50
done
