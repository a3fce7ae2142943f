#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Exec functions go on by a jump (x86/exec.h), in what the compiler made of them: with a call, a loop of the guest's would use up the host's stack. What goes on
# has its target from i[1].exec and i + 1 in RSI. Nothing calls that; and nothing calls by its name a function that does it.
set -euo pipefail
cd "$(dirname "$0")/../.."
program=${DOPPEL:-build/doppel}

if ! command -v objdump >/dev/null; then
	echo "skip exec functions go on by jumps - there is no objdump"
	exit
fi
if nm "$program" | grep __asan_init >/dev/null; then
	echo "skip exec functions go on by jumps - the sanitizers keep frames"
	exit
fi

# Each function is known by its address, as static ones of several files may have one name. Of each register is known, in a straight run of code, from how far behind
# an address it was loaded, and how far behind another register it points.
objdump -d --no-show-raw-insn -j .text "$program" | awk '
	function forget() { delete loaded; delete behind }

	/^[0-9a-f]+ <.*>:$/ {
		at = $1; sub(/^0+/, "", at)
		name[at] = $2; gsub(/[<>:]/, "", name[at])
		forget()
		next
	}
	!/^ *[0-9a-f]+:\t/ { next }
	{
		operation = $2; operands = $3
	}
	operation ~ /^(call|jmp)$/ {
		size = "none"
		if (operands ~ /^\*%r[a-z0-9]+$/)
			size = loaded[substr(operands, 2)]
		else if (operands ~ /^\*0x[0-9a-f]+\(%r[a-z0-9]+\)$/)
			size = substr(operands, 2, index(operands, "(") - 2)
		else
			direct[operation, at, operands]
		if (size && size == behind["%rsi"])
			goes_on[operation, at, size]++
		forget()
		next
	}
	operation ~ /^ret/ { forget() }
	operation ~ /^(j|ret|cmp|test|push)/ { next }
	{
		source = destination = operands
		sub(/,[^,]*$/, "", source)
		sub(/.*,/, "", destination)
		sub(/^%e/, "%r", destination)
		offset = source ~ /^0x[0-9a-f]+\(%r[a-z0-9]+\)$/ ? substr(source, 1, index(source, "(") - 1) : ""
		loaded[destination] = operation != "mov" ? "" : source in loaded ? loaded[source] : offset
		behind[destination] = operation == "mov" ? behind[source] : operation == "lea" ? offset : operation == "add" ? substr(source, 2) : ""
	}
	END {
		for (key in goes_on) {
			split(key, part, SUBSEP)
			count[part[3]] += goes_on[key]
		}
		for (size in count)
			if (count[size] > count[insn])
				insn = size # of struct insn
		for (key in goes_on) {
			split(key, part, SUBSEP)
			if (part[3] != insn)
				continue
			chain[part[2]]
			if (part[1] == "call")
				bad = bad " " name[part[2]] " goes on by a call;"
		}
		do {
			more = 0
			for (key in direct) {
				split(key, part, SUBSEP)
				if (part[1] == "jmp" && part[3] in chain && !(part[2] in chain)) {
					chain[part[2]]
					more = 1
				}
			}
		} while (more)
		for (key in direct) {
			split(key, part, SUBSEP)
			if (part[1] == "call" && part[3] in chain)
				bad = bad " " name[part[2]] " calls " name[part[3]] ";"
		}
		for (at in chain)
			functions++
		if (bad || functions < 1000)
			print "not ok exec functions go on by jumps -" (bad ? bad : " only " functions + 0 " are found")
		else
			print "ok exec functions go on by jumps"
		exit bad || functions < 1000
	}'
