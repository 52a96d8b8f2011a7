#!/usr/bin/env bash
# mypy over keras_shift with zoo and custom_ops inside it, as they are installed.
#
# mypy finds packages by folder alone: it follows neither the editable install nor
# keras_shift's __path__. So it is shown a folder of links.
set -euo pipefail
cd "$(dirname "$0")/.."

stage=.build/typecheck
rm -rf "$stage"
mkdir -p "$stage/keras_shift"
for entry in keras_shift/* zoo custom_ops; do
  ln -s "$PWD/$entry" "$stage/keras_shift/"
done
ln -s "$PWD/keras_shift_command.py" "$stage/"
export MYPYPATH=$stage
"${PYTHON:-python3}" -m mypy --package keras_shift --module keras_shift_command "$@" |
  sed -E "s#^$stage/(keras_shift/(zoo|custom_ops)/)#\1#; s#^keras_shift/(zoo|custom_ops)/#\1/#; s#^$stage/##"
