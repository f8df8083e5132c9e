#!/bin/sh
# The load generator beside wrk and oha, against one stub: what each makes of a server that stands still for 2 s in 60, and how many
# creates a second the load generator drives, on schedule and as fast as it can, when it and the stub have a processor each.
#
#   loadgen/beside.sh [SECONDS]     needs target/release/loadgen (or LOADGEN) and wrk; oha where there is one
#   KEEP=DIR                        keeps the reports of the runs with a stall: DIR/open, DIR/closed
set -eu
seconds=${1:-60}
root=$(cd "$(dirname "$0")/.." && pwd)
loadgen=${LOADGEN:-$root/target/release/loadgen}
[ -z "${KEEP:-}" ] || { mkdir -p "$KEEP"; KEEP=$(cd "$KEEP" && pwd); }
work=$(mktemp -d)
stub=
finish() { [ -z "$stub" ] || kill "$stub" 2>/dev/null || true; rm -rf "$work"; }
trap finish EXIT INT TERM
# Reports name the folder of their results as it was given.
cd "$work"

serve() {
    [ -z "$stub" ] || { kill "$stub"; wait "$stub" 2>/dev/null || true; }
    # The shell makes the file in its own time: what the stub before has told must not be taken for the new one's.
    rm -f stub
    taskset -c 0 "$loadgen" stub "$@" > stub &
    stub=$!
    while ! grep -qs E2B_API_KEY stub; do sleep 0.1; done
    . ./stub
    export E2B_API_URL E2B_SANDBOX_URL E2B_API_KEY
}

create() {
    taskset -c 1 "$loadgen" cold-start --clock accepted --no-verify --warm-up 0 --quiet --virtualization none --name stub "$@"
}

long=$(awk "BEGIN { print $seconds / 30 }")
true=$(awk "BEGIN { print 1000 * ($long - $seconds / 100) }")
echo "== a stall of $long s once in $seconds s; creates otherwise take 2 ms: true P99 of what is due on schedule $true ms =="
stall="--create fixed:2ms --stall $(awk "BEGIN { print 1000 * $long }")ms/${seconds}s"
# A create leaves a sandbox behind in tools that do not kill; a fresh stub for each.
serve $stall
echo "-- loadgen, open loop, 100/s"
create --arrivals constant:100 --duration "${seconds}s" --max-in-flight 10000 --out open || true
serve $stall
echo "-- loadgen, closed loop, 1 worker"
create --arrivals closed:1 --duration "${seconds}s" --out closed || true
if [ -n "${KEEP:-}" ]; then
    for run in open closed; do mkdir -p "$KEEP/$run" && cp "$run/report.json" "$run"/*.hgrm "$KEEP/$run/"; done
fi
serve $stall
cat > create.lua <<'LUA'
wrk.method = "POST"
wrk.path = "/v2/sandboxes"
wrk.headers["x-api-key"] = "any"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"templateID":"base","metadata":{"loadgen-run":"wrk"}}'
LUA
echo "-- wrk, closed loop, 1 connection"
taskset -c 1 wrk -t1 -c1 -d"${seconds}s" --timeout 30s --latency -s create.lua "$E2B_API_URL"
for correction in "" --latency-correction; do
    command -v oha >/dev/null || { echo "-- oha: not there"; break; }
    serve $stall
    echo "-- oha, 1 connection, 100/s $correction"
    taskset -c 1 oha --no-tui -z "${seconds}s" -q 100 -c 1 $correction -m POST -H 'x-api-key: any' -H 'content-type: application/json' \
        -d '{"templateID":"base","metadata":{"loadgen-run":"oha"}}' "$E2B_API_URL/v2/sandboxes"
done

echo "== creates a second, each with its kill: loadgen and the stub have a processor each =="
for arrivals in constant:5000 constant:10000 closed:32; do
    serve
    create --arrivals "$arrivals" --duration 10s --max-in-flight 4096 --out "rate-$arrivals" || echo "-- not all of them"
done
