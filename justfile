# Every recipe is short; what is longer is a script or a command of the binary.

# Lists the recipes.
default:
    @just --list

# Fetches the crates and installs the tools of the gates.
setup:
    cargo fetch --locked
    scripts/tools

# Serves on loopback, with simulated gateways and printed keys.
run *args:
    cargo run -- dev {{args}}

# Everything that must hold before a change lands.
check:
    scripts/test

# The tests, or those whose name contains the filter.
test *filter:
    INSTA_UPDATE=no cargo test --locked --workspace {{filter}}

# Takes what the tests found as the new snapshots; look at the diff before you commit it.
snap *filter:
    INSTA_UPDATE=always cargo test --locked --workspace {{filter}}
    git diff --stat -- '*.snap'

# Formats and lints our protos.
proto: setup
    target/tools/buf/bin/buf format --write proto
    target/tools/buf/bin/buf lint proto

# The documentation of the code.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked --workspace --open

# Measures what the design promises.
bench *args:
    cargo bench --bench reach -- {{args}}
