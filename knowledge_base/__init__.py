"""Knowledge base: manuals and past incidents, chunked, indexed and searched."""
