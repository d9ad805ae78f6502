"""The product on the embedded cluster, for `make up`, `make demo`, tests and benchmarks."""
