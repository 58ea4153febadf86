"""First floor: Modules on top of :mod:`pyg_gunet.functional`."""
