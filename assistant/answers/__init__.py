"""Short answers to typed questions, from the tables, with what bears them."""
