#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux drives the virtio devices: what it writes to a disk is on the host's, what it reads is what the host put there, and it finds random
# numbers.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

INITRAMFS=initramfs-virtio
sectors=16384

# What the guest does: checksums of what the host wrote, then writes of its own, on all queues at once.
disk_command='cat /sys/block/vda/serial; echo
cat /sys/block/vda/size /sys/block/vda/ro
sha256sum </dev/vda
for part in 0 1 2 3; do
        yes "part $part" | dd of=/dev/vda bs=1M seek=$part count=1 iflag=fullblock 2>/dev/null &
done
wait
blkdiscard -o 5242880 -l 1048576 /dev/vda
sync
echo 3 >/proc/sys/vm/drop_caches
sha256sum </dev/vda
echo locked >/dev/vdb 2>/dev/null || echo "vdb is read only"
grep -c virtio /proc/interrupts
dd if=/dev/hwrng bs=64 count=16 2>/dev/null | gzip -c | wc -c'

for engine in $(engines); do
        head -c $((sectors * 512)) /dev/urandom >"$scratch/disk"
        before=$(sha256sum <"$scratch/disk")
        head -c 1M /dev/zero >"$scratch/locked"
        boot_linux linux-cloud '' "$disk_command" --engine "$engine" --cpus 2 --rng --disk "$scratch/disk,serial=one-two,queues=2" \
                --disk "$scratch/locked,readonly"
        booted "$engine: virtio"
        after=$(sha256sum <"$scratch/disk")
        # shellcheck disable=SC2154 # lib.sh sets it
        mapfile -t lines <<<"$out"
        equal "$engine: the disk's serial number" "${lines[0]}" one-two
        equal "$engine: the disk's size" "${lines[1]} ${lines[2]}" "$sectors 0"
        equal "$engine: the guest reads what the host wrote" "${lines[3]}" "$before"
        equal "$engine: the host reads what the guest wrote" "${lines[4]}" "$after"
        contains "$engine: a disk that is read only" "$out" 'vdb is read only'
        check "$engine: random numbers" "${lines[7]-none} bytes" test "${lines[7]-0}" -gt 1000
done
