#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux boots and runs programs in lockstep: each engine that counts beside the interpreter, equal to the end; and with a disk that both write to, each
# to its own copy.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

truncate -s 16M "$scratch/disk"
before=$(sha256sum <"$scratch/disk")
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
        INITRAMFS=initramfs-virtio BOOT_SECONDS=280 boot_linux linux-cloud '' 'seq 1000 >/dev/vda && sync && head -c 3893 /dev/vda | md5sum' \
                --verify "$engine" --verify-every 50000 --memory 256M --disk "$scratch/disk,snapshot"
        booted "--verify $engine: a disk"
        contains "--verify $engine: a disk: they are equal" "$err" 'were equal at each of'
        contains "--verify $engine: a disk: what was written is read" "$out" "$(seq 1000 | md5sum | cut -d ' ' -f 1)"
        equal "--verify $engine: a disk: the file is as it was" "$(sha256sum <"$scratch/disk")" "$before"
done
