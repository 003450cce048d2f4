#!/bin/sh
# What a machine with a GPU is for. Everything that is printed also goes to results/.
#   ./run info                  the device, and what is embedded
#   ./run check [FILTER ...]    the suites, the scenes, the emulator beside the device, instruction by instruction, and random cases;
#                               with FILTERs (cuda::f32) only those tests whose names contain one
#   ./run scenes                a part of check: a layer on streams, threads and devices, in a graph, with what it allocates
#   ./run bench [OPTION ...]    times, as a table, JSON and SVG; options of `bin/ssm bench`
#   ./run profile               Nsight Systems and Compute on the scan, where they are installed
#   ./run sanitize              compute-sanitizer on the scan and on random cases, where it is installed
#   ./run all                   all of it, in this order
set -u
cd "$(dirname "$0")" || exit 2
# Tests look for their files here, and fail where there is no device.
CARGO_MANIFEST_DIR=$PWD
SSM_REQUIRE=cuda
export CARGO_MANIFEST_DIR SSM_REQUIRE
mkdir -p results
failed=

# step NAME COMMAND...: runs it, keeps what it prints, and goes on if it fails.
step() {
    name=$1
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    { "$@" 2>&1; echo $? >results/.status; } | tee "results/$name.txt"
    if [ "$(cat results/.status)" != 0 ]; then
        failed="$failed $name"
        printf '== %s FAILED\n' "$name"
    fi
    rm -f results/.status
}

# needs TOOL: a tool that is not installed is a failure, too.
needs() {
    command -v "$1" >/dev/null && return
    printf '\n== %s is not installed\n' "$1"
    failed="$failed $1"
    return 1
}

info() { step info bin/ssm info; }

check() {
    if [ $# -gt 0 ]; then
        step suites bin/suites "$@"
        return
    fi
    # A program for each: what fails on a device may take the context of all that follows with it.
    for suite in $(bin/suites --list | sed -n 's/::cuda::.*//p' | sort -u); do
        step "$suite" bin/suites "$suite::cuda::"
    done
    scenes
    step opcodes bin/opcodes results/opcodes.md
    step check bin/ssm check --backend cuda
}

# What CI runs on the emulated driver: streams, threads, graphs, workspaces, buffers that are dropped early.
scenes() {
    # One by one: they count what they allocate.
    step scenes bin/emulated_driver --ignored --exact --test-threads=1 scene_layer scene_on_host scene_threads \
        scene_graph scene_dropped wide::scene_wide wide::scene_backward
}

bench() {
    for dtype in f32 bf16; do
        step "bench_$dtype" bin/ssm bench --backend cuda --no-loops --dtype $dtype \
            --json "results/bench_$dtype.json" --svg "results/bench_$dtype.svg" "$@"
    done
}

profile() {
    if needs nsys; then
        step nsys nsys profile --force-overwrite=true --trace=cuda,nvtx --output=results/ssm bin/05_profile 8 2048 2048 20
        step nsys_stats nsys stats --force-export=true --report cuda_gpu_kern_sum,nvtx_gpu_proj_sum results/ssm.nsys-rep
    fi
    if needs ncu; then
        for kernel in selective_scan_fwd selective_scan_bwd; do
            step "ncu_$kernel" ncu --force-overwrite --set full --kernel-name "regex:$kernel" --launch-skip 2 \
                --launch-count 1 --export "results/$kernel" bin/05_profile
            step "ncu_${kernel}_details" ncu --import "results/$kernel.ncu-rep" --page details
        done
    fi
}

sanitize() {
    needs compute-sanitizer || return
    for tool in memcheck racecheck initcheck synccheck; do
        step "sanitizer_$tool" compute-sanitizer --tool $tool --error-exitcode 1 bin/05_profile 2 96 300 1
        # Results are fetched with the gaps between their rows, which nobody writes.
        [ $tool = initcheck ] && continue
        step "sanitizer_${tool}_check" compute-sanitizer --tool $tool --error-exitcode 1 \
            bin/ssm check --backend cuda --cases 40 --seed 1
    done
}

task=${1-}
[ $# -gt 0 ] && shift
case "$task" in
check | bench) "$task" "$@" ;;
info | scenes | profile | sanitize)
    [ $# -eq 0 ] || { printf '%s takes no arguments: %s\n' "$task" "$*" && exit 2; }
    "$task"
    ;;
all)
    for task in info check bench profile sanitize; do
        $task
    done
    ;;
*)
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac

if [ -n "$failed" ]; then
    printf '\nfailed:%s\n' "$failed"
    exit 1
fi
printf '\nall passed\n'
