#!/usr/bin/env bash
# Runs Bazel on this repository: `tools/bazel.sh build //...`, `tools/bazel.sh test //...`.
#
# Takes the bazel on the PATH if it still reads a WORKSPACE file, and otherwise brings
# version 2.1.0 from npm (43 MB, Linux on x86-64) into .tools/. Debian's
# bazel-bootstrap (4.2.3) works as well. The build itself needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."

package=@bazel/bazel-linux_x64
version=2.1.0
bazel=$(command -v bazel || true)
if [[ -n $bazel ]]; then
  major=$("$bazel" --version 2>/dev/null | sed -n 's/^bazel \([0-9]*\).*/\1/p')
  if [[ -z $major || $major -gt 6 ]]; then
    echo "tools/bazel.sh: $bazel reads no WORKSPACE file; using $package" >&2
    bazel=
  fi
fi
if [[ -z $bazel ]]; then
  prefix=.tools/bazel-$version
  bazel=$prefix/node_modules/$package/bazel-$version-linux-x86_64
  if [[ ! -x $bazel ]]; then
    mkdir -p "$prefix"
    npm install --silent --no-save --no-audit --no-fund --prefix "$prefix" \
      "$package@$version" >&2
  fi
  bazel=$PWD/$bazel
fi
exec "$bazel" "$@"
