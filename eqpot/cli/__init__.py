"""The command line: one thin file per verb that parses, calls one function, and prints."""
