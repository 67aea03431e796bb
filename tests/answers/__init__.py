"""Solutions and typical wrong answers of the exercises, one module per chapter."""
