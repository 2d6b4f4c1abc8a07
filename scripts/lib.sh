# Functions that the scripts share. They begin with `source scripts/lib.sh`, in the root of the repository.

# skip WHAT: reports a check that cannot run here. With `REQUIRE_TOOLS=true` the script fails; it exits here, since a
# failure would be ignored in a condition.
skip() {
    echo "SKIPPED: $1"
    [ "${REQUIRE_TOOLS:-}" != true ] || exit 1
}

# need WHAT: does the same for what needs only Python, Node.js, PyPI or npm: with `CI=true` that is an error, too.
need() {
    skip "$1"
    [ "${CI:-}" != true ] || exit 1
}

# has_node: whether Node.js is on PATH in a version for which the SDK for TypeScript is made.
has_node() {
    node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' 2>/dev/null
}

# digest FILE: prints a short digest, so that changed pins are installed again.
digest() {
    sha256sum "$1" | cut -c1-12
}

# once NAME COMMAND...: runs the command with a new folder of that name in `$tools`, unless an earlier run has completed.
# A link without the version, the part after the last `-`, leads to it.
once() {
    local folder=$tools/$1
    shift
    [ -e "$folder/complete" ] && return
    rm -rf "$folder"
    mkdir "$folder"
    "$@" "$folder" >&2
    touch "$folder/complete"
    ln -sfn "$(basename "$folder")" "${folder%-*}"
}

# python_with PACKAGE... FOLDER: makes an environment of Python with these packages; `-r FILE` names those of a file.
python_with() {
    local folder=${*: -1}
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${@:1:$#-1}"
}
