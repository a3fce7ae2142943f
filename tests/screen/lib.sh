# SPDX-License-Identifier: MIT
# What tests share that look at a machine's screen and type on its keyboard.
# shellcheck shell=bash

# shellcheck source=tests/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

viewer=${BUILD:-$top/build}/tool/vnc_client
export XDG_RUNTIME_DIR=$scratch/run
mkdir -m 700 "$XDG_RUNTIME_DIR"
machine=screen

# Without hardware behind it kvm takes minutes for firmware; what it does with a screen other guests show.
engines_but_kvm() { engines | grep -vx kvm; }

# start ENGINE ARGUMENT...: a machine called $machine.
start() {
        "$DOPPEL" run --engine "$1" --name "$machine" --serial none "${@:2}" </dev/null >"$scratch/out" 2>"$scratch/err" &
        child=$!
}

stop() {
        kill "$child" 2>/dev/null || true
        wait "$child" || true
        child=''
}

# ask SECONDS COMMAND...: as capture, beside the machine.
ask() {
        local pid=$child
        capture "$@"
        child=$pid
}

keys() { "$DOPPEL" keys "$machine" "$1"; }

# await SECONDS TEXT: until TEXT is on the screen; !TEXT: until it is not. The screen is then in $screen.
await() {
        local tries=$(($1 * 5)) there
        while ((tries-- > 0)) && kill -0 "$child" 2>/dev/null; do
                screen=$("$DOPPEL" screen "$machine" 2>/dev/null || true)
                there=no
                [[ $screen != *"${2#!}"* ]] || there=yes
                if [[ $screen ]] && { [[ $2 == !* && $there == no ]] || [[ $2 != !* && $there == yes ]]; }; then return 0; fi
                sleep 0.2
        done
        return 1
}

# awaits NAME SECONDS TEXT: one result.
awaits() {
        if await "$2" "$3"; then
                ok "$1"
        else
                not_ok "$1" "waited for '$3' on the screen"
                printf '%s\n' "$screen"
                tail -n 5 "$scratch/err"
        fi
}

# Where a viewer finds it: an argument for --display.
display=none
# shellcheck disable=SC2034
[[ ! -x $viewer ]] || display=vnc=$scratch/vnc
