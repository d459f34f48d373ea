"""A guest kernel that has netem, where the machine's own has not: User Mode Linux, a plain process."""
