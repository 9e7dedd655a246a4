"""Open data: volumes, positions of synapses and labels as layers."""
