"""How the model that ships is made, from nothing."""
