#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux drives the virtio devices: what it writes to a disk is on the host's, what it reads is what the host put there; it finds random
# numbers, a network that reaches the host and is reached from it, and consoles.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

INITRAMFS=initramfs-virtio
sectors=16384

# What the guest does: checksums of what the host wrote, then writes of its own, on all queues at once.
disk_command='cat /sys/block/vda/serial; echo
cat /sys/block/vda/size /sys/block/vda/ro
sha256sum </dev/vda
for part in 0 1 2 3; do
        yes "part $part" | dd of=/dev/vda bs=1M seek=$part count=1 iflag=fullblock 2>/dev/null &
done
wait
blkdiscard -o 5242880 -l 1048576 /dev/vda
sync
echo 3 >/proc/sys/vm/drop_caches
sha256sum </dev/vda
echo locked >/dev/vdb 2>/dev/null || echo "vdb is read only"
if [ -e /dev/vdc ]; then
        for part in 0 1 2 3 4 5; do
                yes "qcow2 $part" | dd of=/dev/vdc bs=4k seek=$((part * 150 + 1)) count=140 iflag=fullblock 2>/dev/null &
        done
        wait
        sync
        echo 3 >/proc/sys/vm/drop_caches
        echo "qcow2 $(sha256sum </dev/vdc)"
fi
grep -c virtio /proc/interrupts
dd if=/dev/hwrng bs=64 count=16 2>/dev/null | gzip -c | wc -c'

