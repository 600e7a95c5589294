"""About the plant: its devices, who they are, their past, and the documents about them."""
