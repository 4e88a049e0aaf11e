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

{
  echo "- { token: '$(cat "$dir/admin_token")', role: admin }    # the daemons among themselves"
  echo "- { token: '$(cat "$dir/postgres_token")', role: admin }  # PostgreSQL: its users write and register schemas, too"
  echo "- { token: '$(cat "$dir/metrics_token")', role: read }   # Prometheus"
} >"$dir/tokens.yml"
echo "secrets are in $dir"
