# Settings of every Python kernel of the code interpreter. IPython reads /etc/ipython before a user's own profile,
# which may change anything here.
import os
import sys

c = get_config()  # noqa: F821 (given by IPython)

# The extension lies beside this file.
sys.path.append(os.path.dirname(os.path.abspath(__file__)))
c.InteractiveShellApp.extensions.append("sandboxd_display")

# History of a sandbox ends with it: kept in memory, no database file that several kernels lock.
c.HistoryManager.hist_file = ":memory:"
