"""An emulated plant: network namespaces, real programs and packets, faults and attacks, and the
truth of them."""
