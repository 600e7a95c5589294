"""Commands that make models of a site and keep them; importing a module registers its own."""
