#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux boots and runs programs in lockstep: each engine that counts beside the interpreter, equal to the end; with a disk that both write to, each
# to its own copy; with a program whose code is elsewhere in each process; and where somebody types, and a network answers.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

truncate -s 16M "$scratch/disk"
before=$(sha256sum <"$scratch/disk")
mkdir "$scratch/root"
gcc -O1 -fpie -static-pie -o "$scratch/root/anywhere" "$top/tests/boot/anywhere.c" -lm
touch -d @0 "$scratch/root/anywhere"
{ cat "$("$top/tools/guest" initramfs)" && cd "$scratch/root" && echo anywhere | cpio --quiet -o -H newc -R 0:0 --reproducible; } >"$scratch/initramfs"
for engine in $(engines); do
        [[ $engine != interp ]] || continue # it is what the others are compared with
        if ! counts "$engine"; then
                skip "--verify $engine" 'it does not count instructions'
                continue
        fi
        BOOT_SECONDS=280 boot_linux linux-cloud '' 'uname -m; seq 2000 | md5sum' --verify "$engine" --verify-every 50000 --memory 256M
        booted "--verify $engine"
        contains "--verify $engine: they are equal" "$err" 'were equal at each of'
        contains "--verify $engine: the output is there once" "$out" "x86_64
$(seq 2000 | md5sum)"
        if [[ $engine == bt ]]; then
                INITRAMFS="$scratch/initramfs" BOOT_SECONDS=280 boot_linux linux-cloud '' 'for n in 1 2; do /anywhere; /anywhere; done' \
                        --verify bt,cache=2M --verify-every 50000 --memory 256M
                booted '--verify bt,cache=2M'
                contains '--verify bt,cache=2M: they are equal' "$err" 'were equal at each of'
        fi
        INITRAMFS="$scratch/initramfs" BOOT_SECONDS=280 boot_linux linux-cloud '' 'for n in 1 2 3 4 5 6; do /anywhere; /anywhere; done' \
                --verify "$engine" --verify-every 50000 --memory 256M
        booted "--verify $engine: programs at other addresses each time"
        contains "--verify $engine: they are equal" "$err" 'were equal at each of'
        tr -d '\r' <<<"$out" >"$scratch/lines"
        equal "--verify $engine: all compute the same" "$(cut -d ' ' -f 1 "$scratch/lines" | sort | uniq -c | awk '{ print $1 }')" 12
        check "--verify $engine: at several addresses" "$out" test "$(cut -d ' ' -f 2 "$scratch/lines" | sort -u | wc -l)" -gt 6
        INITRAMFS=initramfs-virtio BOOT_SECONDS=280 boot_linux linux-cloud '' 'seq 1000 >/dev/vda && sync && head -c 3893 /dev/vda | md5sum' \
                --verify "$engine" --verify-every 50000 --memory 256M --disk "$scratch/disk,snapshot"
        booted "--verify $engine: a disk"
        contains "--verify $engine: a disk: they are equal" "$err" 'were equal at each of'
        contains "--verify $engine: a disk: what was written is read" "$out" "$(seq 1000 | md5sum | cut -d ' ' -f 1)"
        equal "--verify $engine: a disk: the file is as it was" "$(sha256sum <"$scratch/disk")" "$before"
        start --verify "$engine" --verify-every 50000 --memory 256M --kernel "$("$top/tools/guest" linux-cloud)" \
                --initrd "$("$top/tools/guest" initramfs-virtio)" --append console=ttyS0 --net user
        awaits "--verify $engine: a shell" 250 "/root#"
        press 'seq 20 | md5sum'
        awaits "--verify $engine: it hears what is typed" 60 "$(seq 20 | md5sum)"
        press 'ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ping -c 2 10.0.2.2'
        awaits "--verify $engine: the network answers" 60 '2 packets received'
        press 'poweroff -f'
        ends "--verify $engine: it ends" 60
        contains "--verify $engine: typed at, they are equal" "$(<"$scratch/err")" 'were equal at each of'
done
