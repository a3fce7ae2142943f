#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux finds the PCI bus: by the ACPI tables that the board writes, its functions, their interrupts and the power management ports.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

command='cd /sys/bus/pci/devices
for d in *; do echo "$d $(cat $d/vendor) $(cat $d/device) $(cat $d/class)"; done
cat /proc/ioports
ls -d /sys/firmware/acpi/tables/DSDT
dmesg | grep -E "PNP0A03|LNK|ACPI (BIOS )?Error"
# A disk is taken away and found again: Linux, who places it now, puts its registers elsewhere than the firmware did.
disk=$(basename "$(readlink -f /sys/block/vda/device/..)")
sum() { sha256sum </dev/vda; }
before="$(sum)"; sed 1q $disk/resource >/where
echo 1 >$disk/remove; [ -e /dev/vda ] || echo "the disk is away"
echo 1 >/sys/bus/pci/rescan
for try in $(seq 50); do [ -e /dev/vda ] && break; sleep 0.1; done
[ "$(sum)" = "$before" ] && echo "the disk is back: $before"
sed 1q $disk/resource | cmp -s - /where || echo "at other ports"'
INITRAMFS=initramfs-virtio
head -c 2M /dev/urandom >"$scratch/disk"

for engine in $(engines); do
        boot_linux linux-cloud '' "$command" --engine "$engine" --disk "$scratch/disk"
        # shellcheck disable=SC2154 # lib.sh sets it
        for row in '0000:00:00.0 0x8086 0x1237 0x060000' '0000:00:01.0 0x8086 0x7000 0x060100' \
                '0000:00:01.3 0x8086 0x7113 0x068000'; do
                contains "$engine: the function ${row%% *}" "$out" "$row"
        done
        contains "$engine: ports of the bus" "$out" '0d00-ffff : PCI Bus 0000:00'
        contains "$engine: ports of power management" "$out" '0600-063f : 0000:00:01.3'
        contains "$engine: a disk that is taken away and found again" "$out" $'the disk is away\nthe disk is back: '"$(sha256sum <"$scratch/disk")"
        contains "$engine: whose registers have moved" "$out" 'at other ports'
        contains "$engine: the interrupt links" "$out" 'Interrupt link LNKD configured for IRQ 11'
        if [[ $out == *'ACPI Error'* || $out == *'BIOS Error'* ]]; then
                not_ok "$engine: the ACPI tables hold no fault" "$(grep -aE 'Error' <<<"$out" | head -n 1)"
        else
                ok "$engine: the ACPI tables hold no fault"
        fi
done
