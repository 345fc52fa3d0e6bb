#!/usr/bin/env bash
# Fetches Flink's jars (pip package apache-flink-libraries, jars only) and compiles the harness into $PEER_HOME (default: work/ beside this file).
# W3's text is taken from $MILLSTREAM_DATA/kjv (default ../shared/data beside the repository) or, without it, printed by the Debian package bible-kjv.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PEER_HOME=${PEER_HOME:-$here/work}
data=${MILLSTREAM_DATA:-$here/../../../shared/data}
ver=${FLINK_VERSION:-2.3.0}

missing=()
for tool in java javac jar; do
  command -v "$tool" >/dev/null || missing+=("$tool (Debian: openjdk-17-jdk-headless)")
done
if command -v javac >/dev/null; then
  major=$(javac -version 2>&1 | sed 's/^javac \([0-9]*\).*/\1/')
  [ "$major" -ge 17 ] || missing+=("javac 17 or later, found $major (Debian: openjdk-17-jdk-headless)")
fi
if [ ! -e "$PEER_HOME/lib" ]; then
  command -v pip >/dev/null || missing+=("pip (Debian: python3-pip)")
  command -v unzip >/dev/null || missing+=("unzip (Debian: unzip)")
fi
if [ ! -e "$PEER_HOME/kjv.txt" ] && [ ! -e "$data/kjv/kjv-printed.txt.gz" ]; then
  { command -v apt-get && command -v dpkg; } >/dev/null ||
    missing+=("the text of w3: set MILLSTREAM_DATA to a folder with kjv/kjv-printed.txt.gz")
fi
if [ ${#missing[@]} -gt 0 ]; then
  echo "build.sh: missing:" >&2
  printf '  %s\n' "${missing[@]}" >&2
  exit 1
fi

mkdir -p "$PEER_HOME/build/classes"
cd "$PEER_HOME"
if [ ! -e lib ]; then
  pip download --no-deps -d dl "apache-flink-libraries==$ver"
  mkdir -p flink && (cd flink && unzip -q -o ../dl/apache_flink_libraries-*.whl)
  ln -s flink/pyflink/lib lib
fi
if [ ! -e kjv.txt ]; then
  if [ -e "$data/kjv/kjv-printed.txt.gz" ]; then
    gzip -dc "$data/kjv/kjv-printed.txt.gz" > kjv.part
  else
    mkdir -p debs && (cd debs && apt-get download bible-kjv bible-kjv-text && for d in *.deb; do dpkg -x "$d" x; done)
    debs/x/usr/bin/bible -p debs/x/usr/lib 'gen1:1-rev22:21' </dev/null | grep -v '^[[:space:]]*$' > kjv.part
  fi
  mv kjv.part kjv.txt
fi
javac -nowarn -cp "$(ls lib/*.jar | tr '\n' ':')" -d build/classes "$here"/src/peer/*.java
jar cf build/peer.jar -C build/classes .
echo "built in $PEER_HOME"
