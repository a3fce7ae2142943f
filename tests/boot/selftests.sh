#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux's own tests of x86: 64- and 32-bit programs in a 64-bit guest, 32-bit ones in 32-bit guests with PAE and without: signals and segments, single
# steps, system calls, I/O permissions, the vDSO. All pass, also the one that does not end on every host (mov_ss_trap: its breakpoint hits for ever
# where a hypervisor loses RF).
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

# tests_in KERNEL INITRAMFS PATTERN: each writes at most what the guest has room for.
tests_in() {
        local kernel=$1 initramfs=$2 line before=0
        local command='set -o pipefail
cd /selftests
for p in '"$3"'; do
        timeout 60 $p </dev/null 2>&1 | tail -c 4000 >/tmp/out && echo "pass $p" || { echo "fail $p"; grep FAIL /tmp/out | head -n 3; }
done'

        INITRAMFS=$initramfs BOOT_SECONDS=280 boot_linux "$kernel" '' "$command"
        booted "$kernel: the tests end"
        while read -r line; do
                case $line in
                'pass '*) ok "$kernel: ${line#pass }" && before=$((before + 1)) ;;
                'fail '*) not_ok "$kernel: ${line#fail }" ;;
                *) echo "$line" ;;
                esac
        done <<<"$out"
        check "$kernel: there were tests" "$before" test "$before" -gt 20
}

tests_in linux-amd64 initramfs-selftests '64/* 32/*'
cat "$("$top/tools/guest" initramfs-i386)" "$("$top/tools/guest" selftests-x86)" >"$scratch/selftests-i386"
for kernel in linux-686-pae linux-686; do
        tests_in "$kernel" "$scratch/selftests-i386" '32/*'
done
