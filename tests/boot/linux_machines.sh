#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux in machines of many kinds: without ACPI and APICs, with several processors, with little memory and with much.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

# The 8259s and the 8254 are all there is. Nothing can switch such a machine off: it is reset instead.
without_acpi() { # ENGINE
        boot_linux linux-cloud 'acpi=off noapic nolapic reboot=k' \
                'cat /proc/interrupts; sleep 1; grep -w timer /proc/interrupts; stty -F /dev/ttyS0 sane; debug-port 0; reboot -f' \
                --engine "$1"
        booted "$1: without ACPI and APICs, ended by the keyboard controller"
        mapfile -t ticks < <(awk '$3 == "XT-PIC" && $NF == "timer" { print $2 }' <<<"$out")
        equal "$1: without APICs: the timer's line is the 8259's" "${#ticks[@]}" 2
        # An idle kernel asks for few.
        check "$1: without APICs: the timer ticks" "${ticks[*]}" test "$((${ticks[1]:-0} - ${ticks[0]:-0}))" -ge 10
}

# shellcheck disable=SC2016 # the guest expands it
# Eight processes that must agree: texts through gzip and back, sums, pipes between processors.
processors() { # ENGINE
        boot_linux linux-cloud '' 'nproc
for i in 0 1 2 3; do taskset -c $i sh -c "grep ^processor /proc/cpuinfo | wc -l"; done
for n in 1 2 3 4 5 6 7 8; do
        (seq 20000 | gzip | gzip -d | (i=$n; while [ $i -lt 2000 ]; do i=$((i + 1)); done; cat) | md5sum >/tmp/$n) &
done
wait
cat /tmp/[1-8] | sort | uniq -c
grep LOC: /proc/interrupts
dmesg | grep -E "BUG:|WARNING:|stall|lockup|not responding"' --cpus 4 --engine "$1"
        # The last command of it finds nothing, which is its status.
        equal "$1: 4 processors: the kernel complains of nothing" "$guest" 1
        equal "$1: 4 processors: doppel's exit status" "$status" 0
        equal "$1: 4 processors: nproc, and a process on each" "$(head -n 5 <<<"$out" | tr '\n' ' ')" '4 4 4 4 4 '
        equal "$1: 4 processors: eight processes have the same sum" "$(sed -n 6p <<<"$out" | tr -s ' ')" \
                " 8 $(seq 20000 | md5sum | tr -s ' ')"
        equal "$1: 4 processors: each has timer interrupts" \
                "$(awk '$1 == "LOC:" { print ($2 > 10) + ($3 > 10) + ($4 > 10) + ($5 > 10) }' <<<"$out")" 4
        if [[ $guest != 1 ]]; then printf '%s\n' "$out" "$err"; fi
}

little_memory() { # ENGINE
        local enough
        boot_linux linux-cloud '' true --engine "$1" --memory 48M
        equal "$1: too little memory is said before the start" "$status" 1
        enough=$(sed -n 's/.*use --memory \([0-9]*[MG]\)$/\1/p' <<<"$err")
        check "$1: too little memory: the message has a size that would do" "$err" test -n "$enough"
        boot_linux linux-cloud '' 'seq 200000 >/tmp/a; md5sum </tmp/a' --engine "$1" --memory "${enough:-128M}"
        booted "$1: $enough of memory"
        equal "$1: $enough of memory: sums" "$out" "$(seq 200000 | md5sum)"
}

# shellcheck disable=SC2016
# A file of the guest lies in the highest memory first: the count of free pages there says that it did.
much_memory() { # ENGINE
        boot_linux linux-cloud '' 'awk "/MemTotal/ { print int(\$2 / 1024 / 100) }" /proc/meminfo
grep "^1.*System RAM" /proc/iomem
high() { awk "/zone +Normal/ { f = 1 } f && /nr_free_pages/ { print \$2; exit }" /proc/zoneinfo; }
seq 100000 >/tmp/b
a=$(high); for i in $(seq 80); do cat /tmp/b; done >/tmp/a; b=$(high)
[ $((a - b)) -gt 10000 ] && echo high
md5sum </tmp/a' --engine "$1" --memory 5G
        booted "$1: 5 GiB of memory"
        equal "$1: 5 GiB of memory: seen, and used above 4 GiB" "$out" \
                $'49\n100000000-17fffffff : System RAM\nhigh\n'"$(for _ in $(seq 80); do seq 100000; done | md5sum)"
}

for engine in $(engines); do
        without_acpi "$engine"
        processors "$engine"
        little_memory "$engine"
        much_memory "$engine"
done
