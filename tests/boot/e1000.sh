#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux's driver of the e1000: an address by DHCP, and bytes both ways through a forwarded port, compared on either side.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

if ! command -v socat >/dev/null; then
        skip 'e1000 - needs socat'
        exit
fi
if [[ ! -e /usr/include/slirp/libslirp.h ]]; then
        skip 'e1000 - needs libslirp-dev'
        exit
fi

# shellcheck disable=SC2016 # the guest expands it
script='while read -r module; do case $module in e1000*|af_packet*) insmod /lib/drivers/$module || exit 1; esac; done </lib/drivers/order
mkdir -p /etc
printf "#!/bin/sh\n[ \$1 = bound ] && ip addr add \$ip/24 dev eth0 && ip route add default via \$router && echo bound \$ip\n" >/dhcp
chmod +x /dhcp
ip link set eth0 up
for try in 1 2 3 4 5; do udhcpc -i eth0 -n -q -s /dhcp 2>/dev/null && break; done
echo "address $(cat /sys/class/net/eth0/address)"
echo "link $(cat /sys/class/net/eth0/carrier) $(cat /sys/class/net/eth0/speed)"
ping -c 1 10.0.2.2 >/dev/null && echo "the host answers"
dd if=/dev/urandom of=/data bs=1M count=4 2>/dev/null
(sleep 1; echo listening) &
nc -l -p 7000 </data >/got
wait
echo "got $(sha256sum </got)"
echo "sent $(sha256sum </data)"
echo "errors $(cat /sys/class/net/eth0/statistics/rx_errors /sys/class/net/eth0/statistics/tx_errors | tr "\n" " ")"
ip link set eth0 down && ip link set eth0 up && echo "up again"
dmesg | grep -iE "e1000.*(hang|reset|error|fail)" || true'

# The host's side of the forward.
talk() { # PORT
        local tries=900
        until grep -q listening "$scratch/out" 2>/dev/null || ((tries-- == 0)); do sleep 0.1; done
        for ((tries = 5; tries; tries--)); do
                timeout 60 socat -t 60 - "TCP:127.0.0.1:$1" <"$scratch/data" >"$scratch/got" || true
                [[ ! -s $scratch/got ]] || return 0
                sleep 1
        done
}

card() { # ENGINE
        local port=$((20000 + RANDOM % 20000)) folder talker
        folder=$(dirname "$("$top/tools/guest" linux-drivers)")
        cat "$("$top/tools/guest" initramfs)" "$folder/drivers.cpio" >"$scratch/initramfs"
        head -c 4M /dev/urandom >"$scratch/data"
        rm -f "$scratch/out"
        talk "$port" &
        talker=$!
        INITRAMFS=$scratch/initramfs boot_linux "$folder/vmlinuz" '' "$script" --engine "$1" \
                --net "user,model=e1000,mac=52:54:00:12:34:56,forward=tcp:$port:7000"
        wait "$talker" || true
        booted "$1: e1000"
        contains "$1: an address by DHCP" "$out" 'bound 10.0.2.15'
        contains "$1: the card's own address" "$out" 'address 52:54:00:12:34:56'
        contains "$1: a link of a gigabit" "$out" 'link 1 1000'
        contains "$1: the host answers a ping" "$out" 'the host answers'
        contains "$1: 4 MiB to the guest" "$out" "got $(sha256sum <"$scratch/data")"
        contains "$1: 4 MiB from the guest" "$out" "sent $(sha256sum <"$scratch/got")"
        contains "$1: without errors" "$out" $'errors 0 0 \nup again'
        equal "$1: the kernel complains of nothing" "$(sed '1,/^up again/d' <<<"$out")" ''
}

for engine in $(default_engine); do
        card "$engine"
done
