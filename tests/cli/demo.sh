#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The demonstration's command line: output, exit status, and its errors.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

capture 200 "$top/demo" -c 'echo "a  b"; exit 7'
equal 'output of the command' "$out" 'a  b'
equal 'exit status of the command' "$status" 7
capture 200 "$top/demo" -c 'poweroff -f'
equal 'a guest that ends early: exit status' "$status" 1
contains 'a guest that ends early: message' "$err" 'ended before the command did'
capture 10 "$top/demo" --no-such-option
equal 'a wrong option: exit status' "$status" 2
contains 'a wrong option: usage' "$err" 'usage: ./demo'
