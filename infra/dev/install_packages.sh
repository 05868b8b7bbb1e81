#!/bin/sh
# Installs Debian packages as root without starting or enabling any service of theirs: we run our own private instances.
set -eu
guard=/usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive

# Debian asks this file before it starts a service; 101 means no. A guard that is there already is left alone.
if [ ! -e "$guard" ]; then
    trap 'rm -f "$guard"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$guard"
    chmod 755 "$guard"
fi
for package in "$@"; do
    if [ "$package" = postfix ]; then
        # No questions, and no configuration of the system's own Postfix.
        echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    fi
done
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@" >/dev/null
if [ -d /run/systemd/system ]; then
    for package in "$@"; do
        case "$package" in
            clamav-daemon) units="clamav-daemon clamav-freshclam" ;;
            knot | postfix | opendkim) units=$package ;;
            *) units= ;;
        esac
        for unit in $units; do systemctl disable --quiet "$unit" 2>/dev/null || true; done
    done
fi
