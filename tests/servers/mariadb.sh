#!/bin/sh
# Makes sure that a MariaDB server's program is there for the tests to start. Starts nothing itself.
# As root it installs Debian's package, which runs no service; otherwise it unpacks the package and
# the libraries it lacks into .cache/mariadb, which tests/conftest.py knows. Quick when present.
set -eu

cd "$(dirname "$0")/../.."
package=mariadb-server-core
copy="$PWD/.cache/mariadb"

refuse() { # what is wrong, what to do
    echo "$1" >&2
    echo "The tests run on every database that Sojourn supports, and start a MariaDB of their own." >&2
    echo "$2" >&2
    exit 1
}

present() {
    for place in "${MARIADB_BASEDIR:-$copy/usr}/sbin" "${MARIADB_BASEDIR:-$copy/usr}/bin" \
        /usr/sbin /usr/local/sbin /usr/local/bin /opt/homebrew/bin; do
        [ -x "$place/mariadbd" ] && return
    done
    command -v mariadbd >/dev/null
}

install() {
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update && apt-get install --yes --no-install-recommends "$package"; } >"$log" 2>&1
}

# Needs no rights: package lists and files go below .cache/apt. Simulating the installation names
# the package and every library it needs that the system lacks.
unpack() {
    apt="$PWD/.cache/apt"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/debs"
    set -- -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o Debug::NoLocking=true
    apt-get "$@" update >"$log" 2>&1 || return
    wanted=$(apt-get "$@" --simulate --no-install-recommends install "$package" 2>>"$log" |
        awk '/^Inst / { print $2 }')
    [ -n "$wanted" ] || return
    # shellcheck disable=SC2086 # one word per package
    (cd "$apt/debs" && apt-get "$@" download $wanted) >>"$log" 2>&1 || return
    rm -rf "$copy.new" && mkdir -p "$copy.new"
    for file in "$apt"/debs/*.deb; do
        dpkg -x "$file" "$copy.new" || return
    done
    rm -rf "$copy" && mv "$copy.new" "$copy" && rm -rf "$apt" # whole or not at all
}

present && exit 0
case $(uname -s) in
Darwin) refuse "No MariaDB server was found." "Run: brew install mariadb" ;;
esac
command -v apt-get >/dev/null ||
    refuse "No MariaDB server was found." "Install your system's package that holds mariadbd."

mkdir -p .cache
log="$PWD/.cache/mariadb.log"
if [ "$(id -u)" = 0 ]; then how=install; else how=unpack; fi
echo "Fetching $package for the tests …"
if ! "$how" || ! present; then
    tail -n 5 "$log" >&2
    refuse "MariaDB could not be fetched; the end of .cache/mariadb.log is above." \
        "Install it yourself: sudo apt-get install --no-install-recommends $package"
fi
