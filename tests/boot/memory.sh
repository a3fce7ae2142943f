#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The monitor's own memory beside the guest's RAM, under the interpreter: at most 48 MiB with one processor and 10 MiB more for each further one.
# Taken from /proc/PID/smaps after Linux has booted and run programs on all processors: what is resident, without the guest's RAM.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

# shellcheck disable=SC2016
command='for n in $(seq 16); do (seq 3000 | gzip | gzip -d | sort | awk "{ s += \$1 } END { print s }" | sed s/1/2/ | md5sum; find / -xdev | tar cf - -T - 2>/dev/null | wc -c) >/dev/null & done
wait
echo ready
sleep 1000'

# own PID: KiB.
own() { awk '/^[0-9a-f]+-[0-9a-f]+ / { ram = /memfd:doppel-memory/ } /^Rss:/ && !ram { sum += $2 } END { print sum }' "/proc/$1/smaps"; }

measure() { # CPUS
        local limit=$((48 + 10 * ($1 - 1))) began=$SECONDS used
        "$DOPPEL" run --engine interp --cpus "$1" --memory 256M --kernel "$kernel" --initrd "$scratch/initrd" --append "$quiet_append" \
                --serial "file:$scratch/serial" </dev/null >"$scratch/out" 2>&1 &
        child=$!
        until grep -q ready "$scratch/serial" 2>/dev/null; do
                if ! kill -0 "$child" 2>/dev/null || ((SECONDS - began > 120)); then
                        not_ok "$1 processors: the guest gets there" "$(tail -n 3 "$scratch/serial" "$scratch/out")"
                        return
                fi
                sleep 0.2
        done
        used=$(own "$child")
        check "$1 processors: $((used / 1024)) MiB, at most $limit" 'too much' test "$used" -le "$((limit * 1024))"
        kill "$child"
        wait "$child" || true
        child=''
        rm -f "$scratch/serial"
}

if grep -q __asan_init "$DOPPEL"; then
        skip 'memory of the monitor' 'sanitizers have memory of their own'
        exit
fi
kernel=$("$top/tools/guest" linux-cloud)
command_archive "$scratch" <<<"$command"
cat "$("$top/tools/guest" initramfs)" "$scratch/command.cpio" >"$scratch/initrd"
for cpus in 1 2 4; do
        measure "$cpus"
done
