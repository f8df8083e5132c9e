#!/bin/sh
# Runs a command as root inside an image tree, for the image builder:
#
#   unshare --mount --pid --net --ipc --uts --fork --kill-child sh enter.sh TREE BUILD COMMAND…
#
# The command sees the tree as /, the host folder BUILD read-only at /.build, a small /dev, its own
# /proc and a fresh /tmp. It has no network. All mounts live in unshare's namespace and go with it.
set -eu
tree=$1 build=$2
shift 2

mount --make-rprivate /
mkdir -p "$tree/.build" "$tree/proc" "$tree/dev" "$tree/tmp"
mount -t proc proc "$tree/proc"
mount -t tmpfs -o mode=755 dev "$tree/dev"
mount -t tmpfs -o mode=1777 tmp "$tree/tmp"
for node in null zero full random urandom; do
    : >"$tree/dev/$node"
    mount --bind "/dev/$node" "$tree/dev/$node"
done
ln -s /proc/self/fd "$tree/dev/fd"
mkdir "$tree/dev/shm"
mount -t tmpfs shm "$tree/dev/shm"
mount --bind -o ro "$build" "$tree/.build"

# Nothing of the host's environment comes along; hashing is fixed so that two builds agree.
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 HOME=/root DEBIAN_FRONTEND=noninteractive PYTHONHASHSEED=0 \
    SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" chroot "$tree" "$@"
