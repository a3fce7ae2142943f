#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# GDB finds its way in Linux, under every engine: with a vmlinux that has the kernel's names it stops at a function before the kernel has begun, tells who
# called it, reads variables, watches one, and comes back to the caller.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

if ! command -v gdb >"$scratch/where"; then
        skip 'gdb' 'it is not installed'
        exit
fi
kernel=$("$top/tools/guest" linux-cloud)
boot_linux linux-cloud nokaslr 'echo 0 >/proc/sys/kernel/kptr_restrict; grep -v "\[" /proc/kallsyms | gzip -9 | base64; uname -r'
booted 'the kernel tells its names'
version=$(tail -n 1 <<<"$out")
head -n -1 <<<"$out" | base64 -d | gunzip >"$scratch/kallsyms"
"$top/tools/vmlinux" "$kernel" "$scratch/kallsyms" "$scratch/vmlinux" 2>"$scratch/why" || true
check 'tools/vmlinux' "$(<"$scratch/why")" test -s "$scratch/vmlinux"

for engine in $(engines); do
        rm -f "$scratch/socket"
        timeout -k 5 200 "$DOPPEL" run --engine "$engine" --memory 256M --cpus 2 --kernel "$kernel" --initrd "$("$top/tools/guest" initramfs)" \
                --append 'console=ttyS0 quiet nokaslr' --serial none --gdb "unix:$scratch/socket" --paused >"$scratch/doppel" 2>&1 </dev/null &
        child=$!
        for ((n = 0; n < 100; n++)); do
                [[ ! -S $scratch/socket ]] || break
                sleep 0.1
        done
        timeout -k 5 180 gdb -nx -batch -ex 'set confirm off' -ex 'set pagination off' -ex "file $scratch/vmlinux" -ex "target remote $scratch/socket" \
                -ex 'hbreak start_kernel' -ex 'continue' -ex 'bt 1' -ex 'delete' \
                -ex 'break do_sys_openat2' -ex 'continue' -ex 'bt 2' -ex 'info threads' -ex 'x/s &linux_banner' -ex 'set $before = *(unsigned long *)&jiffies_64' \
                -ex 'p $before > 0xfffe0000' -ex 'delete' -ex 'finish' -ex 'info symbol $pc' -ex 'watch *(unsigned long *)&jiffies_64' -ex 'continue' -ex 'bt 1' \
                -ex 'p *(unsigned long *)&jiffies_64 > $before' -ex 'kill' >"$scratch/gdb" 2>&1 </dev/null || true
        wait "$child" || true
        child=
        out=$(<"$scratch/gdb")
        contains "$engine: a hardware breakpoint before the kernel has begun" "$out" 'Breakpoint 1, 0xffffffff'
        contains "$engine: in start_kernel" "$out" ' in start_kernel ()'
        contains "$engine: a breakpoint at a system call" "$out" ' in do_sys_openat2 ()'
        contains "$engine: who called it" "$out" '_sys_openat ()'
        contains "$engine: its processors" "$out" 'Thread 2 (cpu1)'
        contains "$engine: the kernel's banner, by name" "$out" "\"Linux version $version"
        contains "$engine: jiffies, by name" "$out" '$1 = 1'
        contains "$engine: back in the caller" "$out" '_sys_openat + '
        contains "$engine: a watchpoint on jiffies" "$out" 'hit Hardware watchpoint 3'
        contains "$engine: who wrote there" "$out" ' in tick_do_update_jiffies64 ()'
        contains "$engine: time goes on" "$out" '$2 = 1'
        [[ $out == *'$2 = 1'* ]] || cat "$scratch/doppel"
done
