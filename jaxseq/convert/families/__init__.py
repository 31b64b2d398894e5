"""Tables of mixers against other libraries' modules, one file per family."""
