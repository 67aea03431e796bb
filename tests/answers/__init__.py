"""Other right answers to the exercises, one module per sheet, and how the tests run answers."""
