#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux with the screen as its console: keyboard and mouse by its own drivers.
set -euo pipefail

. "$(dirname "$0")/../screen/lib.sh"

# The kernel has the driver of the keyboard built in, that of the mouse we give it.
linux() { # ENGINE
        mkdir -p "$scratch/module"
        cp "$("$top/tools/guest" psmouse)" "$scratch/module/psmouse.ko"
        (cd "$scratch/module" && echo psmouse.ko | cpio --quiet -o -H newc -R 0:0) >"$scratch/module.cpio"
        start "$1" --kernel "$("$top/tools/guest" linux-amd64)" --initrd "$("$top/tools/guest" initramfs)" --initrd "$scratch/module.cpio" \
                --append "console=tty0 nokaslr" --display "$display"
        awaits "$1: Linux: its console is the screen" 180 'guest:'
        keys 'clear; echo $((6*7))<ret>'
        awaits "$1: Linux: keys" 60 42
        keys 'clear; insmod /psmouse.ko; until grep Mouse /proc/bus/input/devices; do sleep 1; done<ret>'
        awaits "$1: Linux: finds the mouse, with a wheel" 60 'ImPS/2 Generic Wheel Mouse'
        if [[ -x $viewer ]]; then
                keys 'clear; (sleep 1; echo lis""tens) & head -c 15 /dev/input/mice | hexdump -C<ret>'
                awaits "$1: Linux: somebody reads the mouse" 60 listens
                "$viewer" "$scratch/vnc" at=100,100,0 wait=200 at=105,90,0 wait=200 at=105,90,1 wait=200 at=105,90,0 wait=200 at=90,100,4 wait=200 \
                        at=90,100,0 wait=200
                awaits "$1: Linux: movements and buttons" 60 '08 05 0a 09 00 00 08 00  00 3a f1 f6 08 00 00'
        fi
        stop
}

for engine in $(engines_but_kvm); do
        linux "$engine"
done
