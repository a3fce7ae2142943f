#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The project's own scripts: free of shellcheck's complaints, executable, with licence tag and title.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"
cd "$top"

is_script() { # FILE
        local first
        read -r first <"$1" 2>/dev/null && [[ $first == '#!'*sh ]]
}

headed() { # FILE: the tag, then a sentence
        awk '/^#!/ && NR == 1 { next } /^# SPDX-License-Identifier: MIT$/ && !tag { tag = NR; next }
                { exit !(tag && /^# [A-Za-z].*[.,:]/) }' "$1"
}

scripts=() heads=''
while read -r file; do
        if is_script "$file" || [[ $file == *.sh ]]; then scripts+=("$file"); fi
done < <(find demo check .ci tools tests bench -type f ! -name '*.c' ! -name '*.h')
for file in "${scripts[@]}"; do
        headed "$file" || heads+=" $file"
        [[ -x $file || $file == */lib.sh ]] || heads+=" $file"
done
equal 'licence tag, title, executable' "$heads" ''

# Into an empty cache, but for what a network would be needed for.
busybox=$(tools/guest busybox)
mkdir "$scratch/cache"
cp -a "${busybox%/busybox/*}/busybox" "$scratch/cache/"
DOPPEL_CACHE=$scratch/cache capture 120 tools/guest initramfs
check 'tools/guest makes an initramfs, called by a relative name' "status $status: $err" test -s "$out"

known=$(tools/setup --help | grep -oE 'PURPOSE: .*' | tr -d ',.') unknown=''
for purpose in $(grep -hoE 'tools/setup" [a-z ]+' "${scripts[@]}" | cut -d ' ' -f 2-); do
        [[ " $known " == *" $purpose "* ]] || unknown+=" $purpose"
done
equal 'what scripts ask tools/setup for, it knows' "$unknown" ''
if command -v shellcheck >/dev/null; then
        # Lists of words that are split on purpose, and names that look like a subtraction, are no mistakes.
        capture 120 shellcheck -x -P SCRIPTDIR -P . -S warning -e SC2046,SC2100 "${scripts[@]}"
        equal 'shellcheck' "$out" ''
else
        skip 'shellcheck' 'it is not installed'
fi
