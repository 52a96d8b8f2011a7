#!/usr/bin/env bash
# Compiles the C++ tests (custom_ops/cc/*_test.cc, plain programs) and runs them, and so
# the fuzz targets (custom_ops/fuzz/*_fuzz.cc) on their corpus and a few random inputs.
#
#   tools/cc_tests.sh                     all of them
#   tools/cc_tests.sh shift_test          one of them
#   SANITIZE=address tools/cc_tests.sh    under AddressSanitizer and UBSan
#   SANITIZE=thread tools/cc_tests.sh     under ThreadSanitizer
#
# LIBFUZZER=1 compiles the fuzz targets with Clang's libFuzzer, for tools/fuzz.py, and
# runs nothing.
#
# CXX names the compiler, and RUNNER a program to run the tests with, as in
#   CXX="aarch64-linux-gnu-g++ -static" RUNNER=qemu-aarch64-static tools/cc_tests.sh
set -euo pipefail
cd "$(dirname "$0")/.."

cxx=${CXX:-c++}
flags="-std=c++20 -O3 -fvisibility=hidden -pthread"
plain_flags=$flags
warnings="-Wall -Wextra -Werror"
case ${SANITIZE:-} in
  "") ;;
  address) flags+=" -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all" ;;
  thread) flags+=" -g -O1 -fsanitize=thread" ;;
  *) echo "SANITIZE is address or thread, not '$SANITIZE'" >&2; exit 2 ;;
esac

# Compilers warn wrongly about instrumented code.
[[ -z ${SANITIZE:-} ]] || warnings="-Wall -Wextra"
# The targets themselves are not what libFuzzer should explore, and their plain loops
# take less time without sanitizers. Those of the heap see what kernels do to arrays.
target_flags=$flags
if [[ -n ${LIBFUZZER:-} ]]; then
  target_flags=$plain_flags
  # The counters of what was reached are no atomics, which looks like a data race. So
  # there, libFuzzer is told what a target reaches, on its one thread, and no more.
  coverage="-O2 -fsanitize=fuzzer-no-link"
  if [[ ${SANITIZE:-} == thread ]]; then
    target_flags+=" $coverage"
  else
    flags+=" $coverage"
  fi
  [[ $# -gt 0 ]] || set -- custom_ops/fuzz/*_fuzz.cc
fi

target=$($cxx -dumpmachine)
isa_flags() { # what one source alone is compiled with: see setup.py
  case $target:$1 in
    x86_64-*_avx2.cc) echo "-mavx2 -mfma -mf16c" ;;
    x86_64-*_avx512.cc)
      echo "-mavx512f -mavx512vl -mavx512bw -mavx512dq -mfma -mf16c" \
        "-mprefer-vector-width=512" ;;
    x86_64-*_avx512bf16.cc)
      echo "-mavx512f -mavx512vl -mavx512bw -mavx512dq -mavx512bf16 -mfma -mf16c" \
        "-mprefer-vector-width=512" ;;
  esac
}

out=.build/cc_tests/$target${SANITIZE:+-$SANITIZE}${LIBFUZZER:+-libfuzzer}
mkdir -p "$out"
newest_header=$(ls -t custom_ops/cc/*.h custom_ops/fuzz/*.h | head -n 1)

compile() { # one source into an object, unless that is newer
  local object=$out/$(basename "${1%.cc}").o
  if [[ ! -e $object || $1 -nt $object || $newest_header -nt $object ||
    $0 -nt $object ]]; then
    local some=$flags
    [[ $1 != *_fuzz.cc ]] || some=$target_flags
    $cxx $some $(isa_flags "$1") $warnings -I. -c "$1" -o "$object"
  fi
}

kernels=()
tests=()
for source in custom_ops/cc/*.cc custom_ops/fuzz/*_fuzz.cc; do
  case $source in
    */tf_*) ;; # only TensorFlow can run it
    *_test.cc | *_fuzz.cc) tests+=("$source") ;;
    *) kernels+=("$source") ;;
  esac
done
if [[ $# -gt 0 ]]; then
  tests=()
  for name in "$@"; do
    case $name in
      */*) tests+=("$name") ;; # another program on the kernels, by its path
      *) tests+=("custom_ops/cc/$name.cc") ;;
    esac
  done
fi

# Two compilers run at a time.
running=()
replay=custom_ops/fuzz/replay.cc
for source in "${kernels[@]}" "${tests[@]}" $replay; do
  compile "$source" &
  running+=($!)
  if [[ ${#running[@]} -ge 2 ]]; then
    wait "${running[0]}"
    running=("${running[@]:1}")
  fi
done
for process in "${running[@]}"; do wait "$process"; done

# The linker keeps one copy of an inline function for everybody. It must not find one
# that was compiled for newer processors.
if [[ -z ${SANITIZE:-} ]]; then
  for source in "${kernels[@]}"; do
    [[ -n $(isa_flags "$source") ]] || continue
    object=$out/$(basename "${source%.cc}").o
    shared=$(nm --defined-only "$object" | grep -E ' [VWu] ' | c++filt || true)
    if [[ -n $shared ]]; then
      printf '%s defines functions that others may share:\n%s\n' "$source" "$shared" >&2
      exit 1
    fi
  done
fi

objects=()
for source in "${kernels[@]}"; do
  objects+=("$out/$(basename "${source%.cc}").o")
done
for source in "${tests[@]}"; do
  name=$(basename "${source%.cc}")
  if [[ -n ${LIBFUZZER:-} ]]; then
    $cxx $flags -fsanitize=fuzzer "$out/$name.o" "${objects[@]}" -o "$out/$name"
    continue
  fi
  main=()
  corpus=()
  if [[ $name == *_fuzz ]]; then
    main=("$out/replay.o")
    corpus=("custom_ops/fuzz/corpus/$name")
  fi
  $cxx $flags "$out/$name.o" "${main[@]}" "${objects[@]}" -o "$out/$name"
  echo "== $name${SANITIZE:+ ($SANITIZE sanitizer)}"
  ${RUNNER:-} "$out/$name" "${corpus[@]}"
done
[[ -n ${LIBFUZZER:-} ]] || echo "${#tests[@]} C++ test programs passed"
