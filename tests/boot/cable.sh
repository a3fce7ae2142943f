#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Two machines on one cable, and one on a tap interface where that is allowed: pings, and a file that arrives as it was sent.
# shellcheck disable=SC2030,SC2031 # the first machine has a folder of its own
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

INITRAMFS=initramfs-virtio
engine=$(engines | head -n 1)

# The first waits for the second's file, and says what it got. Its nc must not end its own side first, or the other does not send all.
receiver='ip addr add 10.1.1.1/24 dev eth0; ip link set eth0 up
mkfifo /open; sleep 300 >/open &
nc -l -p 7000 </open >/got; sha256sum </got; ping -c 2 -w 20 10.1.1.2 | grep "packets received"'
sender='ip addr add 10.1.1.2/24 dev eth0; ip link set eth0 up
seq 200000 >/sent
for i in $(seq 60); do ping -c 1 -w 1 10.1.1.1 >/dev/null && break; done
for i in $(seq 60); do nc 10.1.1.1 7000 </sent && break; sleep 1; done
sha256sum </sent; sleep 5'

mkdir "$scratch/one"
(
        scratch=$scratch/one
        boot_linux linux-cloud '' "$receiver" --engine "$engine" --net "socket=$scratch/../cable"
        printf '%s\n' "$out" >"$scratch/result"
) &
first=$!
for ((i = 0; i < 100; i++)); do [[ -S $scratch/cable ]] || sleep 0.1; done
boot_linux linux-cloud '' "$sender" --engine "$engine" --net "socket=$scratch/cable"
booted 'the second machine'
wait "$first" || true
got=$(<"$scratch/one/result")
# shellcheck disable=SC2154 # lib.sh sets it
contains 'what was sent arrives' "$got" "$(grep -oE '^[0-9a-f]{64}' <<<"$out" | head -n 1)"
contains 'and it is what was sent' "$got" "$(seq 200000 | sha256sum)"
contains 'pings the other way' "$got" '2 packets received'
check 'the socket is taken away' 'it is still there' test ! -e "$scratch/cable"

capture 20 "$DOPPEL" run --kernel "$("$top/tools/guest" linux-cloud)" --net tap=doppel-no-such
if ((EUID)); then contains 'a tap interface without rights: what to do' "$err" 'ip tuntap add'; fi
if ((EUID)) || ! ip tuntap add dev doppeltap mode tap 2>/dev/null; then
        skip 'a tap interface - needs root, and /dev/net/tun'
        exit
fi
trap 'ip link del doppeltap; test_end' EXIT
ip addr add 10.9.9.1/24 dev doppeltap && ip link set doppeltap up
seq 300000 >"$scratch/sent"
# shellcheck disable=SC2016 # the program's own
timeout 120 perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalAddr => "10.9.9.1", LocalPort => 7007, Listen => 1, ReuseAddr => 1) or die;
my $c = $s->accept; open my $f, "<", $ARGV[0]; local $/; my $all = <$f>; print $c $all; close $c' "$scratch/sent" &
server=$!
boot_linux linux-cloud '' 'ip addr add 10.9.9.2/24 dev eth0; ip link set eth0 up
ping -c 2 -w 20 10.9.9.1 | grep "packets received"; nc 10.9.9.1 7007 >/got; sha256sum </got' --engine "$engine" --net tap=doppeltap
kill "$server" 2>/dev/null || true
booted 'a tap interface'
contains 'a tap interface: pings' "$out" '2 packets received'
contains 'a tap interface: a file in large segments' "$out" "$(sha256sum <"$scratch/sent")"
