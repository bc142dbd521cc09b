#!/usr/bin/env bash
# vLLM on the CPU, asked direct and through sconce's proxy: the SDK's calls have to come out the same, then what the way
# through adds is measured. Prints Markdown; see ../README.md. The first run installs vLLM (6 GB).
#
#   cargo build --release && benches/compare/vllm.sh [--rounds N]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$repository/target}
export SERVER_UNDER_TEST=${SERVER_UNDER_TEST:-$target/release/sconce}
upstreams=$repository/tests/sdk/upstreams/run

"$upstreams" vllm --quiet >&2
"$upstreams" vllm_pooling --quiet >&2
"$upstreams" vllm --program "$here/vllm.py" "$@"
