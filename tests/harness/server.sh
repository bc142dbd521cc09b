# One server for a script: started on a free port, stopped by its process id. The script that starts one traps its own
# EXIT and calls stop_server there.
# shellcheck shell=bash

SERVER_PID=
SERVER_URL=

# Clients take settings from the environment: none of the caller's may reach the tests, and no proxy stands between a
# client and a server on this machine.
unset "${!OPENAI_@}" "${!LANGSMITH_@}" "${!LANGCHAIN_@}"
export NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost

# sconce_binary prints the server under test: $SERVER_UNDER_TEST, or what `cargo build` made.
sconce_binary() {
  local binary=${SERVER_UNDER_TEST:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/sconce}
  if [[ ! -x $binary ]]; then
    echo "no server at $binary: run \`cargo build\`, or set SERVER_UNDER_TEST" >&2
    return 1
  fi
  printf '%s\n' "$binary"
}

# start_server FOLDER [ARGUMENT...] sets SERVER_URL and SERVER_PID; its output lies in FOLDER/stdout and FOLDER/stderr.
start_server() {
  local folder=$1 binary line
  shift
  binary=$(sconce_binary)
  : >"$folder/stdout"
  "$binary" --listen 127.0.0.1:0 "$@" >"$folder/stdout" 2>"$folder/stderr" &
  SERVER_PID=$!
  # The server says where it listens; two minutes are for a machine that is busy with other things.
  for ((i = 0; i < 1200; i++)); do
    if line=$(grep -m1 -o 'http://127\.0\.0\.1:[0-9]*' "$folder/stdout"); then
      # shellcheck disable=SC2034 # the script that starts the server uses it
      SERVER_URL=$line
      return
    fi
    if ! kill -0 "$SERVER_PID" 2>/dev/null; then break; fi
    sleep 0.1
  done
  echo "the server did not say where it listens:" >&2
  cat "$folder/stdout" "$folder/stderr" >&2
  return 1
}

stop_server() {
  if [[ -n $SERVER_PID ]]; then
    kill "$SERVER_PID" 2>/dev/null || true
    wait "$SERVER_PID" 2>/dev/null || true
    SERVER_PID=
  fi
}
