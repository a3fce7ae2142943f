#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux's drivers for IDE disks, CD-ROM drives and floppies (ata_piix, sd, sr, floppy) read and write images; the host compares them.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

# An odd number of sectors; numbered, so that a sector in a wrong place shows.
numbered() { # FILE SECTORS
        seq -f '%511.0f' "$2" >"$1"
}

sum() { sha256sum | cut -d ' ' -f 1; }

# The guest's part: one line of output a check.
# shellcheck disable=SC2016 # the guest expands it
script='sum() { sha256sum | cut -d " " -f 1; }
while read -r module; do insmod /lib/drivers/$module || exit 1; done </lib/drivers/order
for try in 1 2 3 4 5 6 7 8 9 10; do [ -e /dev/sr0 ] && [ -e /dev/sdb ] && [ -e /dev/fd0 ] && break; sleep 1; done
# Which of them is found first is a matter of chance.
named() { grep -lx "$1" /sys/block/sd?/size | cut -d / -f 4; }
disk=$(named 4099) fat=$(named 65536)
echo "sizes $(cat /sys/block/$disk/size /sys/block/$fat/size /sys/block/sr0/size | tr "\n" " ")"
echo "model $(cat /sys/block/$disk/device/model)"
echo "disk $(sum </dev/$disk)"
echo "backwards $(for i in 3000 2000 1000 1 0; do dd if=/dev/$disk bs=512 skip=$i count=257 2>/dev/null; done | sum)"
seq 100000 140000 | dd of=/dev/$disk bs=300 seek=1000 conv=fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
echo "again $(sum </dev/$disk)"
mkdir /cd /fat
echo "cd $(sum </dev/sr0)"
mount -t iso9660 -o ro /dev/sr0 /cd && echo "iso $(cd /cd && find . -type f | wc -l) $(wc -c </cd/boot/grub/grub.cfg)"
mount -t vfat /dev/${fat}1 /fat && echo "fat $(sum </fat/vmlinuz)"
mkdir /fat/new && seq 100000 >/fat/new/numbers.txt && rm /fat/initrd.img && umount /fat && echo unmounted
echo "dma $(dmesg | grep -c "HARDDISK.*max UDMA/100"), $(dmesg | grep -c "DVD-ROM.*max UDMA/100"), $(cat /sys/class/ata_device/*/xfer_mode | grep -c MW_DMA_2)"
echo "floppy $(sum </dev/fd0)"
seq 20000 >/tmp/numbers
dd if=/tmp/numbers of=/dev/fd0 bs=1k seek=700 conv=fsync 2>/dev/null && echo "floppy written"
dd if=/dev/zero of=/dev/fd1 count=1 conv=fsync 2>/dev/null && echo "floppy B written"
echo "floppy B $(sum </dev/fd1)"
dmesg | grep -iE "error|failed|timeout|exception|reset" | grep -vE "dma_mask|ACPI|PCI: Using|link reset"'

disks() { # ENGINE CPUS
        local folder at=1048576
        folder=$(dirname "$("$top/tools/guest" linux-drivers)")
        numbered "$scratch/numbered" 4099
        cp "$("$top/tools/guest" syslinux-disk)" "$scratch/fat"
        numbered "$scratch/floppy" 2880
        numbered "$scratch/second" 1440
        cp "$scratch/second" "$scratch/kept"
        cat "$("$top/tools/guest" initramfs)" "$folder/drivers.cpio" >"$scratch/initramfs"
        iso=$("$top/tools/guest" grub-cdrom)
        cp "$scratch/numbered" "$scratch/expected"
        seq 100000 140000 | dd of="$scratch/expected" bs=300 seek=1000 conv=notrunc status=none
        INITRAMFS=$scratch/initramfs boot_linux "$folder/vmlinuz" '' "$script" --engine "$1" --cpus "$2" \
                --disk "$scratch/numbered,bus=ide" --disk "$scratch/fat,bus=ide" --cdrom "$iso" \
                --floppy "$scratch/floppy" --floppy "$scratch/second,readonly"
        local wanted
        wanted="sizes 4099 65536 $(($(stat -c %s "$iso") / 512)) 
model DOPPEL HARDDISK 
disk $(numbered /dev/stdout 4099 | sum)
backwards $(for i in 3000 2000 1000 1 0; do numbered /dev/stdout 4099 | dd bs=512 skip=$i count=257 iflag=fullblock status=none; done | sum)
again $(sum <"$scratch/expected")
cd $(sum <"$iso")
iso"
        equal "$1: Linux reads disks and CDs" "$(sed -n '1,/^cd/p' <<<"$out")"$'\niso' "$wanted"
        contains "$1: and a file system on a CD" "$out" $'\niso '
        contains "$1: and one on a disk" "$out" $'\nfat '"$(mtype -i "$scratch/fat@@$at" ::vmlinuz | sum)"
        # The chip is one without Ultra DMA: drives and controller agree on the fastest mode that it has.
        contains "$1: drives and controller have agreed on DMA" "$out" "dma 2, 1, 3"
        contains "$1: it reads a floppy" "$out" "floppy $(numbered /dev/stdout 2880 | sum)"
        contains "$1: and writes one" "$out" 'floppy written'
        contains "$1: not one that may only be read" "$out" "floppy B $(sum <"$scratch/kept")"
        # That its "timeout handler died" is what the driver says when a request comes before it has set the time limit of another.
        equal "$1: the kernel complains of the latter only" "$(sed '1,/^floppy B/d' <<<"$out" | grep -vE 'fd1|old request running' || true)" ''
        equal "$1: the disk is as it should be" "$(sum <"$scratch/numbered")" "$(sum <"$scratch/expected")"
        seq 100000 >"$scratch/numbers"
        check "$1: a file that Linux wrote" 'it differs' cmp -s "$scratch/numbers" <(mtype -i "$scratch/fat@@$at" ::new/numbers.txt)
        check "$1: one that it took away" 'it is there' test -z "$(mdir -b -i "$scratch/fat@@$at" ::initrd.img 2>/dev/null)"
        numbered "$scratch/expected" 2880
        seq 20000 | dd of="$scratch/expected" bs=1k seek=700 conv=notrunc status=none
        check "$1: the floppy is as it should be" 'it differs' cmp -s "$scratch/floppy" "$scratch/expected"
        check "$1: the other is untouched" 'it differs' cmp -s "$scratch/second" "$scratch/kept"
        equal "$1: doppel's exit status" "$status" 0
}

for engine in $(default_engine); do
        disks "$engine" 2
done
