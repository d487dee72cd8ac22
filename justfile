# The recipes are the steps of `.ci/run`, which has the commands: `just --list`, `just tests`. A test compares the names.

# Everything that must hold before a change is merged.
ci:
    .ci/run

format:
    .ci/run "format"

format-of-the-fuzz-targets:
    .ci/run "format of the fuzz targets"

clippy:
    .ci/run "clippy"

clippy-io_uring:
    .ci/run "clippy, io_uring"

clippy-model-checker:
    .ci/run "clippy, model checker"

clippy-memory-models:
    .ci/run "clippy, memory models"

clippy-memory-models-without-end:
    .ci/run "clippy, memory models without end"

clippy-fuzz-targets:
    .ci/run "clippy, fuzz targets"

clippy-schedules-of-the-fuzz-targets:
    .ci/run "clippy, schedules of the fuzz targets"

clippy-features:
    .ci/run "clippy, features"

documentation:
    .ci/run "documentation"

tests:
    .ci/run "tests"

tests-of-io_uring:
    .ci/run "tests of io_uring"

tests-of-serde:
    .ci/run "tests of serde"

package:
    .ci/run "package"

manifest:
    .ci/run "manifest"

example-extent_map:
    .ci/run "example extent_map"

example-vma:
    .ci/run "example vma"

example-delalloc:
    .ci/run "example delalloc"

example-allocator:
    .ci/run "example allocator"

example-block_queue:
    .ci/run "example block_queue"

throughput:
    .ci/run "throughput"

check-of-an-image:
    .ci/run "check of an image"

replay-of-recorded-traces:
    .ci/run "replay of recorded traces"

replay-invariants-checked:
    .ci/run "replay, invariants checked"

replay-status-trees-shrinking:
    .ci/run "replay, status trees shrinking"

replay-on-a-file:
    .ci/run "replay on a file"

replay-past-the-page-cache:
    .ci/run "replay past the page cache"

replay-by-io_uring:
    .ci/run "replay by io_uring"

replay-mounted-again:
    .ci/run "replay, mounted again"

power-cuts:
    .ci/run "power cuts"

schedule-models-of-the-primitives:
    .ci/run "schedule models of the primitives"

memory-models-of-the-primitives:
    .ci/run "memory models of the primitives"

schedule-models:
    .ci/run "schedule models"

memory-models:
    .ci/run "memory models"

memory-models-without-end:
    .ci/run "memory models without end"

the-race-told:
    .ci/run "the race, told"

histories:
    .ci/run "histories"

address-sanitizer:
    .ci/run "address sanitizer"

fuzz-seeds:
    .ci/run "fuzz seeds"

fuzz-seeds-schedules:
    .ci/run "fuzz seeds, schedules"

benches-compile:
    .ci/run "benches compile"

benches-with-io_uring-compile:
    .ci/run "benches with io_uring compile"

rivals-of-the-map-are-right:
    .ci/run "rivals of the map are right"

figures-of-the-ledger:
    .ci/run "figures of the ledger"

figures-of-group-commit:
    .ci/run "figures of group commit"

figures-of-the-block-layer:
    .ci/run "figures of the block layer"

figures-of-the-allocator:
    .ci/run "figures of the allocator"

figures-beside-the-kernel:
    .ci/run "figures beside the kernel"
