#!/bin/sh
# SPDX-License-Identifier: MIT
# In the guest of bench/devices: fio on two disks, iperf3 against the host, and then nothing.
#   devices SECONDS PORT DISK...     SECONDS for each measurement; PORT: of the host's iperf3, 0 for none
# Prints "begin NAME", "end NAME VALUE": thousands of requests a second, megabits a second.
set -u
seconds=$1 port=$2
shift 2

disk() { # NAME DEVICE KIND
        echo "begin $1"
        # Its terse format: requests a second are field 8 (reads) and 49 (writes).
        rate=$(fio --name=x --filename="$2" --rw="$3" --bs=4k --ioengine=libaio --iodepth=32 --direct=1 --time_based --runtime="$seconds" \
                --output-format=terse --terse-version=3 2>/dev/null | awk -F ';' '{ r = $8 + $49; printf "%.2f", r / 1000 }')
        echo "end $1 $rate"
}

stream() { # NAME ARGUMENT...
        name=$1
        shift
        echo "begin $name"
        rate=$(iperf3 -c 10.0.2.2 -p "$port" -t "$seconds" -f m "$@" 2>&1 | awk '/receiver/ { print $(NF - 2) }')
        echo "end $name $rate"
}

for word; do
        name=${word%%=*} device=${word#*=}
        # What is read has been written: a hole costs nothing.
        dd if=/dev/urandom of="$device" bs=1M count=256 oflag=direct 2>/dev/null
        disk "$name-seq-read" "$device" read
        disk "$name-rand-read" "$device" randread
        disk "$name-seq-write" "$device" write
        disk "$name-rand-write" "$device" randwrite
done
if [ "$port" != 0 ]; then
        ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up
        sleep 1
        stream tcp-to-host
        stream tcp-to-guest -R
fi
sync
sleep 2
echo "begin idle"
sleep 20
echo "end idle 20"
