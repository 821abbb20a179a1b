"""Many runs: clone, parameterise and execute notebooks, skip what is done, report what is not."""
