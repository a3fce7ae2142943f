#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Our own guests (guest/), each under every engine that is usable here. Their result lines are passed on with the engine's name.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

build_guests
printf 'doppel module' >"$scratch/module"
seq -f %015.f 0 4095 >"$scratch/disk"

label= # what the lines say instead of NAME

# run_guest ENGINE NAME ARGUMENT...: one line a check, and one for the end: all checks were made, and the exit status says that they hold.
run_guest() {
        local engine=$1 name=$2 line last='' failed='' file=$guests/$2.elf
        shift 2
        name=${label:-$name}
        capture 60 "$DOPPEL" run --engine "$engine" --memory 128M --kernel "$file" --debug-exit 0xf4 --debugcon stdio \
                --serial none "$@"
        while IFS= read -r line; do
                case $line in
                'ok '*) ok "$engine: $name: ${line#ok }" ;;
                'not ok '*) failed=yes && not_ok "$engine: $name: ${line#not ok }" ;;
                'skip '*) skip "$engine: $name: ${line#skip }" ;;
                1..*) last=$line ;;
                *) echo "$line" ;;
                esac
        done <<<"$out"
        if [[ $last == 1..* ]] && ((status == 1)); then
                ok "$engine: $name: the guest ended"
        elif [[ ! $failed || $last != 1..* ]]; then
                not_ok "$engine: $name: the guest ended" "exit status $status$( ((status == 124)) && echo ', it hung')"
                printf '%s\n' "$err"
        fi
}

for engine in $(all_engines); do
        for file in "$guests"/*.elf; do
                name=$(basename "$file" .elf)
                case $name in
                boot*) run_guest "$engine" "$name" --initrd "$scratch/module" --initrd "$scratch/module second=2" --append 'alpha beta=1' ;;
                cpu)
                        words=()
                        [[ $engine != kvm ]] || words=(--append hardware)
                        run_guest "$engine" "$name" "${words[@]}"
                        ;;
                clocks)
                        run_guest "$engine" "$name"
                        label="$name (a minute)"
                        ! counts "$engine" || run_guest "$engine" "$name" --clock instructions
                        label=
                        ;;
                disk) run_guest "$engine" "$name" --disk "$scratch/disk,readonly" ;;
                ide) run_guest "$engine" "$name" --disk "$scratch/disk,readonly,bus=ide" ;;
                random | legacy-random) ;; # tests/boot/random.sh
                latency | storm) run_guest "$engine" "$name" --cpus 2 ;; # one processor interrupts the other, or changes its page tables
                stale) run_guest "$engine" "$name" --cpus 2 ;; # a split lock stops the others only where there are some
                hostile) run_guest "$engine" "$name" --cpus 4 ;;
                escape)
                        [[ $engine != step ]] || continue # 70 million instructions
                        run_guest "$engine" "$name"
                        ;;
                smp | ipi)
                        [[ $engine != step ]] || continue # it takes a minute
                        run_guest "$engine" "$name" --cpus 4
                        ! counts "$engine" || run_guest "$engine" "$name" --cpus 4 --clock instructions
                        ;;
                legacy-model)
                        if [[ $engine == kvm ]]; then
                                skip "$engine: $name" 'hardware runs what it has, whatever CPUID says'
                                continue
                        fi
                        for model in 486 pentium v1 v2 max v2,-sse4.2,+aes v2,-sse v2,-lm; do
                                label="$name $model"
                                run_guest "$engine" "$name" --cpu "$model"
                                [[ $model != 486 ]] || contains "$engine: $label: doppel says what it lacks" "$err" 'which this processor (--cpu 486) lacks'
                        done
                        label=
                        ;;
                *) run_guest "$engine" "$name" ;;
                esac
        done
done
