#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Kernels of others that come by the Multiboot protocol, and a memory test by Linux's: GNU Mach, Xen with Linux in its first domain, memtest86+.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

mach() { # ENGINE
        start --engine "$1" --memory 256M --kernel "$("$top/tools/guest" gnumach)" --append console=com0
        awaits "$1: GNU Mach: its name" 120 'GNU Mach 1.8'
        awaits "$1: GNU Mach: the memory map" 120 '000000000000100000:000000000010000000, available'
        awaits "$1: GNU Mach: the clock" 120 "RTC time is $(date -u +%Y-%m-)"
        awaits "$1: GNU Mach: nothing to go on with" 120 'panic ../kern/bootstrap.c:181: bootstrap_create: No bootstrap code loaded'
        stop
}

# Xen goes back to real mode to ask the BIOS, takes three modules, and runs Linux as its para-virtualized first domain.
xen() { # ENGINE
        local kernel
        kernel=$("$top/tools/guest" linux-amd64)
        command_archive "$scratch" <<<'cat /sys/hypervisor/type
for i in 1 2 3 4; do seq 20000 | md5sum; done | sort | uniq -c
stty -F /dev/hvc0 sane; reboot -f'
        cat "$("$top/tools/guest" initramfs)" "$scratch/command.cpio" >"$scratch/joined"
        start --engine "$1" --memory 1G --no-reboot --kernel "$("$top/tools/guest" xen)" --append 'console=com1 com1=115200,8n1' \
                --initrd "$kernel console=hvc0 quiet loglevel=1" --initrd "$scratch/joined"
        awaits "$1: Xen: its name" 120 '(XEN) Xen version 4.17'
        awaits "$1: Xen: who loaded it, and its command line" 120 $'(XEN) Bootloader: doppel\r\n(XEN) Command line: console=com1 com1=115200,8n1\r'
        awaits "$1: Xen: the ACPI tables" 120 '(XEN) ACPI: APIC'
        awaits "$1: Xen: its first domain" 120 '(XEN)  Dom0 kernel: 64-bit'
        awaits "$1: Xen: Linux runs on it" 120 $'\nxen'
        awaits "$1: Xen: Linux computes" 120 "4 $(seq 20000 | md5sum)"
        awaits "$1: Xen: Linux resets the machine through it" 120 'Hardware Dom0 shutdown: rebooting machine'
        ends "$1: Xen: and the machine ends" 60
        stop
}

# tests_seen: how many different ones memtest86+ has shown. It shows what is tested once a second, so that a fast processor leaves some out.
tests_seen() { grep -ao '\[[A-Z][a-z]* [^]]*, [^]]*\]\|\[Block move\]' "$scratch/console" | sort -u | wc -l; }

# memtest ENGINE GUEST BITS CPUS: it writes with cursor movements between; a line is in place.
memtest() {
        local tries
        start --engine "$1" --memory 32M --cpus "$4" --kernel "$("$top/tools/guest" "$2")" --append console=ttyS0,115200
        awaits "$1: memtest86+, $3 bits: its name" 120 'Memtest86+ v6.10'
        awaits "$1: memtest86+, $3 bits: the processor" 120 'doppel virtual x86-64-v2 processor'
        for ((tries = 1200; tries && $(tests_seen) < 2; tries--)); do sleep 0.1; done
        check "$1: memtest86+, $3 bits: tests follow each other" "$(tail -n 5 "$scratch/console")" test "$(tests_seen)" -ge 2
        awaits "$1: memtest86+, $3 bits: finds no error" 120 'Errors: 0' 4
        equal "$1: memtest86+, $3 bits: none" "$(grep -ao 'Errors: [1-9]' "$scratch/console")" ''
        stop
}

for engine in $(default_engine); do
        mach "$engine"
        xen "$engine"
        memtest "$engine" memtest86+ 64 1
        memtest "$engine" memtest86+ia32 32 2
done
