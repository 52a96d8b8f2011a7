#!/usr/bin/env bash
# Runs the tests that need no TensorFlow on Keras' other backends, in environments
# without TensorFlow:
#
#   tools/backends.sh                jax and torch
#   tools/backends.sh jax            one of them
#   tools/backends.sh jax tests/test_ops.py tests/test_layers.py
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1

python=${PYTHON:-python3}
backends=(jax torch)
if [[ $# -gt 0 && $1 != tests* ]]; then
  backends=("$1")
  shift
fi
tests=("$@")
[[ $# -gt 0 ]] || tests=(tests/test_{ops,layers,callbacks,center_loss,sparsify,fused_unit2d,fused_batch_normalization,data,trainer,distribution,studies}.py)

work=$(mktemp -d "${TMPDIR:-/tmp}/backends.XXXXXX")
trap 'rm -rf "$work"' EXIT
for backend in "${backends[@]}"; do
  echo "== $backend"
  "$python" -m venv "$work/environment"
  # The checkout lies on the path and hides the installed copy; what counts are the
  # requirements.
  "$work/environment/bin/python" -m pip install --quiet ".[$backend,plot]" \
    hypothesis pytest pytest-timeout 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
  if "$work/environment/bin/python" -c "import tensorflow" 2>/dev/null; then
    echo "TensorFlow came with $backend" >&2
    exit 1
  fi
  # JAX makes float32 of float64 unless told not to
  JAX_ENABLE_X64=1 KERAS_BACKEND=$backend "$work/environment/bin/python" -m pytest -q \
    -p no:cacheprovider -m "not tensorflow" "${tests[@]}"
  rm -rf "$work/environment"
done
