"""What people look at: pages, plots and JUnit of runs, comparisons, calibrations and benchmarks."""
