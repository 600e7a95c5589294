"""Experts on one base: families, routing over their adapters, a Mixtral, what each costs."""
