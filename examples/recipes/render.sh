#!/bin/sh
# Renders a config at an agent's start: render.sh FEATURE/NAME >config
set -eu
socket=${GUILLEMET_SOCKET:-${GUILLEMET_HOME:?set GUILLEMET_HOME or GUILLEMET_SOCKET}/run/guillemet.sock}
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
status=$(curl -s --unix-socket "$socket" -o "$answer" -w '%{http_code}' "http://guillemet/v1/render/$1")
if [ "$status" != 200 ]; then
    cat "$answer" >&2
    exit 1
fi
cat "$answer"
