#!/bin/sh
# Compares the whole process with `cp` of the same file:
#
#     cargo build --release && benches/against_cp.sh MODEL.onnx ...
#
# Prints a Markdown table: medians of RUNS runs (7 by default) taken in turns, and the largest peak of resident memory.
# SECATEUR names another binary. Needs GNU time.
set -eu

runs=${RUNS:-7}
binary=${SECATEUR:-$(dirname "$0")/../target/release/secateur}
folder=$(mktemp -d "${TMPDIR:-/tmp}/against-cp.XXXXXX")
trap 'rm -rf "$folder"' EXIT

median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
now() { date +%s%N; }

echo "| model | MB | cp, ms | prune, ms | prune / cp | beyond 2 cp, ms | peak memory / file |"
echo "|---|---:|---:|---:|---:|---:|---:|"
for model in "$@"; do
    rm -f "$folder"/*
    bytes=$(wc -c < "$model")
    cat "$model" > /dev/null
    for _ in $(seq "$runs"); do
        start=$(now)
        cp "$model" "$folder/copy.onnx"
        echo $(($(now) - start)) >> "$folder/cp"
        start=$(now)
        /usr/bin/time -f %M -a -o "$folder/memory" \
            "$binary" prune "$model" -o "$folder/pruned.onnx" --ratio 0.5 --no-verify > /dev/null
        echo $(($(now) - start)) >> "$folder/prune"
        rm "$folder/copy.onnx" "$folder/pruned.onnx"
    done
    memory=$(sort -n "$folder/memory" | tail -n 1)
    awk -v name="$(basename "$model")" -v b="$bytes" -v c="$(median "$folder/cp")" -v p="$(median "$folder/prune")" \
        -v m="$memory" 'BEGIN { printf "| %s | %.0f | %.0f | %.0f | %.1f | %.0f | %.2f |\n",
            name, b / 1e6, c / 1e6, p / 1e6, p / c, (p - 2 * c) / 1e6, m * 1024 / b }'
done
