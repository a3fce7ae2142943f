#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Debian itself, from the disk that ./demo --debian makes: to its login prompt, in, the network, APT's lists where there is a way to the mirror,
# and off. What the guest writes is thrown away.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

# By itself, or by make soak; without the disk there is nothing to test.
disk=$cache/debian-disk.img
if [[ ! -e $disk ]]; then
        skip 'Debian - needs the disk that "./demo --debian" makes'
        exit
fi
mirror() { timeout 5 bash -c 'exec 3<>/dev/tcp/deb.debian.org/80' 2>/dev/null; }

start --memory 1G --kernel "$("$top/tools/guest" linux-cloud)" --initrd "$("$top/tools/guest" initramfs-virtio)" \
        --append 'console=ttyS0 quiet ROOT=/dev/vda' --disk "$disk,snapshot" --net user --rng
awaits 'Debian: a login prompt' 200 'doppel login:'
press root
awaits 'Debian: a shell' 60 'root@doppel:'
press 'networkctl status --no-pager eth0 | grep -o "Address: 10.0.2.15"'
awaits 'Debian: an address by DHCP' 60 'Address: 10.0.2.15'
if mirror; then
        press 'apt-get update; echo "apt ended with $?."'
        awaits 'Debian: apt-get update' 200 'apt ended with 0.'
else
        skip 'Debian: apt-get update - no way to deb.debian.org'
fi
press 'poweroff'
ends "Debian: switches off" 60
