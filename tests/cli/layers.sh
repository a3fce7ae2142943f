#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Who may include whom: util < x86 < vm < engine, device, backend < board, boot, control, gdb < cmd. And what must stay in one place.
set -euo pipefail
cd "$(dirname "$0")/../.."

failed=0

# check NAME FOLDER ALLOWED...: the folder's files include only its own headers and those of the allowed folders.
check() {
	local name=$1 folder=$2 bad
	shift 2
	bad=$(grep -rnE '^#include "' "src/$folder" | grep -vE "#include \"($(IFS='|'; echo "$folder|$*"))/" || true)
	if [ -z "$bad" ]; then
		echo "ok $name"
	else
		echo "not ok $name - ${bad//$'\n'/; }"
		failed=1
	fi
}

# nothing NAME PATTERN FILES...: the pattern stands nowhere in the files.
nothing() {
	local name=$1 pattern=$2 bad
	shift 2
	bad=$(grep -rnE "$pattern" "$@" || true)
	if [ -z "$bad" ]; then
		echo "ok $name"
	else
		echo "not ok $name - ${bad//$'\n'/; }"
		failed=1
	fi
}

check "util includes nothing above it" util
check "x86 includes only util" x86 util
check "vm includes only util and x86, and the engine interface" vm util x86 engine
check "engines know no device" engine util x86 vm
check "devices know no engine" device util x86 vm backend
check "backends know no device" backend util x86 vm
check "boards" board util x86 vm device backend boot
check "loaders" boot util x86 vm board
check "control" control util x86 vm engine device backend board
check "the server for gdb" gdb util x86 vm
check "commands" cmd util x86 vm engine device backend board boot control gdb
nothing "only decode.h includes Zydis" '#include <Zyd' $(find src -name '*.[ch]' ! -name decode.h)
nothing "only the decoder includes decode.h" '#include "x86/decode.h"' $(find src -name '*.[ch]' ! -name 'decode*.c' ! -name disassemble.c)
nothing "no conditional compilation in x86 and device" '^#[[:space:]]*(ifdef|if )' src/device $(find src/x86 -name '*.[ch]')
exit $failed
