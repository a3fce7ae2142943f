#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Boot loaders that live on SeaBIOS's services, from floppy, CD and disk, driven by keys on the serial line: GRUB, SYSLINUX, iPXE; and
# kernels that a BIOS starts.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

keys() { printf '%s' "$1" >&"$keys"; }

# enter LINE: types it as a person does, who looks at what appears: a BIOS keeps 15 keys, and drops what comes faster than it is read.
# The line must fit into one of the screen.
enter() {
        local typed='' rest=$1 before
        while [[ $rest ]]; do
                typed+=${rest:0:8}
                before=$(count "$typed" "$scratch/console")
                keys "${rest:0:8}"
                rest=${rest:8}
                await 60 "$typed" $((before + 1)) || return 0
        done
        press ''
}

grub_prompt() { # NAME
        awaits "$1: its menu" 90 'GNU GRUB  version 2.06'
        awaits "$1: the entries" 60 'Memtest86+'
        keys c
        awaits "$1: a key leads to the prompt" 60 'grub> '
}

# Its "halt" reads the DSDT for how a machine is switched off.
grub_floppy() { # ENGINE
        local name="$1: GRUB from a floppy"
        start --engine "$1" --floppy "$("$top/tools/guest" grub-floppy),readonly" --disk "$disk,readonly" --boot floppy
        grub_prompt "$name"
        enter 'ls (hd0,msdos1)/'
        awaits "$name: sees the disk" 60 'syslinux.cfg'
        enter 'lspci'
        awaits "$name: sees the PCI bus" 60 '00:00.0 8086:1237'
        enter 'halt'
        ends "$name: switches the machine off" 60
        stop
}

# The kernel comes through the BIOS's disk services, 64 KiB at a time.
grub_cdrom() { # ENGINE
        local name="$1: GRUB from a CD"
        start --engine "$1" --cdrom "$("$top/tools/guest" grub-cdrom)" --disk "$disk,readonly" --boot cdrom --no-reboot
        grub_prompt "$name"
        enter 'cat (cd)/boot/grub/grub.cfg'
        awaits "$name: reads a file of the CD" 60 'menu_color_highlight=red/blue'
        enter 'set root=hd0,msdos1'
        enter 'linux /vmlinuz console=ttyS0 panic=-1 cryptomgr.notests INIT_MARK=here'
        enter 'initrd /initrd.img'
        enter 'boot'
        awaits "$name: starts Linux from the disk" 90 $'\nhere'
        stop
}

sys_linux() { # ENGINE
        local name="$1: SYSLINUX from a disk"
        cp "$disk" "$scratch/disk"
        command_archive "$scratch" <<<'uname -m; grep -c . /proc/interrupts >/dev/null; echo $((6 * 7)) by SYSLINUX'
        mcopy -i "$scratch/disk@@1M" "$scratch/command.cpio" ::command.img
        start --engine "$1" --disk "$scratch/disk" --no-reboot
        awaits "$name: its name" 60 'SYSLINUX 6.04'
        awaits "$name: its prompt" 60 'boot: '
        enter linux
        awaits "$name: loads Linux" 60 'Loading vmlinuz... ok'
        awaits "$name: and both archives" 60 'Loading command.img...ok'
        awaits "$name: Linux runs the command" 60 '42 by SYSLINUX'
        ends "$name: the machine ends" 60
        stop
}

i_pxe() { # ENGINE
        local name="$1: iPXE from a CD"
        start --engine "$1" --cdrom "$("$top/tools/guest" ipxe-cdrom)" --no-reboot
        awaits "$name: ISOLINUX before it" 60 'ISOLINUX 6.04'
        awaits "$name: its name" 60 'iPXE 1.0.0+git-20190125'
        awaits "$name: asks" 60 'Press Ctrl-B'
        keys $'\002'
        awaits "$name: its prompt" 60 'iPXE> '
        # shellcheck disable=SC2016 # iPXE expands it
        enter 'cpuid --ext 29 && echo on ${platform} with long mode'
        awaits "$name: knows the machine" 60 'on pcbios with long mode'
        enter 'reboot'
        ends "$name: resets the machine" 60
        stop
}

# What calls itself a Linux kernel, and starts in real mode: SeaBIOS is chosen for it, and boots it by our ROM.
real_mode_kernels() { # ENGINE
        local name="$1: iPXE as a kernel"
        start --engine "$1" --kernel "$("$top/tools/guest" ipxe)" --no-reboot
        awaits "$name: through SeaBIOS" 60 'Booting from ROM...'
        awaits "$name: asks" 60 'Press Ctrl-B'
        keys $'\002'
        awaits "$name: its prompt" 60 'iPXE> '
        enter 'reboot'
        ends "$name: resets the machine" 60
        stop
        name="$1: GRUB on a floppy disk in memory"
        start --engine "$1" --kernel "$("$top/tools/guest" memdisk)" --initrd "$("$top/tools/guest" grub-floppy)" --append floppy
        grub_prompt "$name"
        enter 'cat (fd0)/boot/grub/grub.cfg'
        awaits "$name: reads a file of it" 60 'menu_color_highlight=red/blue'
        await 60 'grub> ' 2 || true
        enter 'halt'
        ends "$name: switches the machine off" 60
        stop
}

# Linux by its 16-bit entry: it asks the BIOS for what it wants to know.
linux_on_bios() { # ENGINE
        boot_linux linux-cloud '' 'echo; cat /sys/class/dmi/id/sys_vendor; dmesg | grep -c -E "BIOS-e820.*usable|SMBIOS .* present"; seq 9 | md5sum' --engine "$1" \
                --bios seabios
        booted "$1: Linux on SeaBIOS"
        equal "$1: Linux on SeaBIOS: it found SMBIOS and the memory map" "$(tail -n 3 <<<"$out")" $'doppel\n3\n'"$(seq 9 | md5sum)"
}

disk=$("$top/tools/guest" syslinux-disk)
for engine in $(default_engine); do
        grub_floppy "$engine"
        grub_cdrom "$engine"
        sys_linux "$engine"
        i_pxe "$engine"
        real_mode_kernels "$engine"
        linux_on_bios "$engine"
done
