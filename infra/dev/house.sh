#!/bin/sh
# Type checkers do not see setuptools' renamed rooms; five links in an ignored folder show them depesche.*.
# Nothing at run time uses them.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$root/build/house/depesche"
for room in schemas analytics streams api infra; do
    ln -sfn "$root/$room" "$root/build/house/depesche/$room"
done
