"""The page of a study, from ledger and rows alone."""