# DHCP by busybox's client, which wants a script; then the host, by ping, and a page from a server of the host's; two channels.
address_command='mkdir -p /etc
printf "#!/bin/sh\n[ \$1 = bound ] && ip addr add \$ip/24 dev eth0 && ip route add default via \$router && echo bound \$ip \$dns\n" >/dhcp
chmod +x /dhcp
ip link set eth0 up
udhcpc -i eth0 -n -q -s /dhcp 2>/dev/null
ping -c 1 10.0.2.2 >/dev/null && echo "the host answers"'
network_command=$address_command'
echo "a guest says hello" | nc -l -p 7000 >/got &
for port in /dev/vport*p1; do echo ready >"$port"; done
wait
cat /got
ip link set eth0 down; ip link set eth0 address 52:54:00:11:22:33; ip link set eth0 up; ip route add default via 10.0.2.2
ping -c 1 10.0.2.2 >/dev/null && echo "with another address, too"
echo /sys/class/net/eth0/queues/*
echo terminal >/dev/hvc0
sleep 0.2
ls /sys/class/virtio-ports'

# The same drivers by the interface of before version 1: their module is asked for it, and the devices are found anew.
legacy_command='for module in virtio_blk virtio_net virtio_console virtio_rng virtio_balloon net_failover failover virtio_pci; do rmmod $module; done
insmod /modules/*-virtio_pci.ko force_legacy=1
for module in failover net_failover virtio_net virtio_blk virtio-rng virtio_balloon virtio_console; do insmod /modules/*-$module.ko; done
for device in /sys/bus/virtio/devices/*; do cut -c 33 $device/features; done | tr -d "\n"; echo " of version 1"'

# A TCP forward, both ways: the host connects when the guest says that it is about to listen, and again when that was too early: the
# forward takes the connection, and drops it as nobody in the guest does.
talk() { # PORT FILE
        local tries=600
        until [[ -s $2 ]] || ((tries-- == 0)); do sleep 0.1; done
        for ((tries = 10; tries; tries--)); do
                exec {connection}<>"/dev/tcp/127.0.0.1/$1" || return 0
                echo 'a host says hello' >&"$connection" || true
                timeout 20 cat <&"$connection" >"$scratch/talk" 2>/dev/null || true
                exec {connection}>&-
                [[ ! -s $scratch/talk ]] || return 0
                sleep 0.5
        done
}

network() { # ENGINE
        local port=$((20000 + RANDOM % 20000)) talker
        rm -f "$scratch/channel" "$scratch/terminal"
        : >"$scratch/talk"
        talk "$port" "$scratch/channel" &
        talker=$!
        boot_linux linux-cloud '' "$network_command" --engine "$1" --cpus 2 --net "user,queues=2,forward=tcp:$port:7000" --balloon \
                --console "file:$scratch/terminal" --console "file:$scratch/channel,name=org.doppel.test"
        wait "$talker" || true
        booted "$1: network"
        contains "$1: the guest has an address" "$out" 'bound 10.0.2.15 10.0.2.3'
        contains "$1: the host answers a ping" "$out" 'the host answers'
        contains "$1: through the forwarded port to the guest" "$out" 'a host says hello'
        contains "$1: and from it" "$(<"$scratch/talk")" 'a guest says hello'
        contains "$1: when it gives its card another address, too" "$out" 'with another address, too'
        contains "$1: the card has two pairs of queues" "$out" 'tx-0 /sys/class/net/eth0/queues/tx-1'
        contains "$1: a virtio terminal" "$(cat "$scratch/terminal")" terminal
        contains "$1: how to reach the port is told" "$err" "port 7000 of the guest is 127.0.0.1:$port on the host"
}

legacy() { # ENGINE
        head -c $((sectors * 512)) /dev/urandom >"$scratch/disk"
        head -c 1M /dev/zero >"$scratch/locked"
        before=$(sha256sum <"$scratch/disk")
        boot_linux linux-cloud '' "$legacy_command
$address_command
echo terminal >/dev/hvc0
$disk_command" --engine "$1" --rng --balloon --disk "$scratch/disk" --disk "$scratch/locked,readonly" --net user --console "file:$scratch/terminal"
        booted 'legacy drivers'
        contains 'they are legacy ones' "$out" '000000 of version 1'
        contains 'legacy: the guest has an address' "$out" 'bound 10.0.2.15 10.0.2.3'
        contains 'legacy: the host answers a ping' "$out" 'the host answers'
        contains 'legacy: the guest reads what the host wrote' "$out" "$before"
        contains 'legacy: the host reads what the guest wrote' "$out" "$(sha256sum <"$scratch/disk")"
        contains 'legacy: a virtio terminal' "$(cat "$scratch/terminal")" terminal
}

legacy "$(default_engine)"
for engine in ${ENGINES:-$(engines)}; do
        if [[ -e /usr/include/slirp/libslirp.h ]]; then network "$engine"; else skip "$engine: network - needs libslirp-dev"; fi
        head -c $((sectors * 512)) /dev/urandom >"$scratch/disk"
        before=$(sha256sum <"$scratch/disk")
        head -c 1M /dev/zero >"$scratch/locked"
        more=()
        if qemu-img create -f qcow2 "$scratch/qcow2" 8M >/dev/null 2>&1; then more=(--disk "$scratch/qcow2"); fi
        boot_linux linux-cloud '' "$disk_command" --engine "$engine" --cpus 2 --rng --disk "$scratch/disk,serial=one-two,queues=2" \
                --disk "$scratch/locked,readonly" "${more[@]}"
        booted "$engine: virtio"
        after=$(sha256sum <"$scratch/disk")
        # shellcheck disable=SC2154 # lib.sh sets it
        mapfile -t lines <<<"$out"
        equal "$engine: the disk's serial number" "${lines[0]}" one-two
        equal "$engine: the disk's size" "${lines[1]} ${lines[2]}" "$sectors 0"
        equal "$engine: the guest reads what the host wrote" "${lines[3]}" "$before"
        equal "$engine: the host reads what the guest wrote" "${lines[4]}" "$after"
        contains "$engine: a disk that is read only" "$out" 'vdb is read only'
        if ((${#more[@]})); then
                capture 60 qemu-img check "$scratch/qcow2"
                equal "$engine: qemu-img finds nothing wrong with a qcow2 disk" "$status" 0
                qemu-img convert -O raw "$scratch/qcow2" "$scratch/raw"
                contains "$engine: qemu-img reads what the guest wrote" "${lines[*]}" "qcow2 $(sha256sum <"$scratch/raw")"
        else
                skip "$engine: a qcow2 disk - needs qemu-utils"
        fi
        check "$engine: random numbers" "${lines[-1]-none} bytes" test "${lines[-1]-0}" -gt 1000
done

# SeaBIOS boots from a virtio disk: a boot sector that prints "!" and ends the machine.
# mov ax,0e21h; mov bx,7; int 10h; mov al,1; out 0f4h,al; hlt
truncate -s 1M "$scratch/boot"
printf '\xb8\x21\x0e\xbb\x07\x00\xcd\x10\xb0\x01\xe6\xf4\xf4' | dd of="$scratch/boot" conv=notrunc 2>/dev/null
printf '\x55\xaa' | dd of="$scratch/boot" bs=1 seek=510 conv=notrunc 2>/dev/null
capture 100 "$DOPPEL" run --bios "$("$top/tools/guest" seabios)" --bios-log "file:$scratch/log" --disk "$scratch/boot,bus=virtio" \
        --debug-exit 0xf4 --serial none
contains 'SeaBIOS finds the virtio disk' "$(<"$scratch/log")" 'found virtio-blk'
equal 'SeaBIOS boots from it' "$status" 3
