#!/bin/sh
# From a fresh checkout to a Python environment with everything in it. Needs Python 3.11 or later and nothing else.
#
# Does nothing, and asks no network, when the environment is as the lock file says. System programs (ClamAV, Postfix ...) are
# installed where this user may, and named with their one install line where not; the main job runs without them.
# SYSTEM_PACKAGES=no leaves the system alone.
set -eu
cd "$(dirname "$0")/../.."
stamps=build/stamps
mkdir -p "$stamps"

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "error: $1"
    say "  fix: $2"
    exit 1
}

find_python() {
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.14; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    fail "No Python from 3.11 to 3.14 was found." "Install one (Debian: sudo apt-get install -y python3), or name it: make run PYTHON=/path/to/python"
}

# uv takes its own certificates unless it is told; a machine that told pip means every downloader, and one in an office whose
# gateway opens TLS knows that gateway's certificate in the system's own store.
prepare_uv() {
    export UV_PYTHON_DOWNLOADS=never
    for store in "${PIP_CERT:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
        if [ -z "${SSL_CERT_FILE:-}" ] && [ -s "$store" ]; then export SSL_CERT_FILE="$store"; fi
    done
    if [ -n "${PIP_INDEX_URL:-}" ] && [ -z "${UV_DEFAULT_INDEX:-}" ]; then export UV_DEFAULT_INDEX="$PIP_INDEX_URL"; fi
    if [ ! -w "${HOME:-/nonexistent}" ] && [ -z "${UV_CACHE_DIR:-}" ]; then export UV_CACHE_DIR=build/uv-cache; fi
}

find_uv() {
    for candidate in "$(command -v uv || true)" build/uv/bin/uv build/uv-target/bin/uv; do
        if [ -n "$candidate" ] && "$candidate" --version >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

get_uv() {
    say "Getting uv, the installer of Python packages ..."
    if "$1" -m venv build/uv >/dev/null 2>&1 && build/uv/bin/python -m pip install --quiet uv >&2; then return; fi
    rm -rf build/uv
    if "$1" -m pip install --quiet --target build/uv-target uv >&2; then return; fi
    fail "uv could not be had: this Python has neither venv nor pip, or the network is away." \
        "Debian: sudo apt-get install -y python3-venv. Elsewhere put uv on the PATH, then say make run again."
}

set_up_python() {
    wanted=$(cksum requirements.lock pyproject.toml infra/dev/setup.sh)
    if [ -x .venv/bin/depesche ] && [ "$(cat "$stamps/python" 2>/dev/null)" = "$wanted" ]; then return; fi
    rm -f "$stamps/python"
    python=$(find_python)
    prepare_uv
    uv=$(find_uv) || { get_uv "$python"; uv=$(find_uv); }
    if ! .venv/bin/python -c '' 2>/dev/null; then
        say "Making .venv with $("$python" --version) ..."
        rm -rf .venv
        "$uv" venv --quiet --python "$python" .venv
    fi
    say "Installing the locked packages (about 350 MB to fetch the first time; each is checked against its hash) ..."
    # Compiled once now, or each of the seven processes compiles for itself where Python may not keep what it compiled.
    VIRTUAL_ENV="$PWD/.venv" "$uv" pip install --compile-bytecode --require-hashes -r requirements.lock
    VIRTUAL_ENV="$PWD/.venv" "$uv" pip install --quiet --no-deps --no-build-isolation -e .
    .venv/bin/python -m compileall -q schemas analytics streams api infra
    sh infra/dev/house.sh
    printf '%s\n' "$wanted" >"$stamps/python"
    say "The Python environment is ready: .venv"
}

# Program (or Perl module) to Debian package: what makes the far side and the scanner real. swaks speaks TLS through Net::SSLeay.
missing_packages() {
    PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
    for pair in clamd=clamav-daemon knotd=knot unbound=unbound postfix=postfix opendkim=opendkim swaks=swaks \
        Net::SSLeay=libnet-ssleay-perl exim4=exim4-daemon-light; do
        case "$pair" in
            exim4=*) [ -x build/exim/usr/sbin/exim4 ] || command -v exim4 >/dev/null 2>&1 ;;
            *::*) perl "-M${pair%%=*}" -e1 >/dev/null 2>&1 ;;
            *) command -v "${pair%%=*}" >/dev/null 2>&1 ;;
        esac || printf '%s ' "${pair#*=}"
    done
}

set_up_system() {
    missing=$(missing_packages)
    if [ -z "$missing" ]; then return; fi
    line="sudo sh infra/dev/install_packages.sh ${missing% }"
    if [ "${SYSTEM_PACKAGES:-yes}" = no ] || ! command -v apt-get >/dev/null 2>&1; then
        say "Not installed: $missing- the demo runs without. They come with: $line"
        return
    fi
    if [ "$(id -u)" = 0 ]; then
        become=
    elif sudo -n true 2>/dev/null; then
        become="sudo -n"
    else
        say "Not installed: $missing- the demo runs without. They come with: $line"
        return
    fi
    if [ "$(cat "$stamps/system" 2>/dev/null)" = "$missing" ]; then
        say "Not installed, and could not be the last time: $missing- try: $line"
        return
    fi
    say "Installing Debian packages: $missing(no service of them is started) ..."
    # shellcheck disable=SC2086  # become is empty or two words, missing is a list
    if $become sh infra/dev/install_packages.sh $missing; then
        rm -f "$stamps/system"
    else
        say "They could not be installed; the demo runs without. By hand: $line"
        printf '%s' "$missing" >"$stamps/system"
    fi
}

set_up_python
set_up_system
