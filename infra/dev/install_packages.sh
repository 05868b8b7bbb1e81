#!/bin/sh
# Installs Debian packages as root without starting or enabling any service of theirs: we run our own private instances.
# Exim cannot be installed beside Postfix; its program is unpacked into build/exim, with the libraries and the user it needs.
set -eu
guard=/usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive

# Debian asks this file before it starts a service; 101 means no. A guard that is there already is left alone.
if [ ! -e "$guard" ]; then
    trap 'rm -f "$guard"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$guard"
    chmod 755 "$guard"
fi
# The packages that are really installed, in place of those that are only unpacked.
for package in "$@"; do
    shift
    case "$package" in
        exim4-daemon-light) unpack=$package && set -- "$@" libdb5.3 libgnutls-dane0 libidn12 libnsl2 libpcre2-8-0 ;;
        *) set -- "$@" "$package" ;;
    esac
done
for package in "$@"; do
    if [ "$package" = postfix ]; then
        # No questions, and no configuration of the system's own Postfix.
        echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    fi
done
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@" >/dev/null
if [ -n "${unpack:-}" ]; then
    target=$(cd "$(dirname "$0")/../.." && pwd)/build/exim
    fetched=$(mktemp -d)
    chmod 755 "$fetched"
    (cd "$fetched" && apt-get download -qq "$unpack" 2>/dev/null)
    rm -rf "$target" && mkdir -p "$target"
    dpkg-deb -x "$fetched"/*.deb "$target"
    # We run it as root or not at all; nobody else needs to become root through it.
    chmod u-s "$target/usr/sbin/exim4"
    rm -rf "$fetched"
    id Debian-exim >/dev/null 2>&1 || useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin Debian-exim
fi
if [ -d /run/systemd/system ]; then
    for package in "$@"; do
        case "$package" in
            clamav-daemon) units="clamav-daemon clamav-freshclam" ;;
            knot | postfix | opendkim | unbound | rbldnsd) units=$package ;;
            *) units= ;;
        esac
        for unit in $units; do systemctl disable --quiet "$unit" 2>/dev/null || true; done
    done
fi
