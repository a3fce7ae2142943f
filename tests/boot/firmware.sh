#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Firmware from the reset vector on: a ROM of our own, SeaBIOS until it finds nothing to boot, U-Boot to its prompt and through a reset.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

own_rom() { # ENGINE
        local line
        capture 60 "$DOPPEL" run --engine "$1" --memory 16M --bios "$guests/pam.rom" --debugcon stdio --serial none --debug-exit 0xf4
        while IFS= read -r line; do
                case $line in
                'ok '*) ok "$1: pam: ${line#ok }" ;;
                *) not_ok "$1: pam: ${line#not ok }" ;;
                esac
        done <<<"$out"
        equal "$1: pam: the guest ended" "$status" 1
}

sea_bios() { # ENGINE CPUS
        local log=$scratch/log
        start --engine "$1" --cpus "$2" --bios "$seabios" --bios-log "file:$log"
        awaits "$1: SeaBIOS with $2 processors: its banner" 60 'SeaBIOS (version '
        awaits "$1: SeaBIOS with $2 processors: finds nothing to boot" 60 'No bootable device.'
        stop
        contains "$1: SeaBIOS with $2 processors: finds them" "$(<"$log")" "Found $2 cpu(s)"
        contains "$1: SeaBIOS with $2 processors: the memory map" "$(<"$log")" \
                '0000000000100000 - 000000001ffff000 = 1 RAM'
        contains "$1: SeaBIOS with $2 processors: the ACPI tables" "$(<"$log")" 'ACPI: parse DSDT at'
        contains "$1: SeaBIOS with $2 processors: the PM timer" "$(<"$log")" 'Using pmtimer, ioport 0x608'
}

u_boot() { # ENGINE GUEST BITS
        start --engine "$1" --cpus 2 --bios "$("$top/tools/guest" "$2")"
        if await 60 'stop autoboot'; then press ''; fi
        awaits "$1: U-Boot, $3 bits: the prompt" 60 '=> '
        press 'pci'
        awaits "$1: U-Boot, $3 bits: the host bridge" 30 '00.00.00   0x8086     0x1237'
        press 'qfw list'
        awaits "$1: U-Boot, $3 bits: files of fw_cfg" 30 'etc/acpi/tables'
        press 'qfw cpus'
        awaits "$1: U-Boot, $3 bits: processors" 30 '2 cpu(s) online'
        press 'reset'
        awaits "$1: U-Boot, $3 bits: comes back after a reset" 60 'stop autoboot' 2
        stop
}

# The 32-bit one reads a file of a FAT file system on an IDE disk.
u_boot_disk() { # ENGINE
        local disk size sum
        disk=$("$top/tools/guest" syslinux-disk)
        size=$(mtype -i "$disk@@1M" ::vmlinuz | wc -c)
        sum=$(mtype -i "$disk@@1M" ::vmlinuz | gzip -c | tail -c 8 | od -An -tx4 -N 4 | tr -d ' ')
        start --engine "$1" --bios "$("$top/tools/guest" u-boot)" --disk "$disk,readonly"
        if await 60 'stop autoboot'; then press ''; fi
        awaits "$1: U-Boot with a disk: the prompt" 90 '=> '
        press 'ide reset'
        awaits "$1: U-Boot with a disk: sees it" 90 'Model: DOPPEL HARDDISK'
        press 'load ide 0:1 2000000 vmlinuz'
        awaits "$1: U-Boot with a disk: reads a file" 90 "$size bytes read"
        # shellcheck disable=SC2016 # U-Boot expands it
        press 'crc32 2000000 $filesize'
        awaits "$1: U-Boot with a disk: it is the right one" 90 "==> $sum"
        stop
}

ovmf() { # ENGINE
        start --engine "$1" --memory 256M --cpus 2 --bios "$("$top/tools/guest" ovmf)" --disk "$("$top/tools/guest" syslinux-disk),readonly"
        awaits "$1: OVMF: its shell" 120 'UEFI Interactive Shell'
        awaits "$1: OVMF: the disk" 90 'HD0a1:'
        awaits "$1: OVMF: the prompt" 90 'Shell> '
        press 'ls fs0:'
        awaits "$1: OVMF: reads the disk" 90 'syslinux.cfg'
        press 'reset -s'
        ends "$1: OVMF: switches the machine off" 60
        stop
        BOOT_SECONDS=200 boot_linux linux-cloud '' 'ls /sys/firmware/efi/systab && echo by EFI' --engine "$1" --bios "$("$top/tools/guest" ovmf)"
        equal "$1: OVMF: starts a kernel" "$guest $status" '0 0'
        contains "$1: OVMF: by its EFI entry" "$out" 'by EFI'
}

refusals() {
        head -c 100000 /dev/zero | tr '\0' '\253' >"$scratch/odd"
        head -c 65536 /dev/zero >"$scratch/zeros"
        capture 20 "$DOPPEL" run --bios "$scratch/odd"
        contains 'a ROM of an impossible size is refused' "$status $err" '100000 bytes; a ROM has 64K to 16M'
        capture 20 "$DOPPEL" run --bios "$scratch/zeros"
        contains 'a ROM without a reset vector is refused' "$status $err" 'nothing at the reset vector'
        capture 20 "$DOPPEL" run --bios "$scratch/none"
        contains 'a missing ROM is refused' "$status $err" 'No such file'
        capture 20 "$DOPPEL" run --bios "$scratch/zeros" --append x
        equal 'a command line for no kernel is one too many' "$status" 2
        capture 20 "$DOPPEL" run --bios "$("$top/tools/guest" seabios)" --kernel "$scratch/zeros"
        contains 'firmware starts nothing but Linux' "$status $err" 'firmware starts Linux kernels (bzImage) only'
        if [[ -e /usr/share/seabios/bios-256k.bin ]]; then
                start --bios seabios
                awaits 'SeaBIOS is found by its name' 60 'SeaBIOS (version '
                stop
        else
                capture 20 "$DOPPEL" run --bios seabios
                contains 'a missing SeaBIOS: the package is named' "$status $err" 'package seabios'
        fi
}

build_guests
seabios=$("$top/tools/guest" seabios)
for engine in $(engines); do
        own_rom "$engine"
done
for engine in $(default_engine); do
        sea_bios "$engine" 1
        sea_bios "$engine" 3
        u_boot "$engine" u-boot 32
        u_boot "$engine" u-boot-64 64
        u_boot_disk "$engine"
        ovmf "$engine"
done
refusals
