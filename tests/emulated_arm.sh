#!/bin/bash
# Runs the kernels' tests as on ARM (aarch64), on an x86 machine with Debian 12: bash tests/emulated_arm.sh FOLDER [TESTS]
#
# FOLDER gets what is downloaded: the emulator (qemu-user-static), Debian's arm64 Python 3.11 with its libraries, which
# are unpacked there and not installed, and the aarch64 wheels of NumPy, Numba and others. TESTS are arguments of pytest;
# without any, the tests of the tiles, of products, of functions of each element, of sums and of gathering, on the host's
# code alone. It has to run as root, because apt needs another architecture. Emulated code is 10 to 30 times slower.
set -euo pipefail

project=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mkdir -p "$1" && cd "$1" && pwd)
shift
packages="python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libstdc++6 libgcc-s1 zlib1g libexpat1 libffi8
  libssl3 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1 libcrypt1"

if [ ! -d "$folder/system" ]; then
  mkdir -p "$folder/packages"
  cd "$folder/packages"
  dpkg --add-architecture arm64
  apt-get update -qq
  # shellcheck disable=SC2086
  apt-get download -qq qemu-user-static $(printf '%s:arm64 ' $packages)
  dpkg -x qemu-user-static*.deb "$folder/emulator"
  for package in *_arm64.deb; do dpkg -x "$package" "$folder/system.new"; done
  mv "$folder/system.new" "$folder/system"
fi
if [ ! -d "$folder/site" ]; then
  python3 -m pip download -q -d "$folder/wheels" --only-binary=:all: --implementation cp --python-version 3.11 \
    --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 \
    "numpy>=2.0" "numba>=0.68" safetensors tqdm pytest scikit-learn
  for wheel in "$folder"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$folder/site.new"; done
  mv "$folder/site.new" "$folder/site"
fi

cd "$project"
export PYTHONPATH="$folder/site:$project" FASTNN_CACHE_DIR="$folder/cache"
python=("$folder/emulator/usr/bin/qemu-aarch64-static" -L "$folder/system" "$folder/system/usr/bin/python3.11")
"${python[@]}" -c 'from fastnn.kernels.target import HOST; print(HOST)'
if [ $# -eq 0 ]; then
  set -- tests/test_tile.py tests/test_matmul.py tests/test_elementwise.py tests/test_reductions.py \
    tests/test_samples.py tests/test_noise.py -k "not avx2 and not sse and not avx512"
fi
"${python[@]}" -m pytest -q -p no:cacheprovider "$@"
