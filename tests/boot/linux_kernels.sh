#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Debian's full kernel and its two 32-bit ones; and two machines at once.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

# release KERNEL: its name for itself stands in the image, behind the offset that the header has at 20eh. boot.rst of Linux
release() {
        local file at
        file=$("$top/tools/guest" "$1")
        at=$((512 + $(od -An -tu2 -j $((0x20e)) -N 2 "$file")))
        tail -c +$((at + 1)) "$file" | head -c 100 | tr '\0' '\n' | head -n 1 | cut -d ' ' -f 1
}

kernels() { # ENGINE
        boot_linux linux-amd64 '' 'uname -rm' --engine "$1"
        booted "$1: linux-amd64"
        equal "$1: linux-amd64: its name" "$out" "$(release linux-amd64) x86_64"
        # Half of the time to a 32-bit shell is the kernel's own tests of its ciphers, big numbers in 32-bit pieces.
        for kernel in linux-686 linux-686-pae; do
                INITRAMFS=initramfs-i386 boot_linux "$kernel" 'cryptomgr.notests' \
                        'uname -rm; grep -cw pae /proc/cpuinfo; seq 30000 | sha256sum' --engine "$1"
                booted "$1: $kernel"
                equal "$1: $kernel: its name, and sums" "$out" \
                        "$(release "$kernel") i686"$'\n1\n'"$(seq 30000 | sha256sum)"
        done
}

# machine NAME ENGINE: one of two; what it prints depends on its name.
machine() {
        scratch=$scratch/$1
        mkdir "$scratch"
        boot_linux linux-cloud '' "for i in \$(seq 300); do echo $1 \$i; done; echo $1 | md5sum" --engine "$2" --name "$1"
        printf '%s\n' "$status $guest" "$out" >"$scratch/result"
}

two_machines() { # ENGINE
        local name first
        rm -rf "$scratch/east" "$scratch/west"
        machine east "$1" & first=$!
        machine west "$1"
        wait "$first"
        for name in east west; do
                scratch=${scratch%/west}
                equal "$1: two machines: $name has what it wrote" "$(cat "$scratch/$name/result")" \
                        "0 0"$'\n'"$(for i in $(seq 300); do echo "$name $i"; done; echo "$name" | md5sum)"
        done
}

for engine in $(engines); do
        kernels "$engine"
        two_machines "$engine"
done
