# Environments for the suites: a Python venv or a node_modules for each state of a lock file, made once and kept outside
# the checkout. A second run finds them by the lock's hash and installs nothing.
# shellcheck shell=bash

# The caller's paths, before any script changes its folder.
for name in SERVER_UNDER_TEST TEST_CHROMIUM TEST_CACHE SPEC_COVERAGE; do
  if [[ -n ${!name:-} ]]; then export "$name=$(realpath -ms -- "${!name}")"; fi
done

cache_root() {
  printf '%s\n' "${TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sconce-tests}"
}

# environment KIND TOOL_VERSION LOCK MAKE [ARGUMENT...] prints the folder; `MAKE FOLDER ARGUMENT...` fills it when it is
# not there yet. The marker is written last, so that an interrupted installation is made anew; the lock keeps two runs
# from filling one folder.
environment() {
  local kind=$1 version=$2 lock=$3 make=$4
  shift 4
  local key folder
  key=$(printf '%s %s\n' "$version" "$(uname -m)" | cat - "$lock" | sha256sum | cut -c1-16)
  folder=$(cache_root)/$kind-$key
  mkdir -p "$(cache_root)"
  (
    flock 9
    if [[ ! -e $folder/.complete ]]; then
      echo "installing ${lock#"$ROOT"/} into $folder" >&2
      rm -rf "$folder"
      mkdir -p "$folder"
      "$make" "$folder" "$@" >&2
      touch "$folder/.complete"
    fi
  ) 9>"$folder.lock"
  printf '%s\n' "$folder"
}

# python_environment SUITE prints a folder whose bin/python has what SUITE/requirements.lock names, and nothing else.
python_environment() {
  environment "python-$(basename "$1")" "$(python3 --version)" "$1/requirements.lock" fill_python "$1"
}

fill_python() {
  if ! python3 -c 'import ensurepip' 2>/dev/null; then
    apt_install python3-venv # Debian ships python3 without the part that makes environments
  fi
  python3 -m venv "$1"
  "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    --require-hashes --no-deps --requirement "$2/requirements.lock"
}

# node_environment SUITE links SUITE/node_modules to what SUITE/package-lock.json names: Node looks for packages beside
# the importing file and, for modules, nowhere else.
node_environment() {
  local folder
  folder=$(environment "node-$(basename "$1")" "$(node --version)" "$1/package-lock.json" fill_node "$1")
  ln -sfn "$folder/node_modules" "$1/node_modules"
}

fill_node() {
  cp "$2/package.json" "$2/package-lock.json" "$1"
  # No package here needs its install script, and none of them gets to run one.
  npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund --loglevel=error
}

# apt_install PACKAGE... as root, by sudo where there is one.
apt_install() {
  if ! command -v apt-get >/dev/null; then
    echo "$* is missing, and there is no apt-get here to install it with" >&2
    return 1
  fi
  local as_root=()
  if [[ $(id -u) != 0 ]]; then as_root=(sudo); fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# chromium_path prints a Chromium: $TEST_CHROMIUM, the one installed, or the one installed now.
chromium_path() {
  if [[ -n ${TEST_CHROMIUM:-} ]]; then
    printf '%s\n' "$TEST_CHROMIUM"
    return
  fi
  command -v chromium || command -v google-chrome-stable || {
    apt_install chromium >&2
    command -v chromium
  }
}
