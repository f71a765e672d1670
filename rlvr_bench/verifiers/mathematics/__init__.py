"""Reads mathematical answers with a grammar, and decides by kind whether two of them are equal. It does not use sympy."""
