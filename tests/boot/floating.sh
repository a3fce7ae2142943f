#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program of a Linux guest whose code lies at two addresses, and is run at both, under each engine.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

mkdir "$scratch/root"
cp "${BUILD:-$top/build}/tool/floating" "$scratch/root/floating"
(cd "$scratch/root" && echo floating | cpio --quiet -o -H newc -R 0:0) >"$scratch/floating.cpio"
cat "$("$top/tools/guest" initramfs)" "$scratch/floating.cpio" >"$scratch/initramfs"
for engine in ${ENGINES:-$(engines)}; do
        INITRAMFS=$scratch/initramfs boot_linux linux-cloud '' /floating --engine "$engine"
        booted "$engine: code at two addresses"
        # shellcheck disable=SC2154 # lib.sh sets it
        contains "$engine: does at both what it shall" "$out" '102 of 102'
done
