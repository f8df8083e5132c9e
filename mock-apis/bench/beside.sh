#!/bin/sh
# mock-apis beside Prism: the same OpenAPI documents, the same requests, on loopback, in turns. Each server has one processor and wrk another.
#
#   mock-apis/bench/beside.sh [ROUNDS [SECONDS]]     5 rounds of 5 s; needs target/release/mock-apis (or MOCK_APIS), node 18 or newer and npm
#
#   GET   scenarios/openapi/flights.yaml    /flights?from=FRA&to=LIS, with a bearer token
#   POST  scenarios/openapi/payments.yaml   /approvals, with a bearer token and a JSON body that the contract checks
#
# A round: each server is started, warmed for 2 s and measured with 1 and with 16 connections; who begins changes with the round. Printed
# are medians over the rounds, and memory (RSS) at rest and after the load (the journal of mock-apis then has up to 100,000 entries; Prism
# has none). KEEP=FILE keeps the figures of each round. Prism runs as it is fastest: without its log, in one process, NODE_ENV=production.
#
# Peers go into $SANDBOXD_CACHE/peers (~/.cache/sandboxd/peers): Prism by npm, wrk from Debian's archive where it is not installed.
set -eu
rounds=${1:-5}
seconds=${2:-5}
prism_version=5.16.0
root=$(cd "$(dirname "$0")/../.." && pwd)
mock=${MOCK_APIS:-$root/target/release/mock-apis}
documents=$root/mock-apis/scenarios/openapi
peers=${SANDBOXD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sandboxd}/peers
[ -x "$mock" ] || { echo "error: $mock is not there; cargo build --release -p mock-apis makes it" >&2; exit 1; }
work=$(mktemp -d)
server=
finish() { [ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"; }
trap finish EXIT INT TERM

# Made beside its place and moved there when it is whole.
prism=$peers/prism-$prism_version
if [ ! -d "$prism" ]; then
    mkdir -p "$peers"
    partial=$(mktemp -d "$peers/partial-XXXXXX")
    (cd "$partial" && npm install --silent --no-audit --no-fund --ignore-scripts "@stoplight/prism-cli@$prism_version" >&2)
    mv "$partial" "$prism"
fi
if command -v wrk >/dev/null; then
    wrk=wrk
else
    if [ ! -d "$peers/wrk" ]; then
        partial=$(mktemp -d "$peers/partial-XXXXXX")
        (cd "$partial" && apt-get download wrk libluajit-5.1-2 libluajit2-5.1-2 >/dev/null 2>&1 &&
            for package in ./*.deb; do dpkg-deb -x "$package" .; done)
        mv "$partial" "$peers/wrk"
    fi
    library=$(dirname "$(find "$peers/wrk" -name 'libluajit-5.1.so.2' | head -1)")
    wrk="env LD_LIBRARY_PATH=$library $peers/wrk/usr/bin/wrk"
fi

cat > "$work/GET.lua" <<'LUA'
wrk.headers["authorization"] = "Bearer travel-agent"
LUA
cat > "$work/POST.lua" <<'LUA'
wrk.method = "POST"
wrk.headers["authorization"] = "Bearer travel-agent"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"amount": 180}'
LUA

free_port() { node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })'; }

alive() { kill -0 "$server" 2>/dev/null || { echo "error: the server ended" >&2; exit 1; }; }

# start NAME DOCUMENT: sets server and url.
start() {
    case $1 in
    mock-apis)
        printf 'version: 1\nname: bench\nservices:\n  - {name: api, openapi: "%s", credentials: [{token: travel-agent}]}\n' "$documents/$2" > "$work/s.yaml"
        rm -f "$work/said"
        taskset -c 0 "$mock" serve "$work/s.yaml" --listen 127.0.0.1:0 --admin 127.0.0.1:0 > "$work/said" &
        server=$!
        while ! grep -qs '^api ' "$work/said"; do alive; sleep 0.1; done
        url=$(sed -n 's/^api //p' "$work/said") ;;
    prism)
        port=$(free_port)
        NODE_ENV=production taskset -c 0 node "$prism/node_modules/@stoplight/prism-cli/dist/index.js" mock -m false -v silent -h 127.0.0.1 -p "$port" \
            "$documents/$2" > /dev/null &
        server=$!
        url=http://127.0.0.1:$port
        while ! curl -s -o /dev/null "$url/"; do alive; sleep 0.1; done ;;
    esac
}

stop() { kill "$server"; wait "$server" 2>/dev/null || true; server=; }

kib() { awk '/^VmRSS/ { print $2 }' "/proc/$server/status"; }

note() { echo "$*" >> "$work/figures"; }

# load METHOD PATH CONNECTIONS SECONDS: prints requests/s, P50 and P99 in microseconds. A reply that is no success ends the run.
load() {
    taskset -c 1 $wrk -t1 -c"$3" -d"$4s" --latency -s "$work/$1.lua" "$url$2" > "$work/wrk"
    if grep -q 'Non-2xx\|Socket errors' "$work/wrk"; then cat "$work/wrk" >&2; return 1; fi
    awk 'function us(t) { return t ~ /us$/ ? t + 0 : t ~ /ms$/ ? t * 1000 : t * 1000000 }
        $1 == "50%" { p50 = us($2) } $1 == "99%" { p99 = us($2) } /^Requests\/sec/ { print $2, p50, p99 }' "$work/wrk"
}

# turn SERVER METHOD DOCUMENT PATH
turn() {
    start "$1" "$3"
    sleep 1
    note "$1 $2 rest $(kib)"
    load "$2" "$4" 16 2 > /dev/null
    for connections in 1 16; do
        figures=$(load "$2" "$4" "$connections" "$seconds")
        note "$1 $2 c$connections $figures"
    done
    note "$1 $2 after $(kib)"
    stop
}

round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    if [ $((round % 2)) = 1 ]; then order="mock-apis prism"; else order="prism mock-apis"; fi
    for name in $order; do turn "$name" GET flights.yaml '/flights?from=FRA&to=LIS'; done
    for name in $order; do turn "$name" POST payments.yaml /approvals; done
    echo "round $round of $rounds, load $(cut -d' ' -f1-3 /proc/loadavg)" >&2
done
[ -z "${KEEP:-}" ] || cp "$work/figures" "$KEEP"

echo "$($mock --version) beside Prism $prism_version on node $(node --version), $rounds rounds of $seconds s, medians"
awk '
    function median(key,    n, i, j, t, v) {
        n = split(all[key], v, " ")
        for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j] + 0 < v[j - 1] + 0; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
        return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
    }
    { for (i = 4; i <= NF; i++) all[$1, $2, $3, i] = all[$1, $2, $3, i] " " $i }
    function row(label, method, kind, column, scale, form, better,    a, b) {
        a = median("mock-apis" SUBSEP method SUBSEP kind SUBSEP column) * scale
        b = median("prism" SUBSEP method SUBSEP kind SUBSEP column) * scale
        printf "| %s %s | " form " | " form " | %.1f |\n", method, label, a, b, better == "more" ? a / b : b / a
    }
    END {
        print "| | mock-apis | Prism | times better |\n|---|---:|---:|---:|"
        split("GET POST", methods, " ")
        for (m = 1; m <= 2; m++) {
            for (c = 1; c <= 16; c += 15) {
                where = c == 1 ? "1 connection" : "16 connections"
                row("requests/s, " where, methods[m], "c" c, 4, 1, "%.0f", "more")
                row("P50 ms, " where, methods[m], "c" c, 5, 0.001, "%.3f", "less")
                row("P99 ms, " where, methods[m], "c" c, 6, 0.001, "%.3f", "less")
            }
            row("memory at rest, MiB", methods[m], "rest", 4, 1 / 1024, "%.1f", "less")
            row("memory after, MiB", methods[m], "after", 4, 1 / 1024, "%.1f", "less")
        }
    }' "$work/figures"
