"""Other formats and libraries: a module for each, which imports its library only when it is used."""
