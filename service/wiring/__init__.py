"""The composition root: one module per part, which builds that part, hands it over and does nothing else."""
