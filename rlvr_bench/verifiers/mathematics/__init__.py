"""What mathematical answers say, and whether two of them say the same: read by a grammar, compared by kind. No sympy here."""
