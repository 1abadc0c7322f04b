# What people do daily; CI runs `just test` in its plain form, scripts/test.

# Formats, lints and checks the arrows.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    scripts/check-arrows

# Every test, on a fresh machine too.
test:
    scripts/test

# One benchmark of bench/, for example: just bench push
bench NAME *ARGS:
    bench/{{NAME}}.sh {{ARGS}}

# One fuzz target for a minute.
fuzz NAME SECONDS="60":
    cargo +nightly fuzz run {{NAME}} -- -max_total_time={{SECONDS}}

# The demonstration of the README.
demo:
    cargo run --release -- demo

# Variants of real models beside llama.cpp, llama-cpp-python and transformers; builds and installs what that needs.
heavy *ARGS:
    scripts/heavy {{ARGS}}
