#!/usr/bin/env bash
# Installs what building and running pg_trough needs on Debian or Ubuntu, and nothing that is there already.
#   scripts/setup.sh build    compiler, linker, PostgreSQL server and headers (make demo)
#   scripts/setup.sh test     the same, and what the tests and benchmarks use besides: Java and Maven for a real HDFS, rclone and
#                             fuse3 for a mount of it, Chromium for the status page, among others
#   scripts/setup.sh hdfs     what building needs, and Java and Maven (make demo STORE=hdfs)
set -euo pipefail
what=${1:-build}
pg_major=${PG_MAJOR:-15}
say() { printf 'setup: %s\n' "$*"; }

packages=(build-essential clang libclang-dev mold pkg-config curl unzip ca-certificates python3 python3-venv python3-pip
  "postgresql-$pg_major" "postgresql-server-dev-$pg_major" "postgresql-client-$pg_major")
# tests/page drives a browser; tests/deploy looks at units and packages, and installs them into a bare Debian; the fault suite has networks
# and disks of its own.
[ "$what" = test ] && packages+=(git jq procps rclone fuse3 prometheus chromium iproute2 nftables e2fsprogs wrk lintian mmdebstrap systemd)
if [ "$what" = test ] || [ "$what" = hdfs ]; then
  # Whatever Java and Maven are there already will do.
  command -v javac >/dev/null || packages+=(openjdk-17-jdk-headless) # tests/bi runs a Java source file
  command -v mvn >/dev/null || packages+=(maven)
fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || {
    echo "setup: this is not Debian or Ubuntu; please install: ${missing[*]}" >&2
    exit 1
  }
  sudo=
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "setup: run as root, or install sudo, to add: ${missing[*]}" >&2; exit 1; }
    sudo=sudo
  fi
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  $sudo apt-get update -qq
  # Keep the package from starting a server of its own: ours is started beside it, as the caller decides.
  if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    $sudo mkdir -p /etc/postgresql-common
    echo "create_main_cluster = false" | $sudo tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! command -v cargo >/dev/null; then
  say "installing Rust by rustup"
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt
  # shellcheck disable=SC1091
  . "$HOME/.cargo/env"
fi
say "ready: $(cargo --version), $("/usr/lib/postgresql/$pg_major/bin/postgres" --version)"
