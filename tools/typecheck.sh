#!/usr/bin/env bash
# Runs mypy over keras_shift, with zoo and custom_ops inside it, and over its command.
# mypy names the files of zoo and custom_ops by the links in keras_shift/.
set -euo pipefail
cd "$(dirname "$0")/.."
"${PYTHON:-python3}" -m mypy --package keras_shift --module keras_shift_command "$@" |
  sed -E 's#^keras_shift/(zoo|custom_ops)/#\1/#'
