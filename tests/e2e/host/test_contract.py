"""Agents in sandboxes, judged by how they use mock APIs that misbehave.

`cargo xtask test` starts the daemon so that sandboxes reach the services of the travel scenario by name, and says where the
program `mock-apis` is (SANDBOXD_MOCK_APIS) and where it has to listen (SANDBOXD_MOCK_LISTEN). `cargo xtask contract` runs all
shipped agents; here are those whose rules differ most.
"""

import json
import os
import pathlib
import subprocess

from e2b import Sandbox

MOCKS = pathlib.Path(__file__).parents[3] / "mock-apis"
NAMES = [f"{service}.mock.internal" for service in ("flights", "payments", "itinerary")]


def contract(tmp_path, *agents: str, **more: str):
    words = [os.environ["SANDBOXD_MOCK_APIS"], "contract", "--scenario", str(MOCKS / "scenarios/travel.yaml")]
    words += ["--listen", os.environ["SANDBOXD_MOCK_LISTEN"], "--upload", str(MOCKS / "agents")]
    for agent in agents:
        words += ["--agent", agent]
    words += ["--json", str(tmp_path / "runs.json")]
    return subprocess.run(words, capture_output=True, text=True, timeout=900, env={**os.environ, **more})


def rows(run, outcome: str) -> list[str]:
    return [verdict["row"] for verdict in run["verdicts"] if verdict["outcome"] == outcome]


def test_agents_in_sandboxes_are_judged_by_what_their_sandbox_did(tmp_path):
    bad = ["never_guesses_credentials", "gives_up_on_hang"]
    agents = ["python3 agents/good.py", *(f"python3 agents/bad_{rule}.py" for rule in bad)]
    before = {sandbox.sandbox_id for sandbox in Sandbox.list().next_items()}
    done = contract(tmp_path, *agents)
    assert done.returncode == 1, done.stderr + done.stdout
    runs = json.loads((tmp_path / "runs.json").read_text())
    assert [rows(run, "fail") for run in runs] == [[], *([rule] for rule in bad)], done.stdout
    assert len(rows(runs[0], "pass")) == len(runs[0]["verdicts"]), done.stdout
    for run in runs:
        assert (run["isolation"], run["exit_code"], run["stderr"]) == ("sandbox", 0, "")
        # The daemon says who calls, by the interface; the agent says nothing about itself.
        assert {entry["caller"] for entry in run["journal"]} == {run["sandbox"]}
    assert len({run["sandbox"] for run in runs}) == len(runs)
    left = {sandbox.sandbox_id for sandbox in Sandbox.list().next_items()} - before
    assert not left, "sandboxes of agents are left"


def test_a_service_is_closed_to_sandboxes_that_did_not_name_it(make):
    ask = "import urllib.request as r; r.urlopen('http://flights.mock.internal/', timeout=5)"
    for options in ({}, {"allow_internet_access": True}, {"network": {"allow_out": NAMES[1:]}}):
        sandbox = make(**options)
        done = sandbox.commands.run(f'python3 -c "{ask}" 2>&1 || true')
        assert "refused" in done.stdout or "reset" in done.stdout or "closed connection" in done.stdout, (options, done)


def test_a_name_that_is_no_service_is_refused_with_what_to_do(tmp_path):
    done = contract(tmp_path, "true", E2B_API_KEY="e2b_" + "0" * 40)
    assert done.returncode == 2 and "HTTP 401" in done.stderr, done
    words = [os.environ["SANDBOXD_MOCK_APIS"], "contract", "--scenario", str(MOCKS / "scenarios/travel.yaml")]
    words += ["--listen", os.environ["SANDBOXD_MOCK_LISTEN"], "--agent", "true", "--mock-domain", "other.internal"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done
    assert "is a domain" in done.stderr and "--internal-service flights.other.internal=" in done.stderr, done


def test_an_agent_that_does_not_end_is_ended(tmp_path):
    words = [os.environ["SANDBOXD_MOCK_APIS"], "contract", "--scenario", str(MOCKS / "scenarios/travel.yaml")]
    words += ["--listen", os.environ["SANDBOXD_MOCK_LISTEN"], "--agent", "sleep 60", "--timeout-s", "3"]
    words += ["--json", str(tmp_path / "run.json")]
    subprocess.run(words, capture_output=True, text=True, timeout=300)
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["timed_out"], run["exit_code"], run["journal"]) == (True, None, [])
