#!/usr/bin/env bash
# Runs .tflite files in LiteRT for AArch64, as phones have it, under qemu, and compares
# what they answer with LiteRT on this machine:
#
#   tools/litert_aarch64.sh                  FE-Net with random weights, float32 and int8
#   tools/litert_aarch64.sh model.tflite     these files
#
# For Debian on x86-64, with root (debootstrap wants it) and
#   apt-get install debootstrap qemu-user-static
# It keeps an AArch64 Python in .build/litert_aarch64 (330 MB). LITERT names the version
# on both sides. That is the newest that runs under qemu 7.2, where 2.2.0 and 2.3.0 crash;
# 2.3.0 runs under qemu 10. RUNNER names the emulator, as for tools/cc_tests.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2} PIP_DISABLE_PIP_VERSION_CHECK=1

python=${PYTHON:-python3}
litert=${LITERT:-2.1.6}
suite=bookworm # whose Python is 3.11
home=.build/litert_aarch64
root=$home/root
site=$home/site-$litert
here=$home/here-$litert

if [[ ! -e $root/usr/bin/python3.11 ]]; then
  rm -rf "$home/download" "$root" && mkdir -p "$root"
  debootstrap --arch=arm64 --variant=minbase --foreign --include=python3 \
    "$suite" "$home/download" >"$home/log" || { tail -n 5 "$home/log" >&2; exit 1; }
  # Unpacked and not configured: nothing of it runs but Python.
  for package in "$home"/download/var/cache/apt/archives/*.deb; do
    dpkg-deb -x "$package" "$root"
  done
  rm -rf "$home/download"
fi

if [[ ! -d $site ]]; then
  rm -rf "$home/wheels" "$site.unfinished"
  "$python" -m pip download --quiet --no-deps --only-binary :all: --python-version 3.11 \
    --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 \
    --platform manylinux2014_aarch64 --dest "$home/wheels" "ai-edge-litert==$litert" \
    numpy flatbuffers ml-dtypes protobuf typing-extensions backports-strenum tqdm
  for wheel in "$home"/wheels/*.whl; do
    "$python" -m zipfile --extract "$wheel" "$site.unfinished"
  done
  rm -rf "$home/wheels"
  mv "$site.unfinished" "$site"
fi

if [[ ! -d $here ]]; then
  "$python" -m pip install --quiet --no-deps --target "$here" "ai-edge-litert==$litert"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/litert_aarch64.XXXXXX")
trap 'rm -rf "$work"' EXIT
files=("$@")
if [[ $# -eq 0 ]]; then
  "$python" - "$work" <<'PYTHON'
import sys
from pathlib import Path

import keras
import numpy as np

import keras_shift

keras.utils.set_random_seed(0)
model = keras_shift.zoo.FENet(classifier_activation=None)
images = np.random.default_rng(0).uniform(0, 255, (32, 224, 224, 3))
for quantize in (None, "int8"):
    path = Path(sys.argv[1], f"fenet_{quantize or 'float32'}.tflite")
    keras_shift.deploy.to_tflite(model, path, quantize, images.astype("float32"))
PYTHON
  files=("$work"/*.tflite)
fi

cat >"$work/answers.py" <<'PYTHON'
"""Answers of .tflite files to the same random pixels, as one .npz file."""

import platform
import sys

import ai_edge_litert
import numpy as np
from ai_edge_litert.interpreter import Interpreter

answers = {}
for path in sys.argv[2:]:
    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    (given,), (wanted,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )
    rows = []
    for seed in range(4):
        pixels = np.random.default_rng(seed).uniform(0, 255, given["shape"])
        scale, zero_point = given["quantization"]
        if scale:
            pixels = np.rint(pixels / scale + zero_point)
        interpreter.set_tensor(given["index"], pixels.astype(given["dtype"]))
        interpreter.invoke()
        rows.append(interpreter.get_tensor(wanted["index"]))
    answers[path] = np.stack(rows)
np.savez(sys.argv[1], **answers)
print(platform.machine(), "LiteRT", ai_edge_litert.__version__)
PYTHON

PYTHONPATH=$here "$python" "$work/answers.py" "$work/here.npz" "${files[@]}"
PYTHONHOME=$root/usr PYTHONPATH=$site PYTHONDONTWRITEBYTECODE=1 \
  ${RUNNER:-qemu-aarch64-static} -cpu cortex-a76 -L "$root" "$root/usr/bin/python3.11" \
  "$work/answers.py" "$work/there.npz" "${files[@]}"

"$python" - "$work/here.npz" "$work/there.npz" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

here, there = map(np.load, sys.argv[1:])
failed = False
for path in here:
    one, other = (of[path].astype("float64") for of in (here, there))
    largest = np.abs(one - other).max()
    share = largest / np.abs(one).max()
    same = (one.reshape(len(one), -1).argmax(1) == other.reshape(len(one), -1).argmax(1))
    # Processors may round a half differently, and a step of int8 is large. With weights
    # of float16, only AArch64 computes in half precision.
    types = {tensor["dtype"] for tensor in Interpreter(path).get_tensor_details()}
    bound = 0.1 if np.int8 in types else 0.02 if np.float16 in types else 1e-4
    # What is not a number is not below a bound.
    ok = share <= bound and same.all()
    failed |= not ok
    print(
        f"{Path(path).name}: {'' if ok else 'FAILED: '}largest difference {largest:.2g} "
        f"({share:.2g} of the largest output), same top-1 in {same.sum()} of {same.size}"
    )
sys.exit(int(failed))
PYTHON
