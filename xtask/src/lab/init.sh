#!/bin/busybox sh
# First program of the lab host: puts a writable layer over the machine's own root and hands
# over to the lab agent there. Runs on busybox alone; /lab/* was added for this one start.
#
#   /modules/*.ko     inserted in the order of their names
#   /lab/env          AGENT=… MODULES=… as shell words
#   /lab/config.json  for the agent
#
#   9p "root" (read-only) ─┐
#   tmpfs ─────────────────┴─ overlay /newroot ─ switch_root ─ $AGENT lab-init

export PATH=/bin
/bin/busybox --install -s /bin

die() {
    echo "lab-init: FAILED: $*"
    sync
    poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
. /lab/env

for module in /modules/*.ko; do
    insmod "$module" || die "could not load $module"
done

mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose root /lower \
    || die "could not mount the machine's root over 9p"
mount -t tmpfs -o size=50%,mode=755 writable /writable
mkdir /writable/upper /writable/work
mount -t overlay -o lowerdir=/lower,upperdir=/writable/upper,workdir=/writable/work \
    lab /newroot || die "could not mount the overlay"

for dir in proc sys dev run tmp; do
    [ -d /newroot/$dir ] || mkdir -p /newroot/$dir
done
mount -t tmpfs -o size=50%,mode=755 run /newroot/run
mkdir -p /newroot/run/lab/lower
mount --bind /lower /newroot/run/lab/lower
cp /lab/config.json /newroot/run/lab/config.json
cp /bin/busybox /newroot/run/lab/busybox

# Modules are the lab kernel's, not the machine's.
mkdir -p /newroot/lib/modules
mount --bind "/lower$MODULES" /newroot/lib/modules || die "could not see $MODULES"

ip link set lo up
ip address add 10.0.2.15/24 dev eth0 && ip link set eth0 up \
    && ip route add default via 10.0.2.2 || die "could not set up eth0"

mount --move /proc /newroot/proc
mount --move /sys /newroot/sys
mount --move /dev /newroot/dev
cd /newroot
exec switch_root /newroot "/run/lab/lower$AGENT" lab-init
