#!/bin/sh
# Install faultwise from this bundle, without internet: ./install.sh [FOLDER], /opt/faultwise by default.
set -eu
cd "$(dirname "$0")"
target=${1:-/opt/faultwise}
python=${PYTHON:-python3}
want=$(cat python.txt)
have=$("$python" -c 'import platform, sys; print("%d.%d %s %s" % (*sys.version_info[:2], sys.platform, platform.machine()))')
if [ "$want" != "$have" ]; then
  echo "error: this bundle is for Python $want; $python is $have; give another with PYTHON=" >&2
  exit 2
fi
sha256sum --quiet -c SHA256SUMS || { echo "error: the bundle is damaged; copy it again" >&2; exit 2; }
"$python" -m venv "$target"
"$target/bin/pip" install --quiet --no-index --find-links wheels -c constraints.txt faultwise
if [ -d manuals ] && [ -n "$(ls manuals)" ]; then
  echo "documents for the knowledge base: $target/bin/faultwise kb add $(pwd)/manuals"
fi
exec "$target/bin/faultwise" doctor --prove
