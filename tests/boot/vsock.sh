#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux's own vsock driver: programs of the guest connect to the host's sockets, programs of the host to the guest's ports; ends of one direction,
# nobody who listens, many connections at once, more data than any buffer holds.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

many=300
tool=${BUILD:-$top/build}/tool/vsock
engine=$(default_engine)

# The guest's root, with the program.
mkdir "$scratch/root"
cp "$tool" "$scratch/root/vsock"
(cd "$scratch/root" && echo vsock | cpio --quiet -o -H newc -R 0:0) >"$scratch/vsock.cpio"
cat "$("$top/tools/guest" initramfs-virtio)" "$scratch/vsock.cpio" >"$scratch/initramfs"
INITRAMFS=$scratch/initramfs

# The host's side of three ports: 1 sends back what it gets, until its end; 2 says something and does not wait; 3 reads nothing for a while.
# shellcheck disable=SC2016 # the program's own
serve='use IO::Socket::UNIX; use IO::Select; use POSIX;
my %port; my $all = IO::Select->new; my %out;
for my $n (1, 2, 3) { my $s = IO::Socket::UNIX->new(Local => "$ARGV[0]_$n", Listen => 512) or die; $port{$s} = $n; $all->add($s); }
open my $f, ">", "$ARGV[0].ready";
while (1) {
        for my $s ($all->can_read) {
                if (my $n = $port{$s}) {
                        my $c = $s->accept;
                        if ($n == 1) { $all->add($c); next }
                        if ($n == 2) { print $c "the host says this\n"; close $c; next }
                        if (!fork) { sleep 2; my ($sum, $data) = (0); while (my $got = sysread $c, $data, 65536) { $sum += $got }
                                syswrite $c, "$sum bytes\n"; POSIX::_exit(0) }
                        close $c;
                } elsif (!sysread $s, my $data, 65536) { $all->remove($s); close $s;
                } else { while (length $data) { substr $data, 0, syswrite($s, $data), "" } }
        }
}'
# What the host does to the guest'"'"'s port 7: asks, says something, and ends its own direction; and to port 8, where nobody is.
# shellcheck disable=SC2016
call='use IO::Socket::UNIX; $| = 1;
for (1 .. 600) { last if -S $ARGV[0]; select undef, undef, undef, 0.1 }
sub dial { my $c = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die; syswrite $c, "CONNECT $_[0]\n"; $c }
for my $try (1 .. 600) {
        my $c = dial(7); my $answer = <$c>;
        if (!$answer) { select undef, undef, undef, 0.1; next }
        print $answer; print $c "a host calls\n"; shutdown $c, 1; print <$c>; last
}
my $c = dial(8); print defined(<$c>) ? "8 answers\n" : "8 does not answer\n";
$c = IO::Socket::UNIX->new(Peer => $ARGV[0]); syswrite $c, "HELLO\n"; print defined(<$c>) ? "it answers\n" : "it wants a request\n"'

command="/vsock cid
echo a guest says this | /vsock connect 1
/vsock connect 2 </dev/null
/vsock connect 9 </dev/null 2>&1
head -c 3000000 /dev/zero | /vsock connect 3
/vsock many 1 $many 20000
echo a guest answers | /vsock listen 7 1
sleep 1"

perl -e "$serve" "$scratch/host" &
server=$!
trap 'kill "$server"; test_end' EXIT
until [[ -e $scratch/host.ready ]]; do sleep 0.1; done
perl -e "$call" "$scratch/host" >"$scratch/called" 2>&1 &
caller=$!
boot_linux linux-cloud '' "$command" --engine "$engine" --vsock "$scratch/host,cid=77"
booted vsock
wait "$caller" || true
contains 'the number of the guest' "$out" 'cid 77'
contains 'what the guest says comes back' "$out" 'a guest says this'
contains 'what a host says that does not wait' "$out" 'the host says this'
contains 'where nobody listens' "$out" 'vsock: connect: Connection reset by peer'
contains 'the end of one direction, and a host that does not read' "$out" '3000000 bytes'
contains 'many connections at once' "$out" "$many connections, 20000 bytes each way"
contains 'the host calls the guest' "$out" 'a host calls'
called=$(<"$scratch/called")
contains 'which answers' "$called" 'OK 1073741'
contains 'with what it has to say' "$called" 'a guest answers'
contains 'a port where nobody is' "$called" '8 does not answer'
contains 'what is no request' "$called" 'it wants a request'
check 'the socket is taken away' 'it is still there' test ! -e "$scratch/host"
