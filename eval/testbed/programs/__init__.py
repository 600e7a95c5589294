"""The programs that run on the plant's machines, and how one is run."""
