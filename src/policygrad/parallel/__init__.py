"""The same worker, many of it: A3C on shared memory without locks, and, through Ray, on many machines."""
