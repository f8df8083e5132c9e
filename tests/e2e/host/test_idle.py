"""A sandbox with nothing to do costs next to nothing: its processor sleeps."""

import time

# As long as it may take until the daemon has sampled its resource use once, and finds it at rest from then on.
REST = 32
WATCHED = 25
# In the lab it was 0.45 to 0.51, and 0.9 without an idle driver in the guest: one tick more for each rest.
WAKE_UPS_A_SECOND = 0.75


def test_an_idle_sandbox_is_hardly_ever_woken(make, host):
    sandbox = make()
    assert sandbox.commands.run("cat /sys/devices/system/cpu/cpuidle/current_governor").stdout == "menu\n"
    process = host.microvm(sandbox)
    time.sleep(REST)
    before = wake_ups(host, process)
    time.sleep(WATCHED)
    woken = wake_ups(host, process) - before
    assert woken < WAKE_UPS_A_SECOND * WATCHED, f"woken {woken} times in {WATCHED} s"
    assert woken > 0, "a processor that is never woken is not the one that was looked at"


def wake_ups(host, process: int) -> int:
    """How often the first virtual processor's thread has gone to sleep by itself (proc_pid_status(5))."""
    script = f"""
for task in /proc/{process}/task/*; do
    [ "$(cat "$task/comm")" = vcpu0 ] && sed -n 's/^voluntary_ctxt_switches:[[:space:]]*//p' "$task/status"
done
true
"""
    return int(host.run(script))
