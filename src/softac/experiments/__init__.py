"""Many runs: suite files, the plan of a suite, and the processes that work it off."""
