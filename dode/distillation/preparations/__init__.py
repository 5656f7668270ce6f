"""What makes the file that a solver is registered to need, one file each, of the solver's name."""
