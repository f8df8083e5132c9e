#!/bin/sh
# The load generator beside wrk and oha, against one stub: what each makes of a server that stands still for 2 s in 60, and how many
# creates a second the load generator drives when it and the stub have a processor each.
#
#   loadgen/beside.sh [SECONDS]     needs target/release/loadgen (or LOADGEN) and wrk; oha where there is one
set -eu
seconds=${1:-60}
root=$(cd "$(dirname "$0")/.." && pwd)
loadgen=${LOADGEN:-$root/target/release/loadgen}
work=$(mktemp -d)
stub=
finish() { [ -z "$stub" ] || kill "$stub" 2>/dev/null || true; rm -rf "$work"; }
trap finish EXIT INT TERM

serve() {
    [ -z "$stub" ] || { kill "$stub"; wait "$stub" 2>/dev/null || true; }
    taskset -c 0 "$loadgen" stub "$@" > "$work/stub" &
    stub=$!
    while ! grep -q E2B_API_URL "$work/stub"; do sleep 0.1; done
    . "$work/stub"
    export E2B_API_URL E2B_SANDBOX_URL E2B_API_KEY
}

echo "== a stall of $((seconds / 30)) s once in $seconds s; creates otherwise take 2 ms =="
stall="--create fixed:2ms --stall $((seconds / 30))s/${seconds}s"
# A create leaves a sandbox behind in tools that do not kill; a fresh stub for each.
serve $stall
echo "-- loadgen, open loop, 100/s"
taskset -c 1 "$loadgen" cold-start --clock accepted --no-verify --arrivals constant:100 --duration "${seconds}s" --warm-up 0 \
    --max-in-flight 10000 --quiet --out "$work/open" || true
serve $stall
echo "-- loadgen, closed loop, 1 worker"
taskset -c 1 "$loadgen" cold-start --clock accepted --no-verify --arrivals closed:1 --duration "${seconds}s" --warm-up 0 \
    --quiet --out "$work/closed" || true
serve $stall
cat > "$work/create.lua" <<'LUA'
wrk.method = "POST"
wrk.path = "/v2/sandboxes"
wrk.headers["x-api-key"] = "any"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"templateID":"base","metadata":{"loadgen-run":"wrk"}}'
LUA
echo "-- wrk, closed loop, 1 connection"
taskset -c 1 wrk -t1 -c1 -d"${seconds}s" --timeout 30s --latency -s "$work/create.lua" "$E2B_API_URL"
for correction in "" --latency-correction; do
    command -v oha >/dev/null || { echo "-- oha: not there"; break; }
    serve $stall
    echo "-- oha, 1 connection, 100/s $correction"
    taskset -c 1 oha --no-tui -z "${seconds}s" -q 100 -c 1 $correction -m POST -H 'x-api-key: any' -H 'content-type: application/json' \
        -d '{"templateID":"base","metadata":{"loadgen-run":"oha"}}' "$E2B_API_URL/v2/sandboxes"
done

echo "== creates a second: loadgen and the stub have a processor each =="
serve
taskset -c 1 "$loadgen" cold-start --clock accepted --no-verify --arrivals closed:32 --duration 10s --quiet --out "$work/rate"
