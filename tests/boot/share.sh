#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux mounts a folder of the host by 9P: files, folders and links both ways, what the host's symbolic links do not reach, and a folder that
# is read only.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

INITRAMFS=initramfs-amd64
BOOT_SECONDS=250
command='mkdir /a /b
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 shared /a || exit 1
mount -t 9p -o trans=virtio,version=9p2000.L locked /b || exit 1
cd /a
cat from-host; cat out 2>/dev/null || echo "no way out"
dd if=/dev/zero bs=64k count=20 2>/dev/null | tr "\0" x >large; sha256sum <large
mkdir -p one/two; echo text >one/two/file; mv one/two/file one/file; ln one/file one/hard; ln -s file one/soft
cat one/soft; stat -c "%h" one/file; rm one/hard; rmdir one/two
truncate -s 5 one/file; echo more >>one/file; chmod 640 one/file; touch -d @1000000000 one/file
for i in $(seq 200); do echo $i >many-$i; done; ls | grep -c many; rm many-*
echo x 2>/dev/null >/b/new || echo "read only"; cat /b/kept
cd /; umount /a /b'

engine=$(engines | head -n 1)
mkdir -p "$scratch/shared" "$scratch/locked"
echo 'the host wrote this' >"$scratch/shared/from-host"
echo kept >"$scratch/locked/kept"
ln -s "$scratch/locked/kept" "$scratch/shared/out"
boot_linux linux-amd64 '' "$command" --engine "$engine" --share "$scratch/shared,tag=shared" --share "$scratch/locked,tag=locked,readonly"
booted "9P"
contains 'the guest reads what the host wrote' "$out" 'the host wrote this'
contains 'a link that leads out leads nowhere' "$out" 'no way out'
contains 'a large file' "$out" "$(head -c 1310720 /dev/zero | tr '\0' x | sha256sum)"
equal 'the host reads what the guest wrote' "$(<"$scratch/shared/one/file")" $'text\nmore'
equal 'its mode and time' "$(stat -c '%a' "$scratch/shared/one/file") $(stat -c %Y "$scratch/shared/one/file")" '640 1000000000'
equal 'its links' "$(readlink "$scratch/shared/one/soft"; cd "$scratch/shared/one" && echo *)" $'file\nfile soft'
contains 'two hundred files' "$out" $'\n200\n'
contains 'a folder that is read only' "$out" $'read only\nkept'
