"""The methods: what trains, its loss, its invariant, what is saved. They do not know one another."""
