"""Many runs: ablations, comparisons, campaigns."""
