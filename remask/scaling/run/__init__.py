"""The planned runs, executed: here, in processes of this machine, or as jobs of a cluster."""
