"""The product on the embedded cluster: what `make up` and `make demo` do, and what tests and benchmarks stand on."""
