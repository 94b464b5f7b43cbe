#!/bin/sh
# Makes sure that the programs are there which the tests start and no Python package holds: the servers
# of MariaDB and Redis, the pooler PgBouncer, the proxies nginx and Caddy, the browser Chromium, and faketime,
# which sets a server's clock. Starts nothing itself, and lets nothing be started: Debian's redis-server would run
# a service, so its program is taken from redis-tools, which has it under another name; pgbouncer, nginx and caddy
# would, too, so they are unpacked only, with the libraries they lack. As root it installs Debian's packages, otherwise it unpacks them and the libraries
# they lack into .cache/servers, which tests/conftest.py knows. Quick when all are present.
set -eu

cd "$(dirname "$0")/../.."
copy="$PWD/.cache/servers"
services="pgbouncer nginx caddy" # unpacked only
programs="mariadbd redis-server chromium faketime $services"
folders="/usr/sbin /usr/bin /usr/local/sbin /usr/local/bin /opt/homebrew/bin"

package() { # the Debian package that holds a program
    case $1 in
    mariadbd) echo mariadb-server-core ;;
    redis-server) echo redis-tools ;;
    chromium) echo chromium ;;
    faketime) echo libfaketime faketime ;;
    pgbouncer | nginx | caddy) echo "$1" ;;
    esac
}

refuse() { # what is wrong, what to do
    echo "$1" >&2
    echo "The tests start databases and a browser of their own; their programs must be there." >&2
    echo "$2" >&2
    exit 1
}

present() {
    case $1 in
    mariadbd)
        base=${MARIADB_BASEDIR:-$copy/root/usr}
        if [ -x "$base/sbin/mariadbd" ] || [ -x "$base/bin/mariadbd" ]; then return; fi
        ;;
    chromium)
        [ -x "${CHROMIUM:-}" ] && return
        for app in Chromium "Google Chrome"; do
            [ -x "/Applications/$app.app/Contents/MacOS/$app" ] && return
        done
        ;;
    esac
    for folder in "$copy/bin" $folders; do
        [ -x "$folder/$1" ] && return
    done
    command -v "$1" >/dev/null
}

missing() { # the programs that are nowhere
    for program in $programs; do
        present "$program" || echo "$program"
    done
}

packages() { # of the programs that are missing
    for program in $(missing); do package "$program"; done
}

install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update >"$log" 2>&1 || return
    installed=$(packages | grep -vxE 'pgbouncer|nginx|caddy' || true)
    # shellcheck disable=SC2086 # one word per package
    [ -z "$installed" ] || apt-get install --yes --no-install-recommends $installed >>"$log" 2>&1 || return
    mkdir -p "$copy/bin"
    for service in $services; do
        present "$service" || beside "$service" || return
    done
    present redis-server || ln -sf "$(command -v redis-check-rdb)" "$copy/bin/redis-server"
}

beside() { # unpacks what would run a service, and the libraries that it needs and the system lacks
    debs="$copy/debs"
    rm -rf "$debs" && mkdir -p "$debs" "$copy/root"
    wanted=$(apt-get --simulate --no-install-recommends install "$1" 2>>"$log" |
        awk '/^Inst (pgbouncer|nginx|caddy|lib)/ { print $2 }')
    [ -n "$wanted" ] || return
    # shellcheck disable=SC2086 # one word per package
    (cd "$debs" && apt-get download $wanted) >>"$log" 2>&1 || return
    for file in "$debs"/*.deb; do
        dpkg -x "$file" "$copy/root" || return
    done
    rm -rf "$debs"
    new="$copy"
    launches
}

launches() { # of what is not installed
    launch pgbouncer usr/sbin/pgbouncer
    launch nginx usr/sbin/nginx
    launch caddy usr/bin/caddy
}

# Needs no rights: package lists and files go below .cache/apt. Simulating the installation names
# the packages and every library they need that the system lacks. All anew: whole or not at all.
unpack() {
    apt="$PWD/.cache/apt" new="$copy.new"
    rm -rf "$copy" "$new"
    mkdir -p "$new/root" "$new/bin"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/debs"
    set -- -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o Debug::NoLocking=true
    apt-get "$@" update >"$log" 2>&1 || return
    # shellcheck disable=SC2046 # one word per package
    wanted=$(apt-get "$@" --simulate --no-install-recommends install $(packages) 2>>"$log" |
        awk '/^Inst / { print $2 }')
    [ -n "$wanted" ] || return
    # shellcheck disable=SC2086 # one word per package
    (cd "$apt/debs" && apt-get "$@" download $wanted) >>"$log" 2>&1 || return
    for file in "$apt"/debs/*.deb; do
        dpkg -x "$file" "$new/root" || return
    done
    {
        echo "<fontconfig><dir>/usr/share/fonts</dir><dir>$copy/root/usr/share/fonts</dir>"
        echo "<cachedir>$copy/fonts</cachedir></fontconfig>"
    } >"$new/fonts.conf"
    launch chromium usr/lib/chromium/chromium
    launches
    if [ -x "$new/root/usr/bin/redis-check-rdb" ]; then
        ln -s redis-check-rdb "$new/root/usr/bin/redis-server"
        launch redis-server usr/bin/redis-server
    fi
    rm -rf "$apt" && mv "$new" "$copy"
}

# Makes .cache/servers/bin/<name>, which runs an unpacked program with its libraries and fonts.
launch() { # its name, where it is
    [ -x "$new/root/$2" ] || return 0 # the system has it
    libraries=$(cd "$new/root" && printf "$copy/root/%s:" lib/*-linux-* usr/lib/*-linux-* usr/lib/*-linux-*/pulseaudio)
    {
        echo '#!/bin/sh'
        echo "export LD_LIBRARY_PATH='${libraries%:}' FONTCONFIG_FILE='$copy/fonts.conf'"
        echo "exec '$copy/root/$2' \"\$@\""
    } >"$new/bin/$1"
    chmod +x "$new/bin/$1"
}

[ -z "$(missing)" ] && exit 0
lacking="These programs were not found: $(missing | tr '\n' ' ')"
case $(uname -s) in
Darwin) refuse "$lacking" "Run: brew install mariadb redis libfaketime pgbouncer nginx caddy && brew install --cask chromium" ;;
esac
command -v apt-get >/dev/null ||
    refuse "$lacking" "Install your system's packages that hold them."

mkdir -p .cache
log="$PWD/.cache/servers.log"
if [ "$(id -u)" = 0 ]; then how=install; else how=unpack; fi
echo "Fetching $(packages | tr '\n' ' ')for the tests …"
if ! "$how" || [ -n "$(missing)" ]; then
    tail -n 5 "$log" >&2
    refuse "They could not be fetched; the end of .cache/servers.log is above." \
        "Install them yourself: sudo apt-get install --no-install-recommends $(packages | tr '\n' ' ')"
fi
