# SPDX-License-Identifier: MIT
# What the shell tests share: result lines, captured commands, booting a Linux guest, a folder for temporary files.
#
# A test is an executable file tests/boot/NAME.sh or tests/cli/NAME.sh that begins with
#     set -euo pipefail
#     . "$(dirname "$0")/../lib.sh"
# shellcheck shell=bash

# shellcheck source=tools/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../tools/lib.sh"

DOPPEL=${DOPPEL:-$top/build/doppel}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/doppel-test.XXXXXX")
child=''
results=0

test_end() {
        local status=$?
        announce_end
        if [[ $child ]] && kill "$child" 2>/dev/null; then wait "$child" || true; fi
        rm -rf "$scratch"
        if ((status == 0 && results == 0)); then echo "not ok $program - the test ended without a result"; fi
}
trap test_end EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

ok() { results=1 && echo "ok $1"; }
not_ok() { results=1 && echo "not ok $1${2:+ - $2}"; }
skip() { results=1 && echo "skip $1${2:+ - $2}"; }

# check NAME WHY CONDITION...: one result, by whether the command CONDITION succeeds.
check() {
        local name=$1 why=$2
        shift 2
        if "$@"; then ok "$name"; else not_ok "$name" "$why"; fi
}

# equal NAME GOT WANTED: one result, by comparing two texts.
equal() {
        if [[ $2 == "$3" ]]; then ok "$1"; else not_ok "$1" "got '$2', wanted '$3'"; fi
}

# contains NAME TEXT PART: one result, by whether PART stands in TEXT. The TEXT is shown when it does not.
contains() {
        if [[ $2 == *"$3"* ]]; then
                ok "$1"
        else
                not_ok "$1" "no '$3' in the output"
                printf '%s\n' "$2"
        fi
}

# result STATUS NAME DETAIL: one result, by the exit status of the command before.
result() {
        if (($1 == 0)); then
                ok "$2"
        else
                not_ok "$2" "${3//$'\n'/; }"
        fi
}

# build_guests: our own guests (guest/), built into the folder $guests.
build_guests() {
        guests=$(dirname "$DOPPEL")/guest
        if make -s -C "$top/guest" BUILD="$(realpath -m "$guests")" >"$scratch/make" 2>&1; then return; fi
        cat "$scratch/make"
        not_ok 'the guests are built'
        exit 1
}

