# Sections of a run: a heading, the time each takes, and a summary at the end, whatever the end is.
# shellcheck shell=bash

SUMMARY=()
RUNNING=
STARTED=

# section TITLE COMMAND [ARGUMENT...]
section() {
  RUNNING=$1
  STARTED=$SECONDS
  shift
  printf '\n==== %s\n' "$RUNNING"
  "$@"
  SUMMARY+=("$(printf 'passed  %4ss  %s' "$((SECONDS - STARTED))" "$RUNNING")")
  RUNNING=
}

summary() {
  local status=$?
  if [[ -n $RUNNING ]]; then
    SUMMARY+=("$(printf 'FAILED  %4ss  %s' "$((SECONDS - STARTED))" "$RUNNING")")
  fi
  if [[ ${#SUMMARY[@]} -gt 0 ]]; then
    printf '\n==== summary (%ss)\n' "$SECONDS"
    printf '%s\n' "${SUMMARY[@]}"
  fi
  exit "$status"
}

trap summary EXIT
