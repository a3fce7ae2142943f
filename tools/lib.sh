# SPDX-License-Identifier: MIT
# What the project's shell scripts share: messages, steps with progress, the cache, the command archive.
# shellcheck shell=bash

program=${0##*/}

say() { printf '%s: %s\n' "$program" "$*" >&2; }
die() { say "$*"; exit 1; }

# The top of the tree.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What is made or fetched lives outside the tree, so that a clone stays clean and a second clone finds it.
cache=${DOPPEL_CACHE:-${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}/doppel}

# cache_open: makes the cache folder, or says how to choose another one.
cache_open() {
        mkdir -p "$cache/log" 2>/dev/null || true
        [[ -w $cache/log ]] || die "cannot write to the cache folder $cache; choose another one with DOPPEL_CACHE=FOLDER"
}

# A pipe that never has data: a read with a timeout from it sleeps without a child process, which could outlive us.
exec {never}<> <(:)
announcer=

announce() {
        trap - EXIT
        read -rt 1 -u "$never" _ || true
        say "$1 ..."
}

announce_end() {
        [[ $announcer ]] || return 0
        kill "$announcer" 2>/dev/null || true
        wait "$announcer" 2>/dev/null || true
        announcer=
}

# step TEXT LOG COMMAND...: runs COMMAND with its output in the file LOG. Says TEXT when that takes over a second, and
# shows the whole log when it fails. Returns the command's status.
step() {
        local text=$1 log=$2 start=$SECONDS status=0
        shift 2
        announce "$text" &
        announcer=$!
        "$@" >"$log" 2>&1 || status=$?
        announce_end
        if ((status)); then
                cat "$log" >&2
                say "$text failed with status $status; this is the whole log, kept in $log"
        elif ((SECONDS - start > 2)); then
                say "$text: done in $((SECONDS - start)) s"
        fi
        return "$status"
}

# build TARGET: what is built in this tree, by one process at a time.
build() {
        local lock
        exec {lock}<"$top"
        step "building ${1/#all/doppel}" "$cache/log/build.log" locked_make "$lock" "$1" || exit 1
        exec {lock}<&-
}

locked_make() { # LOCK TARGET
        flock "$1"
        make -C "$top" -j"$(nproc)" "$2" </dev/null
}

# command_archive FOLDER: reads a shell script and writes FOLDER/command.cpio, which has the guest's init run it when it
# follows an initramfs of ours. The kernel takes concatenated archives; ours are padded for that, and depend on nothing but
# the script.
command_archive() {
        cat >"$1/run-command"
        touch -d @0 "$1/run-command"
        (cd "$1" && printf 'run-command\n' | cpio --quiet -o -H newc -R 0:0 --reproducible >command.cpio)
}

# What a guest needs that runs a command: no messages of the kernel on the serial line, and a reset instead of an endless
# wait when the kernel panics; --no-reboot makes that the end.
# shellcheck disable=SC2034
quiet_append='console=ttyS0 quiet loglevel=1 panic=-1'

# guest_status FILE: the exit status that the guest left on its debug port, nothing when there is none.
guest_status() {
        local last=
        [[ ! -e $1 ]] || last=$(tail -n 1 "$1" | tr -dc '0-9\n')
        if [[ $last =~ ^[0-9]{1,3}$ ]] && ((10#$last < 256)); then
                echo "$((10#$last))"
        fi
}
