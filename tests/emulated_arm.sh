#!/bin/bash
# Runs the tests of the kernels for ARM (aarch64) on an x86-64 machine: bash tests/emulated_arm.sh [FOLDER [ARGUMENT...]]
#
# FOLDER gets all that is downloaded: the emulator QEMU, Debian's Python 3.11 for ARM with its libraries, and ARM's
# wheels of NumPy, Numba and others. Another run finds them there. Without FOLDER it is a new temporary folder, which is
# removed at the end. Nothing is installed, and nothing outside FOLDER changes.
#
# ARGUMENTs are pytest's, and name the tests; without any, the tests listed below run. PYTEST_ADDOPTS adds options to
# either. Tests that start Python anew cannot pass: sys.executable is a program for ARM.
#
# Needs Debian 12, Python 3.11 or newer with pip, and the package registries that apt and pip are set up for; no root.
# Takes 700 MB and a minute to set up. The tests listed below take ten minutes, those of test_training_programs.py far longer.
set -euo pipefail

project=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -gt 0 ]; then
  mkdir -p "$1"
  folder=$(cd "$1" && pwd)
  shift
else
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
fi
if [ $# -eq 0 ]; then
  set -- tests/kernels/test_{tile,matmul,elementwise,reductions,gathering,batches,simd,noise,layers,strategy}.py
fi

# A folder gets its name when it is complete, so that a run that was stopped does not leave half of one.
if [ ! -d "$folder/system" ]; then
  debian=(qemu-user-static)
  for name in python3.11-minimal libpython3.11-{minimal,stdlib} libc6 libstdc++6 libgcc-s1 zlib1g libexpat1 libffi8 \
    libssl3 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1 libcrypt1; do
    debian+=("$name:arm64")
  done
  # apt with lists of its own, of both architectures.
  apt=(apt-get -qq -o "APT::Architectures::=$(dpkg --print-architecture)" -o APT::Architectures::=arm64
    -o "Dir::State::Lists=$folder/apt/lists" -o "Dir::Cache=$folder/apt/cache" -o APT::Sandbox::User=)
  rm -rf "$folder/apt" "$folder/system.part"
  mkdir -p "$folder"/apt/{lists,cache}/partial "$folder/apt/packages"
  "${apt[@]}" update
  (cd "$folder/apt/packages" && "${apt[@]}" download "${debian[@]}")
  for package in "$folder"/apt/packages/*.deb; do dpkg -x "$package" "$folder/system.part"; done
  rm -r "$folder/apt"
  mv "$folder/system.part" "$folder/system"
fi

if [ ! -d "$folder/site" ]; then
  mapfile -t needed < <(python3 - "$project/pyproject.toml" <<'EOF'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)
print(*project["project"]["dependencies"], sep="\n")
print(*(name for name in project["dependency-groups"]["dev"] if name.startswith("pytest==")), sep="\n")
EOF
  )
  rm -rf "$folder/site.part"
  python3 -m pip install --quiet --no-compile --target "$folder/site.part" --only-binary=:all: --implementation cp \
    --python-version 3.11 --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 "${needed[@]}"
  mv "$folder/site.part" "$folder/site"
fi

cd "$project"
export PYTHONPATH="$folder/site:$project" FASTNN_CACHE_DIR="$folder/cache" PYTHONDONTWRITEBYTECODE=1
python=("$folder/system/usr/bin/qemu-aarch64-static" -L "$folder/system" "$folder/system/usr/bin/python3.11")
"${python[@]}" - <<'EOF'
from fastnn.kernels.cpu.target import HOST
print(HOST)
assert HOST.triple.startswith("aarch64") and HOST.vector_bytes == 16
EOF
"${python[@]}" -m pytest -p no:cacheprovider "$@"
