#!/bin/sh
# Makes ./secrets for compose.yaml, once: what is there is kept, since a new secret signs nobody's tokens.
# The folder is its owner's alone. The files are readable, because each service's own user reads them.
set -eu
cd "$(dirname "$0")"

random() { # 64 hexadecimal digits
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

keep() { # a name, its content
    [ -e "secrets/$1" ] || printf '%s\n' "$2" >"secrets/$1"
}

umask 022
mkdir -p secrets
chmod 0700 secrets
keep postgres_password "$(random)"
keep ledger_url "postgresql://sojourn:$(cat secrets/postgres_password)@db:5432/sojourn"
keep secret "$(random)"
keep admin_key "$(random)"
echo "Secrets are in $PWD/secrets. The admin key: cat secrets/admin_key"
