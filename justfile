# Recipes are short. Longer steps are in a script or in a command of the binary.

# Lists the recipes.
default:
    @just --list

# Fetches the crates and installs the tools of the checks.
setup:
    cargo fetch --locked
    scripts/tools

# Serves on loopback, with simulated gateways, and prints keys.
run *args:
    cargo run -- dev {{args}}

# Runs all checks that must pass before a change is merged.
check:
    scripts/test

# Runs the tests, or those whose name contains the filter.
test *filter:
    INSTA_UPDATE=no cargo test --locked --workspace {{filter}}

# Runs the tests that a variable makes longer, or those of them whose name contains one of the filters: they repeat kills and failures, make long random runs against the models, or use large gateways.
soak *filters="approved_writes approvals::model governance::tests::model lost_or_changed_by_kill_9 crowded_gateway":
    SOAK=1 INSTA_UPDATE=no cargo test --locked --lib --test it -- {{filters}}

# Updates the snapshots from the results of the tests. Review the diff before you commit it.
snap *filter:
    INSTA_UPDATE=always cargo test --locked --workspace {{filter}}
    git diff --stat -- '*.snap'

# Formats and lints Shoreguard's own protos.
proto: setup
    target/tools/buf/bin/buf format --write proto
    target/tools/buf/bin/buf lint proto

# Remakes the generated code of the SDKs from the protos.
generate:
    scripts/generate

# Builds and opens the documentation of the code.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked --workspace --open

# Measures the targets, beside other proxies. docs/performance.md explains it.
bench *args:
    scripts/bench-tools
    cargo bench --bench reach -- {{args}}

# Records hot paths under load and draws flame graphs: all, or those that are named, such as proxied-read.
profile *paths:
    scripts/profile {{paths}}
