"""A sandbox with nothing to do costs next to nothing: its processor sleeps."""

import time

WATCHED = 20
# In the lab it was 0.45 to 0.51, and 0.9 without an idle driver in the guest: one tick more for each rest.
WAKE_UPS_A_SECOND = 0.75
# A young guest stirs its random numbers more often, and the daemon looks once or twice before it leaves one alone.
WINDOWS = 6


def test_an_idle_sandbox_is_hardly_ever_woken(make, host):
    sandbox = make()
    assert sandbox.commands.run("cat /sys/devices/system/cpu/cpuidle/current_governor").stdout == "menu\n"
    process = host.microvm(sandbox)
    woken = []
    while len(woken) < WINDOWS and (not woken or woken[-1] >= WAKE_UPS_A_SECOND * WATCHED):
        before = wake_ups(host, process)
        time.sleep(WATCHED)
        woken.append(wake_ups(host, process) - before)
    print(f"woken in windows of {WATCHED} s: {woken}")
    assert woken[-1] < WAKE_UPS_A_SECOND * WATCHED, f"woken in windows of {WATCHED} s: {woken}"
    assert woken[-1] > 0, "a processor that is never woken is not the one that was looked at"


def wake_ups(host, process: int) -> int:
    """How often the first virtual processor's thread has gone to sleep by itself (proc_pid_status(5))."""
    script = f"""
for task in /proc/{process}/task/*; do
    [ "$(cat "$task/comm")" = vcpu0 ] && sed -n 's/^voluntary_ctxt_switches:[[:space:]]*//p' "$task/status"
done
true
"""
    return int(host.run(script))
