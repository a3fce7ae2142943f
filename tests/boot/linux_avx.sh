#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# AVX in Linux: the kernel keeps the upper halves (XSAVES, compacted), and programs that use them at the same time get right results.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

if ! grep -qw avx2 /proc/cpuinfo || ! grep -qw fma /proc/cpuinfo; then
        skip 'AVX in Linux' 'this host has no AVX2 with FMA'
        exit
fi

# The benchmark compares its sum with the one it should be.
command='dmesg | grep -c "Enabled xstate features 0x7, context size is 832 bytes, using .compacted"
grep -o -w -m 1 -e avx2 /proc/cpuinfo
for i in 1 2 3 4; do dbench --only avx2-fma --seconds 0.3 >/tmp/$i & done
wait
cat /tmp/[1-4] | grep -c "avx2-fma [0-9.]* M"'

for cpu in v3 max; do
        INITRAMFS=initramfs-bench boot_linux linux-cloud '' "$command" --cpu "$cpu" --cpus 2
        booted "--cpu $cpu"
        contains "--cpu $cpu: XSAVE" "$out" $'1\navx2\n4'
done
INITRAMFS=initramfs-bench boot_linux linux-cloud '' 'dbench --only avx2-fma; grep -c -w avx /proc/cpuinfo; true' --cpu v2
contains 'v2 has no AVX' "$out" $'no AVX2 with FMA'
