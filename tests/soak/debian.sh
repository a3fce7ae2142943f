#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Debian itself, from the disk that ./demo --debian makes, as a virtio disk, an IDE disk, and one that comes over the network (nbdkit): to its
# login prompt, in, the network, a package of the mirror's installed where there is a way to it, and off by the power button. What the guest writes is
# thrown away.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

# By itself, or by make soak; without the disk there is nothing to test.
disk=$cache/debian-disk.img
if [[ ! -e $disk ]]; then
        skip 'Debian - needs the disk that "./demo --debian" makes'
        exit
fi
# Is there a way to where packages come from? This host's own sources say where that is.
mirror() {
        local host
        host=$(apt-get indextargets --format '$(SITE)' | sed -n '1s,^[a-z]*://\([^/:]*\).*,\1,p')
        [[ $host ]] && timeout 5 bash -c "exec 3<>/dev/tcp/$host/80" 2>/dev/null
}

machine() { # NAME DISK ROOT KERNEL INITRAMFS
        start --memory 1G --kernel "$("$top/tools/guest" "$4")" --initrd "$("$top/tools/guest" "$5")" \
                --append "console=ttyS0 quiet ROOT=$3" --disk "$2" --net user --rng --name "debian-$$" ${TEST_ENGINE:+--engine "$TEST_ENGINE"}
        awaits "Debian, $1: a login prompt" 300 'doppel login:'
        kill -0 "$child" 2>/dev/null || return 0 # nobody is there to be typed to
        press root
        awaits "Debian, $1: a shell" 60 'root@doppel:'
        press 'networkctl status --no-pager e* | grep -o "Address: 10.0.2.15"; findmnt -no SOURCE /'
        awaits "Debian, $1: an address by DHCP" 60 'Address: 10.0.2.15'
        awaits "Debian, $1: runs from $3" 60 "$3"
        if mirror; then
                press 'apt-get -qq update && apt-get -qqy install hello; echo "apt ended with $?."; hello'
                awaits "Debian, $1: apt-get installs a package" 500 'apt ended with 0.'
                awaits "Debian, $1: and it runs" 60 'Hello, world!'
        else
                skip "Debian, $1: apt-get - no way to the packages"
        fi
        "$DOPPEL" stop "debian-$$" || true
        ends "Debian, $1: switches off" 100
}

# over_nbd: the disk behind a server, which keeps what is written to itself.
over_nbd() {
        if ! command -v nbdkit >/dev/null || [[ ! -e /usr/include/libnbd.h ]]; then
                skip 'Debian, nbd - needs nbdkit and libnbd-dev'
                return
        fi
        nbdkit --unix "$scratch/nbd" --pidfile "$scratch/nbdkit" --filter=cow file "$disk"
        machine nbd "nbd+unix:///?socket=$scratch/nbd" /dev/vda linux-cloud initramfs-virtio
        kill "$(<"$scratch/nbdkit")"
}

for kind in ${DEBIAN_DISKS:-virtio ide nbd}; do
        case $kind in
        virtio) machine virtio "$disk,snapshot" /dev/vda linux-cloud initramfs-virtio ;;
        ide) machine ide "$disk,snapshot,bus=ide" /dev/sda linux-amd64 initramfs-amd64 ;;
        nbd) over_nbd ;;
        esac
done
