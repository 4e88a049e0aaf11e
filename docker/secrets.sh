#!/bin/sh
# Makes the secrets that the compose file names, where they are not there yet: random tokens and passwords, in docker/secrets.
set -eu
dir=$(cd "$(dirname "$0")" && pwd)/secrets
mkdir -p "$dir"
# Containers read them as users of their own; the folder keeps the host's other users out.
chmod 700 "$dir"
umask 022

secret() { [ -s "$dir/$1" ] || head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$dir/$1"; }
secret admin_token
secret postgres_token
secret metrics_token
secret postgres_password
secret grafana_password

sha256() { printf %s "$(cat "$dir/$1")" | sha256sum | cut -d' ' -f1; }
{
  echo "- { name: daemons, token_sha256: $(sha256 admin_token), role: admin }"
  echo "- { name: postgres, token_sha256: $(sha256 postgres_token), role: admin }    # its users write and register schemas, too"
  echo "- { name: prometheus, token_sha256: $(sha256 metrics_token), role: read }"
} >"$dir/tokens.yml"
echo "secrets are in $dir"
