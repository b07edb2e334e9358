"""Operations on many runs: those that a filter finds, and those of due times that have passed."""
