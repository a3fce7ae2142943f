# SPDX-License-Identifier: MIT
# What bench/bochs and bench/techniques share: the benchmarks as a ROM, and processor time. Needs tools/lib.sh, and $scratch.
# shellcheck shell=bash disable=SC2154

# build_rom: $scratch/bench.rom, from bench/bare and the benchmarks that need no operating system.
build_rom() {
        local flags=(-std=gnu17 -O2 -fno-pic -mcmodel=small -mno-red-zone -fno-stack-protector -fcf-protection=none
                -fno-asynchronous-unwind-tables -fno-math-errno) name
        for name in integer memory fp; do
                gcc "${flags[@]}" -c -o "$scratch/$name.o" "$top/bench/guest/$name.c"
        done
        gcc "${flags[@]}" -fno-tree-loop-distribute-patterns -c -o "$scratch/main.o" "$top/bench/bare/main.c"
        gcc -c -o "$scratch/start.o" "$top/bench/bare/start.S"
        ld --no-warn-rwx-segments -T "$top/bench/bare/rom.ld" -o "$scratch/bench.rom" "$scratch"/{start,main,integer,memory,fp}.o
}

# order NUMBER COUNT: $scratch/order.rom, which runs this benchmark so often.
order() {
        local word text=''
        for word in "$1" "$2"; do
                text+=$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $((word & 255)) $((word >> 8 & 255)) $((word >> 16 & 255)) $((word >> 24)))
        done
        cp "$scratch/bench.rom" "$scratch/order.rom"
        printf '%b' "$text" | dd of="$scratch/order.rom" bs=1 seek=$((0xffe0)) conv=notrunc status=none
}

# run_rom DOPPEL
run_rom() {
        "$1" run --engine interp --bios "$scratch/order.rom" --memory 64M --debug-exit 0xf4 --debugcon stdio --serial none --stats \
                </dev/null >"$scratch/out" 2>&1 || true
}

# seconds_of COMMAND...: the processor time of a run, user and system, which must have ended with the right checksum.
seconds_of() {
        local TIMEFORMAT='%U %S' spent
        spent=$({ time "$@"; } 2>&1)
        grep -q good "$scratch/out" || die "$* ended without the right checksum: $(tail -n 3 "$scratch/out")"
        awk '{ print $1 + $2 }' <<<"$spent"
}

# measure NUMBER COUNT COMMAND...: the time of COUNT iterations, without start, set-up and end.
measure() {
        local all none number=$1 count=$2
        shift 2
        order "$number" "$count"
        all=$(seconds_of "$@")
        order "$number" 0
        none=$(seconds_of "$@")
        awk -v a="$all" -v b="$none" 'BEGIN { print a - b }'
}

# instructions: how many the last run of doppel executed.
instructions() { awk '$1 == "instructions" { print $2 }' "$scratch/out"; }

# choose_count NUMBER SECONDS DOPPEL: prints the count of iterations that takes about so long, and the instructions in it.
choose_count() {
        local spent base count=1 number=$1 seconds=$2
        order "$number" 0
        seconds_of run_rom "$3" >/dev/null
        base=$(instructions)
        while spent=$(measure "$number" "$count" run_rom "$3") && awk -v s="$spent" -v want="$seconds" 'BEGIN { exit !(s < want / 2) }'; do
                count=$(awk -v s="$spent" -v want="$seconds" -v n="$count" \
                        'BEGIN { f = s > 0.02 ? want / s : 10; printf "%d", n * (f > 10 ? 10 : f < 2 ? 2 : f) }')
        done
        order "$number" "$count"
        seconds_of run_rom "$3" >/dev/null
        echo "$count $(($(instructions) - base))"
}
