#!/usr/bin/env bash
# mypy over keras_shift with zoo and custom_ops inside it, and its command. mypy names
# files of these two by the links in keras_shift/.
set -euo pipefail
cd "$(dirname "$0")/.."
"${PYTHON:-python3}" -m mypy --package keras_shift --module keras_shift_command "$@" |
  sed -E 's#^keras_shift/(zoo|custom_ops)/#\1/#'
