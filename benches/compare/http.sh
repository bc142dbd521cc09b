#!/usr/bin/env bash
# What sconce's HTTP costs, beside a FastAPI server of the same API under uvicorn. Prints Markdown; see ../README.md.
#
#   benches/compare/http.sh [--rounds N] [--seconds N] [--streams N] [--also NAME=PROGRAM]
#
# --also measures another build of sconce in the same rounds, for instance the one before a change.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
cache=${TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sconce-tests}

for tool in cargo nginx python3 taskset wrk; do
  if ! command -v "$tool" >/dev/null; then
    echo "http.sh: $tool is missing (wrk, nginx and util-linux are Debian packages)" >&2
    exit 1
  fi
done

cargo build --release --locked --manifest-path "$repository/Cargo.toml" >&2

requirements=$here/http/requirements.txt
venv=$cache/compare-http-$(sha256sum "$requirements" | cut -c1-12)
if [[ ! -e $venv/ready ]]; then
  rm -rf "$venv"
  mkdir -p "$cache"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" >&2
  touch "$venv/ready"
fi

target=${CARGO_TARGET_DIR:-$repository/target}
PYTHONDONTWRITEBYTECODE=1 exec "$venv/bin/python" "$here/http/compare.py" \
  --sconce "$target/release/sconce" --repository "$repository" "$@"
