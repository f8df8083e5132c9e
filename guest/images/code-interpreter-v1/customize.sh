#!/bin/sh
# Inside the `code-interpreter-v1` image, after its wheels and files/.
set -eu

# Registers itself with Jupyter; the Python kernel's wheel brings its own registration.
python3 -B -m bash_kernel.install --prefix /usr/local

# pip ran as root; what it installed belongs to `user`, like all of /usr/local.
chown -R user:user /usr/local /home/user

# matplotlib scans all fonts at its first import and keeps the list in the user's cache folder:
# made here, so that the first chart does not wait for it.
for name in user root; do
    su "$name" -c 'MPLBACKEND=agg python3 -B -c "import matplotlib.font_manager"'
done
rm -rf /home/user/.ipython /root/.ipython
