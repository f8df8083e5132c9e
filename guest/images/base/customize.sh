#!/bin/sh
# Inside the `base` image, after its packages and files/: the user and what E2B's images promise.
set -eu

# `user`, uid 1000: administrator without a password, owner of /code and of /usr/local, so that
# `pip install` and `npm install -g` work without sudo.
useradd --uid 1000 --user-group --groups sudo --create-home --shell /bin/bash user
chmod 755 /home/user
echo 'user ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/user
chmod 440 /etc/sudoers.d/user
visudo --check --quiet
install -d -o user -g user /code
chown -R user:user /usr/local /home/user
chmod 1777 /tmp /var/tmp

# Debian's marker makes `pip install` refuse outside a venv. The sandbox is the venv.
rm -f /usr/lib/python3.11/EXTERNALLY-MANAGED
