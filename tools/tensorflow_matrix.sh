#!/usr/bin/env bash
# Compiles the op once, without TensorFlow, and checks that file in several of them:
#
#   tools/tensorflow_matrix.sh                    the versions below
#   tools/tensorflow_matrix.sh 2.16.* 2.22.0rc0   these
#
# Each gets an environment of its own (1.3 GB), which is deleted before the next.
set -euo pipefail
cd "$(dirname "$0")/.."
export TF_CPP_MIN_LOG_LEVEL=3 TF_ENABLE_ONEDNN_OPTS=0 PIP_DISABLE_PIP_VERSION_CHECK=1

python=${PYTHON:-python3}
versions=("$@")
[[ $# -gt 0 ]] || versions=("2.16.*" "2.18.*" "2.20.*" "2.21.*")

work=$(mktemp -d "${TMPDIR:-/tmp}/tensorflow_matrix.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$work" . 2>"$work/log" ||
  { cat "$work/log" >&2; exit 1; }
"$python" -m zipfile --extract "$work"/*.whl "$work/package"
op=$work/package/keras_shift/custom_ops
ls "$op/_shift_ops.so" > /dev/null

table=$work/table
failed=0
for version in "${versions[@]}"; do
  echo "== tensorflow-cpu $version" >&2
  "$python" -m venv "$work/environment"
  "$work/environment/bin/python" -m pip install --quiet "tensorflow-cpu==$version" \
    2>"$work/log" || { cat "$work/log" >&2; exit 1; }
  # From outside the checkout, whose folders must not be found.
  checker=$PWD/tools/check_op.py
  (cd "$work" && environment/bin/python "$checker" "$op" 2>log) >>"$table" || {
    failed=1
    tail -n 5 "$work/log" >&2
  }
  rm -rf "$work/environment"
done

printf '%-14s%-10s%-10s%s\n' TensorFlow Keras Python "one _shift_ops.so"
cat "$table"
exit $failed