poke() { # FILE OFFSET BYTES (as printf escapes)
        # shellcheck disable=SC2059
        printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# kernel NAME CODE: a bzImage whose 32-bit code, at 1 MiB, is CODE (as printf escapes). Boot protocol 2.15.
kernel() {
        local file=$scratch/$1
        head -c 1536 /dev/zero >"$file"
        poke "$file" $((0x1f1)) '\x01'                   # setup_sects
        poke "$file" $((0x1f4)) '\x20'                   # syssize
        poke "$file" $((0x1fe)) '\x55\xaa\xeb\x66HdrS\x0f\x02'
        poke "$file" $((0x211)) '\x01'                   # loadflags: high
        poke "$file" $((0x214)) '\x00\x00\x10\x00'       # code32_start
        poke "$file" $((0x22c)) '\xff\xff\xff\x7f'       # initrd_addr_max
        poke "$file" $((0x238)) '\xff\x07'               # cmdline_size
        poke "$file" $((0x258)) '\x00\x00\x10\x00'       # pref_address
        poke "$file" $((0x260)) '\x00\x00\x10\x00'       # init_size
        poke "$file" 1024 "$2"
}

# capture SECONDS COMMAND...: runs it without input; sets status (124 when it took too long), out and err.
capture() {
        local seconds=$1
        shift
        status=0
        timeout -k 5 "$seconds" "$@" </dev/null >"$scratch/out" 2>"$scratch/err" &
        child=$!
        wait "$child" || status=$?
        child=''
        # shellcheck disable=SC2034 # the tests use them
        out=$(tr -d '\0' <"$scratch/out")
        # shellcheck disable=SC2034
        err=$(tr -d '\0' <"$scratch/err")
}

# engines: the names of the engines that can run a guest here, one a line; all_engines: the slow one for debugging, too.
engines() { all_engines | grep -vx step; }
all_engines() { "$DOPPEL" engines | awk '$2 == "yes" && $1 != "null" { print $1 }'; }

# has_engine NAME: it can run a guest here. No grep -q behind a pipe: it leaves early, and then what is before it fails.
has_engine() { grep -qx -- "$1" <<<"$(all_engines)"; }

# default_engine: the one that doppel takes by itself: for tests of devices and firmware, of which no engine knows. TEST_ENGINE names another.
default_engine() {
        if [[ ${TEST_ENGINE:-} ]]; then
                echo "$TEST_ENGINE"
        else
                "$DOPPEL" engines | sed -n 's/^doppel run takes \([a-z]*\):.*/\1/p'
        fi
}

# counts ENGINE: whether it counts instructions, which --clock instructions needs.
counts() {
        "$DOPPEL" run --engine "$1" --clock instructions --kernel /dev/null >"$scratch/counts" 2>&1 || true
        ! grep -q 'does not count' "$scratch/counts"
}

# boot_linux KERNEL APPEND COMMAND [ARGUMENT...]: runs COMMAND in a guest with our initramfs, where KERNEL is a guest of
# tools/guest or a file, APPEND is added to the kernel's command line, and ARGUMENTs go to doppel run. Sets out to what the
# command wrote, guest to its exit status (empty when the guest never got there), status to doppel's, and err.
# INITRAMFS is another initramfs, a guest or a file, BOOT_SECONDS another time limit than 120.
boot_linux() {
        local kernel=$1 append=$2 command=$3 initramfs=${INITRAMFS:-initramfs}
        shift 3
        [[ -e $kernel ]] || kernel=$("$top/tools/guest" "$kernel")
        command_archive "$scratch" <<<"$command"
        [[ -e $initramfs ]] || initramfs=$("$top/tools/guest" "$initramfs")
        cat "$initramfs" "$scratch/command.cpio" >"$scratch/initrd"
        rm -f "$scratch/status"
        capture "${BOOT_SECONDS:-120}" "$DOPPEL" run --memory 512M --kernel "$kernel" --initrd "$scratch/initrd" \
                --append "$quiet_append${append:+ $append}" --serial stdio --debugcon "file:$scratch/status" --no-reboot "$@"
        # shellcheck disable=SC2034
        guest=$(guest_status "$scratch/status")
}

# booted NAME: two results about boot_linux: the command ended with 0, and so did doppel.
booted() {
        equal "$1: the command ends" "$guest" 0
        equal "$1: doppel's exit status" "$status" 0
        if ((status)) || [[ $guest != 0 ]]; then tail -n 30 <<<"$out" && printf '%s\n' "$err"; fi
}

# start ARGUMENT...: a machine with its serial line at the descriptor $keys; what it prints goes to $scratch/console.
start() {
        rm -f "$scratch/keys" "$scratch/console"
        mkfifo "$scratch/keys"
        "$DOPPEL" run "$@" --serial stdio <"$scratch/keys" >"$scratch/console" 2>"$scratch/err" &
        child=$!
        exec {keys}>"$scratch/keys"
}

# stop: ends the machine.
stop() {
        exec {keys}>&-
        kill "$child" 2>/dev/null || true
        wait "$child" || true
        child=''
}

# count TEXT FILE: how many times TEXT, which may go over lines, stands there, whatever moves the cursor in between.
count() {
        { sed 's/\r\x1b\[[0-9;]*H//g; s/\x1b\[[0-9;?]*[A-Za-z]//g' "$2" 2>/dev/null | tr '\n' '\001' | grep -aoF -- "${1//$'\n'/$'\001'}" || true; } | wc -l
}

# await SECONDS TEXT [TIMES]: until TEXT was printed so often.
await() {
        local tries=$(($1 * 10))
        while (($(count "$2" "$scratch/console") < ${3:-1})); do
                ((tries-- > 0)) && kill -0 "$child" 2>/dev/null || return 1
                sleep 0.1
        done
}

# awaits NAME SECONDS TEXT [TIMES]: one result.
awaits() {
        local name=$1
        shift
        if await "$@"; then
                ok "$name"
        else
                not_ok "$name" "no '$2' on the console"
                shown
        fi
}

# shown: the end of what the machine and doppel said, for who looks for the reason.
shown() { tail -n 20 "$scratch/console" | tail -c 2000 | cat -v && tail -n 20 "$scratch/err"; }

# press LINE: types it, and Enter.
press() { printf '%s\r' "$1" >&"$keys"; }

# ends NAME SECONDS: one result, by whether the started machine ends by itself in this time, and with 0.
ends() {
        local tries=$(($2 * 10)) result=0
        while kill -0 "$child" 2>/dev/null && ((tries-- > 0)); do sleep 0.1; done
        if kill -0 "$child" 2>/dev/null; then
                not_ok "$1" "it runs after $2 s"
                shown
                return
        fi
        wait "$child" || result=$?
        equal "$1" "$result" 0
}
