"""Speed, memory and accuracy, measured: each module prints a table and writes JSON to benchmarks/results."""
