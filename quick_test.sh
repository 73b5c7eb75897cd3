#!/usr/bin/env bash
# Does this checkout work here? Four stages in about a minute: the commands answer, the backends are checked, the data
# is diagnosed, and a tiny model is trained, resumed and verified.
#
#   ./quick_test.sh               on data/HLBD_Hardcore_Full.json; all of data/ is diagnosed
#   ./quick_test.sh my_data.json  on this HLBD file alone; a bare name is also looked for in data/
#   QUICK_TEST_DATA=my_data.json ./quick_test.sh    the same
#
# It asks only for what is installed; the last line names the backends that were left out because they are not.
# Exit code: 0 when all four pass, 1 when one fails, 2 when nothing could be tested. A failing stage shows the command
# that failed and its last lines; the stages after it still run. Everything is written to a temporary directory that
# is deleted at the end. PYTHON names the interpreter where there is no .venv. quick_test.bat is its twin for Windows.

set -u

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd) || exit 2

case "${1-}" in
    -h | --help)
        sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    -*)
        echo "quick_test: $1: no such option; give nothing, or one HLBD file (see --help)" >&2
        exit 2
        ;;
esac
if [ $# -gt 1 ]; then
    echo "quick_test: $# arguments, but it takes one HLBD file at most (see --help)" >&2
    exit 2
fi

python=${PYTHON:-python3}
for own in "$root/.venv/bin/python" "$root/.venv/Scripts/python.exe"; do # the second: Git Bash on Windows
    if [ -x "$own" ]; then python=$own; fi
done
if ! command -v "$python" > /dev/null; then
    echo "quick_test: there is no $python; run 'make setup', or name an interpreter with PYTHON=..." >&2
    exit 2
fi

data=${1:-${QUICK_TEST_DATA:-}}
if [ -n "$data" ] && [ ! -f "$data" ] && [ -f "$root/data/$data" ]; then
    data=$root/data/$data
fi
if [ -n "$data" ] && [ ! -f "$data" ]; then
    echo "quick_test: $data: no such data file; give an HLBD .json file" >&2
    exit 2
fi
case "$data" in
    "" | /*) ;;
    *) data=$PWD/$data ;; # from here on we are elsewhere
esac

work=$(mktemp -d "${TMPDIR:-/tmp}/quick_test.XXXXXX") || exit 2
trap 'cd / && rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd -- "$work" || exit 2
log=$work/output
export PYTHONUTF8=1 TMPDIR="$work" # PyTorch leaves a directory among the temporary files

# -- running a stage --------------------------------------------------------------------------------------------------

failing=""

# check COMMAND...: run it; keep its output in $log, and its name in $failing if it fails.
check() {
    "$@" > "$log" 2>&1 < /dev/null && return 0
    failing="exit code $?: $*"
    return 1
}

failed_stages=""
number=0

# stage NAME FUNCTION: one line that ends in PASS or FAIL, and what is to be known about it below.
stage() {
    local name=$1 function=$2 started=$SECONDS
    number=$((number + 1))
    : > "$log"
    shown=""
    printf '[%d/4] %s ... ' "$number" "$name"
    if "$function"; then
        printf 'PASS (%d s)\n' $((SECONDS - started))
        if [ -n "$shown" ]; then printf '%s\n' "$shown" | sed 's/^/      /'; fi
        return
    fi
    printf 'FAIL (%d s)\n' $((SECONDS - started))
    printf '      %s\n' "$failing"
    tail -n 20 "$log" | sed 's/^/      | /'
    failed_stages="$failed_stages${failed_stages:+, }$name"
}

# -- the four stages --------------------------------------------------------------------------------------------------

commands_answer() {
    local script
    for script in train.py training/train.py training/train_hlbd_playground.py; do
        check "$python" "$root/$script" --help || return 1
        check "$python" "$root/$script" --dry-run || return 1
    done
    check "$python" "$root/train.py" --list-backends || return 1
    for script in "$root"/tools/*.py; do
        grep -q '^if __name__ == "__main__":' "$script" || continue # no command
        check "$python" "$script" --help || return 1
    done
}

left_out=""

backends_checked() {
    check "$python" -c 'import torch; print("torch", torch.__version__)' || return 1
    shown=$(cat "$log")
    check "$python" "$root/train.py" --list-backends || return 1
    shown="$shown
$(cat "$log")"
    if ! grep -Eq '^playground +available' "$log"; then
        failing="train.py --list-backends: playground is not available"
        return 1
    fi
    left_out=$(sed -n 's/^\([a-z_]*\)  *not available .*/ \1/p' "$log" | tr -d '\n')
}

data_diagnosed() {
    mkdir -p "$work/no_runs" # the user's own runs are not what is tested
    set -- "$python" "$root/tools/diagnose_issues.py" "$work/no_runs"
    if [ -n "$data" ]; then set -- "$@" --datasets "$data"; fi
    if ! check "$@"; then
        # The errors may stand far above the last lines. Without one in the output, it is the command that failed.
        grep -q '^  error ' "$log" && grep -A 3 '^  error ' "$log" > "$work/errors" && mv "$work/errors" "$log"
        return 1
    fi
    shown=$(tail -n 1 "$log")
}

# train RUN_DIR FLAGS...: a model of 70,000 parameters on one thread, so that the same sums come out to the last bit.
train() {
    check "$python" "$root/train.py" --backend playground --datasets "$learned" --run-dir "$@" \
        --d-model 64 --num-layers 1 --num-heads 4 --d-ff 128 --dropout 0.1 --batch-size 16 \
        --device cpu --num-threads 1 --answer-samples 0
}

trained_resumed_verified() {
    local learned=${data:-$root/data/HLBD_Hardcore_Full.json}
    train "$work/whole" --max-steps 24 || return 1
    train "$work/parted" --max-steps 9 || return 1
    train "$work/parted" --max-steps 24 --resume || return 1
    if ! grep -q '^resumed from .* at step 9 of 24' "$log"; then
        failing="train.py --resume: it did not go on at step 9"
        return 1
    fi
    check env PYTHONPATH="$root" "$python" -m tools.diagnosis.same_weights \
        "$work/parted/final_model.pt" "$work/whole/final_model.pt" || return 1
    shown="resumed at step 9 of 24: $(cat "$log")"
    check "$python" "$root/tools/verify_hlbd_model.py" --model "$work/parted" --dataset "$learned" --sample 20 \
        --device cpu || return 1
}

stage "commands answer" commands_answer
stage "backends check" backends_checked
stage "HLBD data diagnosed" data_diagnosed
stage "tiny train-resume-verify run" trained_resumed_verified

if [ -n "$failed_stages" ]; then
    echo "quick_test: FAILED: $failed_stages"
    exit 1
fi
echo "quick_test: all 4 stages passed in $SECONDS s${left_out:+; left out, not installed:$left_out}"
