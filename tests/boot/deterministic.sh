#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# With the count of instructions as the clock, two runs of Linux end with the same memory, processors and counts, whatever else the host does.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

# run ENGINE CPUS NUMBER: sets print: what the run counted, and its hash.
run() {
        boot_linux linux-cloud "number=$3" 'date; nproc; for i in 1 2 3; do (seq 20000 | md5sum) & done; wait' \
                --engine "$1" --cpus "$2" --clock instructions --stats --hash
        print=$(grep -v '^bt\.ns\.' <<<"$err") # time of the host
        # shellcheck disable=SC2154 # lib.sh sets it
        equal "$1: $2 processors: a run ends well" "$status $guest" '0 0'
}

# Stops all of the machine now and then, and keeps a processor of the host busy. Until it is killed.
disturb() {
        local load
        (while :; do :; done) & load=$!
        # shellcheck disable=SC2064
        trap "kill $load" EXIT
        while sleep 0.3; do
                # shellcheck disable=SC2046 # several numbers
                kill -STOP $(machines) 2>/dev/null && sleep 0.1
                # shellcheck disable=SC2046
                kill -CONT $(machines) 2>/dev/null || true
        done
}

# The doppel below the test's own `timeout`.
machines() { ps -o pid=,ppid=,comm= -A | awk -v top=$$ '{ parent[$1] = $2 } $3 == "doppel" && parent[$2] == top { print $1 }'; }

for engine in $(engines); do
        counts "$engine" || { skip "$engine: two runs are the same" 'it does not count instructions' && continue; }
        for cpus in 1 2; do
                run "$engine" "$cpus" 1
                first=$print output=$out
                disturb & disturber=$!
                run "$engine" "$cpus" 1
                kill "$disturber"
                wait "$disturber" || true
                contains "$engine: $cpus processors: there is a hash" "$first" $'\nhash '
                contains "$engine: $cpus processors: there is a count" "$first" 'instructions '
                equal "$engine: $cpus processors: two runs have the same output" "$out" "$output"
                equal "$engine: $cpus processors: two runs have the same counts and hash" "$print" "$first"
        done
        run "$engine" 2 2
        check "$engine: another command line has another hash" "$(tail -n 1 <<<"$print")" \
                test "$(tail -n 1 <<<"$print")" != "$(tail -n 1 <<<"$first")"
done
