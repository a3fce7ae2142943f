#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Memory that a Linux guest gives back: of its own accord what it does not use any more, and what the host asks for; the host has it then.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

INITRAMFS=initramfs-virtio
engine=$(default_engine)
name=doppel-test-balloon-$$

# The guest fills 250 MB and lets go of them, then waits until the balloon is large, and small again.
command='cd /sys/bus/virtio/drivers/virtio_balloon && echo "a balloon: $(echo virtio*)"
mount -t tmpfs -o size=100% none /mnt 2>/dev/null || { mkdir -p /mnt; mount -t tmpfs -o size=100% none /mnt; }
dd if=/dev/zero of=/mnt/x bs=1M count=250 2>/dev/null; sleep 3; rm /mnt/x
free() { awk "/^MemFree/ { print int(\$2 / 1024) }" /proc/meminfo; }
wait_for() { for try in $(seq 300); do [ "$(free)" $1 $2 ] && break; sleep 0.2; done; echo "free $1 $2: $(free)"; }
wait_for -gt 350; wait_for -lt 200; wait_for -gt 350'

resident() { awk '/^Rss:/ { sum += $2 } END { print int(sum / 1024) }' "/proc/$1/smaps_rollup" 2>/dev/null || echo 0; } # PID
pid_of() { "$DOPPEL" list | awk -v name="$name" '$1 == name { print $2 }'; }
# until_resident PID OPERATOR MB SECONDS
until_resident() {
        local tries=$(($4 * 5)) now
        while now=$(resident "$1") && ! test "$now" "$2" "$3"; do
                ((tries-- > 0)) || { echo "$now" && return 1; }
                sleep 0.2
        done
        echo "$now"
}

ask() { # the host's side
        local pid='' tries=300 size
        until [[ $pid ]] || ((tries-- == 0)); do
                sleep 0.1
                pid=$(pid_of)
        done
        size=$(until_resident "$pid" -gt 280 60) && echo "filled"
        size=$(until_resident "$pid" -lt 250 60) && echo "given back"
        sleep 1
        "$DOPPEL" balloon "$name" 300M
        for ((tries = 300; tries; tries--)); do
                size=$("$DOPPEL" balloon "$name")
                [[ $size != $((300 << 20)) ]] || break
                sleep 0.1
        done
        echo "balloon $size"
        sleep 2
        "$DOPPEL" balloon "$name" 0
}
ask >"$scratch/asked" 2>&1 &
asker=$!
boot_linux linux-cloud '' "$command" --engine "$engine" --balloon --name "$name"
wait "$asker" || true
booted balloon
asked=$(<"$scratch/asked")
contains 'what the guest fills the host holds' "$asked" filled
contains 'what it does not use any more it gives back by itself' "$asked" 'given back'
contains 'it gives what the host asks for' "$asked" "balloon $((300 << 20))"
contains 'which it misses then' "$out" 'free -lt 200: '
check 'and gets it back' "$out" test "$(grep -c 'free -gt 350: [34]' <<<"$out")" = 2
capture 10 "$DOPPEL" balloon no-such-machine
equal 'a machine that is not there' "$status" 1
