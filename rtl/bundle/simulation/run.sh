#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a program on this computer beside a simulation, connected by two named pipes; exits as the program does.
#   run.sh "PROGRAM [ARGUMENT ..]" "SIMULATOR [ARGUMENT ..]" [OPTION PREFIX, + unless given]
# The program gets the pipes as its first two arguments, the simulator as +requests=FILE +responses=FILE.
set -uf
program=${1%% *} arguments= simulator=$2 prefix=${3:-+} folder=$(mktemp -d)
case $1 in *' '*) arguments=${1#* } ;; esac
trap 'rm -rf "$folder"' EXIT
mkfifo "$folder/requests" "$folder/responses"
$program "$folder/requests" "$folder/responses" $arguments &
driver=$!
(
    $simulator "${prefix}requests=$folder/requests" "${prefix}responses=$folder/responses" >"$folder/log" 2>&1 ||
        { cat "$folder/log" >&2; kill $driver; }
) &
simulation=$!
wait $driver
status=$?
# A simulation that still waits for the other end of a pipe finds it, and the end of the requests.
: >"$folder/requests" & requests=$!
cat "$folder/responses" >/dev/null & responses=$!
wait $simulation
kill $requests $responses 2>/dev/null
exit $status
