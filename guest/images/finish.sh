#!/bin/sh
# The last step of every image, run inside it:  sh finish.sh [PYTHON_FOLDER…]
#
# Compiles the Python under the given folders and removes what must not be in an image: traces of
# the build, caches, and whatever differs between two builds.
set -eu

# The image gives every file one time, so a .pyc may not be checked against its source's time:
# Python would reject each and compile again at every start (numpy's import: 1.2 s → 5.2 s).
# One process, so that two builds write the same bytes.
for folder in "$@"; do
    find "$folder" -name __pycache__ -type d -prune -exec rm -rf {} +
    python3 -m compileall -q -f --invalidation-mode unchecked-hash \
        -x 'lib2to3/tests|/bad_coding|/badsyntax' "$folder"
    # Who owns the sources owns what was compiled from them, or `pip uninstall` fails.
    chown -R --reference="$folder" "$folder"
done

rm -rf /var/cache/apt/* /var/lib/apt/lists/* /var/cache/debconf/*-old /var/cache/ldconfig/* \
    /var/lib/dpkg/*-old /var/lib/dpkg/lock* /var/lib/dpkg/triggers/Lock \
    /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid- /etc/.pwd.lock \
    /etc/apt/apt.conf.d/99mmdebstrap /etc/dpkg/dpkg.cfg.d/99mmdebstrap
find /var/log -type f -delete
find /var/tmp -mindepth 1 -delete
# The agent writes these for each sandbox; apt's empty lists folder is expected to be there.
rm -f /etc/hostname /etc/resolv.conf
: >/etc/machine-id
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial
chown _apt:root /var/lib/apt/lists/partial /var/cache/apt/archives/partial
chmod 700 /var/lib/apt/lists/partial /var/cache/apt/archives/partial
# Dates of password changes would be the day of the build.
sed -i -E 's/^([^:]*:[^:]*:)[0-9]+:/\120089:/' /etc/shadow
