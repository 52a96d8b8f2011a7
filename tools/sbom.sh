#!/usr/bin/env bash
# Says of what an environment with keras_shift consists, for a release.
#
#   tools/sbom.sh          writes dist/sbom.cdx.json (CycloneDX)
#   tools/sbom.sh audit    asks for known vulnerabilities of the same packages
#
# PYTHON is the environment's, .venv/bin/python by default. The tools get an environment
# of their own in .tools, so that they are not part of what they list.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-.venv/bin/python}
tools=.tools/sbom
[[ -x $tools/bin/cyclonedx-py && -x $tools/bin/pip-audit ]] || {
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet cyclonedx-bom pip-audit
}

case ${1:-} in
  "")
    mkdir -p dist
    "$tools/bin/cyclonedx-py" environment --output-reproducible --of JSON \
      -o dist/sbom.cdx.json "$python"
    echo dist/sbom.cdx.json
    ;;
  audit)
    packages=$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
    # --strict: a package that the database does not know is not taken for a safe one.
    "$tools/bin/pip-audit" --strict --path "$packages"
    ;;
  *)
    echo "usage: tools/sbom.sh [audit]" >&2
    exit 2
    ;;
esac
