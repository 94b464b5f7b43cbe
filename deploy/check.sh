#!/bin/sh
# Asks the tools that know these files best, those of them that are installed. Changes nothing.
set -u
cd "$(dirname "$0")"
worst=0

ask() { # a program, its arguments
    if ! command -v "$1" >/dev/null; then
        echo "skipped: $1 is not installed"
        return
    fi
    echo "$*"
    "$@" || worst=1
}

ask hadolint container/Dockerfile
ask yamllint --strict --config-data '{extends: default, rules: {line-length: {max: 120}, document-start: disable, comments: disable, braces: {max-spaces-inside: 0}}}' \
    compose proxy kubernetes helm/sojourn/Chart.yaml helm/sojourn/values.yaml
ask helm lint --strict helm/sojourn
ask kubernetes-validate --strict --kubernetes-version 1.30 kubernetes/sojourn.yaml
ask promtool check rules prometheus/alerts.yaml
ask systemd-analyze security --offline=true --threshold=15 systemd/sojourn.service
exit $worst
