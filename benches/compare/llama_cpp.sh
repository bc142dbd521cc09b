#!/usr/bin/env bash
# Builds llama.cpp for this CPU, from the source package of llama-cpp-python, which carries it whole.
#
#   benches/compare/llama_cpp.sh DIRECTORY       # then DIRECTORY/build/bin has llama-bench, llama-server, llama-quantize …
#
# Needs python3 with pip, cmake and a C++ compiler.
set -euo pipefail

version=0.3.36
directory=$(mkdir -p "${1:?usage: llama_cpp.sh DIRECTORY}" && cd "$1" && pwd)
source=$directory/llama_cpp_python-$version/vendor/llama.cpp

if ! command -v cmake >/dev/null; then
  echo "llama_cpp.sh: cmake is missing" >&2
  exit 1
fi
if [[ ! -e $source/CMakeLists.txt ]]; then
  python3 -m pip download --quiet --no-deps --no-binary :all: --dest "$directory" "llama-cpp-python==$version" >&2
  tar -xzf "$directory/llama_cpp_python-$version.tar.gz" -C "$directory"
fi
# gcc 12 drops the stores to the tiles' configuration, and the matrix unit then faults: a barrier keeps them.
mmq=$source/ggml/src/ggml-cpu/amx/mmq.cpp
if ! grep -q '__asm__ volatile' "$mmq"; then
  sed -i 's/^\( *\)_tile_loadconfig(/\1__asm__ volatile("" ::: "memory");\n&/' "$mmq"
fi
cmake -S "$source" -B "$directory/build" -DCMAKE_BUILD_TYPE=Release \
  -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_OPENSSL=OFF >&2
cmake --build "$directory/build" --config Release --parallel "$(nproc)" \
  --target llama-bench llama-server llama-quantize llama-batched-bench >&2
"$directory/build/bin/llama-bench" --help >/dev/null && echo "$directory/build/bin"
