#!/bin/sh
# Renders a config at an agent's start: render.sh FEATURE/NAME >config
# GUILLEMET_SOCKET says where the daemon answers: export GUILLEMET_SOCKET="$(guillemet paths socket)"
set -eu
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
status=$(curl -sS --unix-socket "$GUILLEMET_SOCKET" -o "$answer" -w '%{http_code}' "http://guillemet/v1/render/$1")
if [ "$status" != 200 ]; then
    cat "$answer" >&2
    exit 1
fi
cat "$answer"
